/** The monolith's database: the operator's, or one in an embedded PostgreSQL in the data folder. */
import { mkdirSync } from 'node:fs'
import path from 'node:path'
import type { Config } from '../../shared/config/schema.ts'
import { connectForWriting } from '../../shared/storage/sql.ts'
import type { EmbeddedPostgres } from './embedded-postgres.ts'

const database = 'ganglion'

export interface Database {
  readonly url: string
  /** Settles when an embedded server ended by itself. */
  readonly ended: Promise<string> | undefined
  stop(): Promise<void>
}

export async function openDatabase(config: Config): Promise<Database> {
  if (config.database.url !== undefined) return { url: config.database.url, ended: undefined, async stop() {} }
  const { startEmbeddedPostgres } = await import('./embedded-postgres.ts')
  mkdirSync(config.data_dir, { recursive: true })
  const server = await startEmbeddedPostgres({
    dir: path.join(config.data_dir, 'postgres'),
    unsafeFast: !config.database.fsync,
  })
  try {
    return { url: await ensureDatabase(server), ended: server.ended, stop: () => server.stop() }
  } catch (error) {
    await server.stop()
    throw error
  }
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
