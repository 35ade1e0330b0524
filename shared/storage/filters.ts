import type { UserId } from '../matrix/ids.ts'
import { fromPgText, type ReadSql } from './sql.ts'

/** JSON text of a user's filter; undefined if there is none, or if the id is none that this server gives. */
export async function storedFilter(sql: ReadSql, user: UserId, filterId: string): Promise<string | undefined> {
  if (!/^\d{1,15}$/.test(filterId)) return undefined
  const [row] = await sql<{ filter: string }[]>`
    select filter from filters where user_id = ${user} and filter_id = ${Number(filterId)}`
  return row && fromPgText(row.filter)
}
