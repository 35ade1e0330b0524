import { parseArgs } from 'node:util'
import { loadConfig } from '../../shared/config/load.ts'
import { pendingMigrations } from '../../shared/storage/known-migrations.ts'
import { migrate } from '../../shared/storage/migrate.ts'
import { connectForWriting } from '../../shared/storage/sql.ts'
import { type Command, configHelp, configOption, configPaths, UsageError } from './command.ts'

export const migrateDatabase: Command = {
  help: `Usage: ganglion migrate -c homeserver.yaml [--plan]

Applies the migrations that the database has not seen. A server does so by itself when it starts; this is for doing it
beforehand. With an embedded database, stop the server first.

${configHelp}
      --plan               change nothing: say which migrations would run, on which tables`,
  async run(args) {
    const { values } = parseArgs({ args: [...args], options: { ...configOption, plan: { type: 'boolean' } } })
    const { config } = await loadConfig({ paths: configPaths(values), env: process.env })
    const { url, prepare } = config.database
    if (url === undefined)
      throw new UsageError('database.url is not set: the embedded database is migrated at each start')
    const sql = connectForWriting({ url, connections: 2, applicationName: 'ganglion-migrate', prepare })
    try {
      if (values.plan) {
        const pending = await pendingMigrations(sql)
        for (const migration of pending) {
          process.stdout.write(`${migration.name}\n`)
          for (const line of await effects(sql, migration.statements)) process.stdout.write(`  ${line}\n`)
        }
        if (pending.length === 0) process.stdout.write('Nothing to do.\n')
        return 0
      }
      const applied = await migrate(sql)
      for (const { name } of applied) process.stdout.write(`applied ${name}\n`)
      if (applied.length === 0) process.stdout.write('Nothing to do.\n')
      return 0
    } finally {
      await sql.end()
    }
  },
}

/** Existing tables that a migration's statements name, and how large they are; new ones cost nothing. */
async function effects(sql: ReturnType<typeof connectForWriting>, statements: string): Promise<string[]> {
  const named = new Set(
    [
      ...statements.matchAll(
        /\b(?:alter table|update|delete from|create (?:unique )?index[^;]*? on)\s+(?:only\s+)?([a-z_]+)/gi,
      ),
    ].map(([, table]) => String(table)),
  )
  const lines: string[] = []
  for (const table of named) {
    const [found] = await sql<{ rows: number; size: string }[]>`
      select greatest(reltuples, 0)::bigint as rows, pg_size_pretty(pg_total_relation_size(oid)) as size
      from pg_class where oid = to_regclass(${table})`
    if (found) lines.push(`touches ${table}: about ${found.rows} rows, ${found.size}`)
  }
  return lines.length > 0 ? lines : ['only makes what is new']
}
