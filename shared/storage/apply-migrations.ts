/** What a process that writes does with the database at its start. */
import type { Logger } from '../logging.ts'
import { migrate } from './migrate.ts'
import type { MainSql } from './sql.ts'

/** Brings the schema up to date and sees to it that handlers may read. Where the login may not do the latter, that is told
 *  and no more: a database whose handlers have a login of their own, or which has none, needs nothing of it. */
export async function applyMigrations(sql: MainSql, log: Pick<Logger, 'info'>): Promise<void> {
  for (const { name } of await migrate(sql)) log.info({ migration: name }, 'applied a migration')
  const [granted] = await sql<{ refused: string | null }[]>`select grant_reads() as refused`
  if (granted?.refused) {
    log.info(
      { reason: granted.refused },
      'the role ganglion_reader could not be set up; handlers that run apart need it: see docs/roles.md',
    )
  }
}
