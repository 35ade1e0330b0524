/** How a handler reaches Postgres: as somebody who may not write. */
import type { Config } from '../config/schema.ts'
import type { Logger } from '../logging.ts'
import { isDatabaseAway } from '../storage/database-away.ts'
import { connectForReading, type ReadSql } from '../storage/sql.ts'

/** The role that the migrations make and grant `select` to. */
export const readerRole = 'ganglion_reader'

/** Of one handler, after which an idle connection is given back: of a hundred handlers few ask at the same time. */
const idleTimeoutS = 20

/** With `database.read_url`, its login; else that of `database.url`, which takes the reader's role on as it connects. Where
 *  the server, or a pooler in front, refuses that, the handler goes on as the writer, and says so. */
export async function connectAsReader(
  { database }: Pick<Config, 'database'>,
  applicationName: string,
  log: Pick<Logger, 'warn'>,
): Promise<ReadSql> {
  const options = {
    connections: database.handler_connections,
    prepare: database.prepare,
    applicationName,
    idleTimeoutS,
  }
  if (database.read_url !== undefined) {
    const sql = connectForReading({ ...options, url: database.read_url })
    void warnIfItMayWrite(sql, log)
    return sql
  }
  if (database.url === undefined) throw new TypeError('a handler needs database.url or database.read_url')
  const asReader = connectForReading({ ...options, url: database.url, role: readerRole })
  try {
    await asReader`select 1`
    return asReader
  } catch (error) {
    if (isDatabaseAway(error) && !isRefusedRole(error)) return asReader
    await asReader.end({ timeout: 0 })
    log.warn(
      { err: error },
      `the database does not let database.url take on the role ${readerRole}: this handler could write. Set database.read_url`,
    )
    return connectForReading({ ...options, url: database.url })
  }
}

/** PgBouncer refuses parameters of the start that it does not follow with the code of a protocol violation. */
function isRefusedRole(error: unknown): boolean {
  return error instanceof Error && 'code' in error && String(error.code) === '08P01'
}

async function warnIfItMayWrite(sql: ReadSql, log: Pick<Logger, 'warn'>): Promise<void> {
  try {
    const [row] = await sql<{ writes: boolean }[]>`select has_table_privilege('events', 'insert') as writes`
    if (row?.writes) log.warn({}, `the login of database.read_url may write: grant it ${readerRole} and no more`)
  } catch (err) {
    log.warn({ err }, 'could not ask the database what this handler may do')
  }
}
