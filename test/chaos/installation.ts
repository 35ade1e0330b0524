/** All roles over a PostgreSQL and a Redis that can be hurt. */
import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { ensureDatabase } from '../../functions/monolith/database.ts'
import { startEmbeddedPostgres } from '../../functions/monolith/embedded-postgres.ts'
import type { RolesOptions } from '../../infra/dev/roles.ts'
import { type Gate, openGate } from '../support/gate.ts'
import { type RedisServer, startRedis } from '../support/redis.ts'
import { type TestRoles, testRoles } from '../support/roles.ts'

export interface Installation {
  readonly roles: TestRoles
  readonly redis: RedisServer
  /** Between all processes and Redis. */
  readonly redisGate: Gate
  readonly postgresFolder: string
  restartPostgres(): Promise<void>
  close(): Promise<void>
}

export async function startInstallation(options: Pick<RolesOptions, 'dist' | 'output'> = {}): Promise<Installation> {
  const folder = mkdtempSync(path.join(tmpdir(), 'ganglion-chaos-'))
  // PostgreSQL runs as a user of its own when this runs as root.
  chmodSync(folder, 0o755)
  const postgresFolder = path.join(folder, 'postgres')
  let postgres = await startEmbeddedPostgres({ dir: postgresFolder })
  const redis = await startRedis()
  const redisGate = await openGate(redis.url)
  const roles = await testRoles({
    ...options,
    databaseUrl: await ensureDatabase(postgres),
    redisUrl: redisGate.url,
    mains: 2,
    handlers: { client: 2, sync: 2 },
    config: { database: { handler_connections: 2 } },
  })
  return {
    roles,
    redis,
    redisGate,
    postgresFolder,
    async restartPostgres() {
      await postgres.stop()
      await sleep(3_000)
      postgres = await startEmbeddedPostgres({ dir: postgresFolder })
    },
    async close() {
      await roles.close()
      redisGate.close()
      await redis.stop()
      await postgres.stop()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}
