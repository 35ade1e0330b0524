/** Forward-only migrations: numbered SQL files, each in one transaction, under one advisory lock. */
import { readdir, readFile } from 'node:fs/promises'
import postgres from 'postgres'
import type { MainSql, ReadSql } from './sql.ts'

const directory = new URL('./migrations/', import.meta.url)
const advisoryLock = 7_263_410_001

export interface Migration {
  readonly version: number
  readonly name: string
  readonly statements: string
}

export async function listMigrations(): Promise<Migration[]> {
  const names = (await readdir(directory)).filter((name) => /^\d{4}_[a-z0-9_]+\.sql$/.test(name)).sort()
  return Promise.all(
    names.map(async (name) => ({
      version: Number(name.slice(0, 4)),
      name,
      statements: await readFile(new URL(name, directory), 'utf8'),
    })),
  )
}

/** Migrations that the database has not seen, oldest first. */
export async function pendingMigrations(sql: ReadSql | MainSql): Promise<Migration[]> {
  const [table] = await sql`select to_regclass('schema_migrations') as found`
  const applied = table?.found ? await sql<{ version: number }[]>`select version from schema_migrations` : []
  const seen = new Set(applied.map((row) => row.version))
  return (await listMigrations()).filter((migration) => !seen.has(migration.version))
}

/** Brings the schema up to date and returns what was applied. Two processes that start at once do it once. */
export async function migrate(sql: MainSql): Promise<Migration[]> {
  if ((await pendingMigrations(sql)).length === 0) return []
  const applied: Migration[] = []
  // One connection of its own, so that the transactions are its own too, however long they take.
  const connection = postgres({
    ...(sql.options as unknown as postgres.Options<Record<string, postgres.PostgresType>>),
    max: 1,
    idle_timeout: 0,
    max_lifetime: null,
    onclose: () => {},
  })
  /** Under the lock, which ends with the transaction: behind a pooler, a session's lock would stay with a stranger. */
  async function transaction(run: () => Promise<void>): Promise<void> {
    try {
      await connection.unsafe('begin')
      await connection`select pg_advisory_xact_lock(${advisoryLock})`
      await run()
      await connection.unsafe('commit')
    } catch (error) {
      // The cause is what counts: without a connection there is nothing to roll back either.
      await connection.unsafe('rollback').catch(() => undefined)
      throw error
    }
  }
  try {
    await transaction(async () => {
      await connection`create table if not exists schema_migrations (
        version integer primary key, name text collate "C" not null, applied_at timestamptz not null default now())`
      await connection`comment on table schema_migrations is 'owner: shared/storage/migrate; retention: forever'`
    })
    for (const migration of await listMigrations()) {
      const { version, name, statements } = migration
      await transaction(async () => {
        const [seen] = await connection`select 1 from schema_migrations where version = ${version}`
        if (seen) return
        await connection.unsafe(statements)
        await connection`insert into schema_migrations (version, name) values (${version}, ${name})`
        applied.push(migration)
      }).catch((cause: unknown) => {
        throw new Error(`migration ${name} failed`, { cause })
      })
    }
  } finally {
    await connection.end({ timeout: 0 })
  }
  return applied
}
