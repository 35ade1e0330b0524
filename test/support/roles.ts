/** The roles as processes of their own, on a fresh database and a Redis of their own. */
import { createHmac, randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { type Roles, type RolesOptions, startRoles } from '../../infra/dev/roles.ts'
import { testDatabase } from './database.ts'

const sharedSecret = 'test-secret'

export interface Account {
  readonly user_id: string
  readonly access_token: string
  readonly device_id: string
  readonly password: string
}

export interface TestRoles extends Roles {
  /** A new account by the shared-secret registration. */
  register(name: string, options?: { readonly admin?: boolean }): Promise<Account>
}

export async function testRoles(options: Omit<RolesOptions, 'folder'> = {}): Promise<TestRoles> {
  const folder = mkdtempSync(path.join(tmpdir(), 'ganglion-roles-'))
  const database = options.databaseUrl === undefined ? await testDatabase() : undefined
  const undo = async () => {
    await database?.drop()
    rmSync(folder, { recursive: true, force: true })
  }
  const roles = await startRoles({
    handlers: { client: 2, sync: 2 },
    ...options,
    folder,
    databaseUrl: options.databaseUrl ?? database?.url,
    config: {
      server_name: 'test.local',
      registration: { enabled: true, shared_secret: sharedSecret },
      password: { bcrypt_rounds: 4 },
      rate_limits: { enabled: false },
      log: { level: 'warn' },
      ...options.config,
    },
  }).catch(async (error: unknown) => {
    await undo()
    throw error
  })
  const { of, urls, add, table, processes, configPath, redisUrl, databaseUrl } = roles
  return {
    folder,
    configPath,
    redisUrl,
    databaseUrl,
    processes,
    of,
    urls,
    add,
    table,
    get url() {
      return roles.url
    },
    async register(name, { admin = false } = {}) {
      const url = `${roles.url}/_synapse/admin/v1/register`
      const { nonce } = (await (await fetch(url)).json()) as { nonce: string }
      const password = randomBytes(12).toString('hex')
      const mac = createHmac('sha1', sharedSecret)
        .update([nonce, name, password, admin ? 'admin' : 'notadmin'].join('\0'))
        .digest('hex')
      const body = JSON.stringify({ nonce, username: name, password, admin, mac })
      const answer = await fetch(url, { method: 'POST', body })
      if (!answer.ok) throw new Error(`registering ${name}: ${answer.status} ${await answer.text()}`)
      return { ...((await answer.json()) as Omit<Account, 'password'>), password }
    },
    async close() {
      await roles.close()
      await undo()
    },
  }
}
