/** Forward-only migrations: numbered SQL files, each in one transaction, under one advisory lock. */
import postgres from 'postgres'
import { listMigrations, type Migration, pendingMigrations } from './known-migrations.ts'
import type { MainSql } from './sql.ts'

const advisoryLock = 7_263_410_001

/** Brings the schema up to date and returns what was applied. Two processes that start at once do it once. Rejects, naming
 *  it, for a migration whose file was changed after it was applied. */
export async function migrate(sql: MainSql): Promise<Migration[]> {
  if ((await pendingMigrations(sql)).length === 0 && !(await lacksChecksums(sql))) return []
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
      await connection`alter table schema_migrations add column if not exists checksum text collate "C"`
      await connection`comment on table schema_migrations is 'owner: shared/storage/migrate; retention: forever'`
    })
    for (const migration of await listMigrations()) {
      const { version, name, statements, checksum } = migration
      await transaction(async () => {
        const [seen] = await connection<{ checksum: string | null }[]>`
          select checksum from schema_migrations where version = ${version}`
        if (seen) {
          // Applied before checksums were kept: from now on the file stays as it is.
          if (seen.checksum === null)
            await connection`update schema_migrations set checksum = ${checksum} where version = ${version}`
          return
        }
        await connection.unsafe(statements)
        await connection`
          insert into schema_migrations (version, name, checksum) values (${version}, ${name}, ${checksum})`
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

async function lacksChecksums(sql: MainSql): Promise<boolean> {
  const [found] = await sql`select 1 from schema_migrations m where to_jsonb(m) ->> 'checksum' is null limit 1`
  return found !== undefined
}
