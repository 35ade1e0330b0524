/** What clients' stories play on: a server that is one process, or roles as processes of their own. */
import { testBundles } from '../support/bundles.ts'
import { testDatabase } from '../support/database.ts'
import { redisInstalled, startRedis } from '../support/redis.ts'
import { testRoles } from '../support/roles.ts'
import { serverProcess } from '../support/server-process.ts'
import type { Account } from './sdk-client.ts'

export interface Stage {
  readonly baseUrl: string
  /** A new account, whose name begins like this. */
  register(name: string): Promise<Account & { password: string }>
  /** Kills every process of the server at once, and starts them again. */
  restart(): Promise<void>
  close(): Promise<void>
}

async function oneProcess(): Promise<Stage> {
  const database = await testDatabase()
  const server = await serverProcess({ databaseUrl: database.url })
  await server.start()
  let people = 0
  return {
    baseUrl: server.baseUrl,
    register: (name) => server.register(`${name}${++people}`),
    async restart() {
      await server.kill()
      await server.start()
    },
    async close() {
      await server.close()
      await database.drop()
    },
  }
}

/** The edge, two handlers of the roles that clients of rooms and keys reach, two mains and Redis. */
async function asRoles(): Promise<Stage> {
  const redis = await startRedis()
  const roles = await testRoles({
    dist: await testBundles(),
    redisUrl: redis.url,
    mains: 2,
    handlers: { client: 2, sync: 2 },
  })
  let people = 0
  return {
    baseUrl: roles.url,
    register: (name) => roles.register(`${name}${++people}`),
    async restart() {
      await Promise.all([redis.kill(), ...roles.processes.map((one) => one.kill())])
      await redis.start()
      await Promise.all(roles.processes.map((one) => one.start()))
    },
    async close() {
      await roles.close()
      await redis.stop()
    },
  }
}

export const stages = {
  'one process': { open: oneProcess, there: true },
  roles: { open: asRoles, there: redisInstalled },
} as const
