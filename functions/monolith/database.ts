/** The monolith's database: the operator's, or one in an embedded PostgreSQL in the data folder. */
import { mkdirSync } from 'node:fs'
import path from 'node:path'
import type { Config } from '../../shared/config/schema.ts'
import { connectForWriting } from '../../shared/storage/sql.ts'
import type { EmbeddedPostgres } from './embedded-postgres.ts'

const database = 'ganglion'
/** An embedded server that ends by itself is started again, unless it keeps ending. */
const restartsMax = 3
const restartsWithinMs = 60_000

export interface Database {
  readonly url: string
  /** Settles when an embedded server ended by itself and did not come back. */
  readonly ended: Promise<string> | undefined
  stop(): Promise<void>
}

/** `onRestart` hears why an embedded server was started again: its clients connect anew by themselves. */
export async function openDatabase(config: Config, onRestart: (reason: string) => void): Promise<Database> {
  if (config.database.url !== undefined) return { url: config.database.url, ended: undefined, async stop() {} }
  const { startEmbeddedPostgres } = await import('./embedded-postgres.ts')
  mkdirSync(config.data_dir, { recursive: true })
  const start = () =>
    startEmbeddedPostgres({ dir: path.join(config.data_dir, 'postgres'), unsafeFast: !config.database.fsync })
  let server = await start()
  let stopping = false

  async function attend(): Promise<string> {
    const restarts: number[] = []
    for (;;) {
      const reason = await server.ended
      const now = Date.now()
      restarts.push(now)
      while (now - (restarts[0] ?? now) > restartsWithinMs) restarts.shift()
      if (restarts.length > restartsMax) return reason
      onRestart(reason)
      try {
        server = await start()
      } catch (error) {
        return `${reason}; ${(error as Error).message}`
      }
      if (stopping) await server.stop()
    }
  }
  const stop = () => {
    stopping = true
    return server.stop()
  }
  try {
    return { url: await ensureDatabase(server), ended: attend(), stop }
  } catch (error) {
    await stop()
    throw error
  }
}

/** The URL of the embedded database that runs now, for others of its user; undefined where none does. */
export async function embeddedDatabaseUrl(config: Config): Promise<string | undefined> {
  const { runningPostgresUrl } = await import('./embedded-postgres.ts')
  return runningPostgresUrl(path.join(config.data_dir, 'postgres'), database)
}

/** Makes the database where it is missing, also after a first start that was interrupted; returns its URL. */
export async function ensureDatabase(server: EmbeddedPostgres): Promise<string> {
  const admin = connectForWriting({ url: server.url('postgres'), connections: 1, applicationName: 'ganglion-setup' })
  try {
    const [found] = await admin`select 1 from pg_database where datname = ${database}`
    if (!found) await admin.unsafe(`create database ${database}`)
  } finally {
    await admin.end()
  }
  return server.url(database)
}
