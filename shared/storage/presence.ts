import type { UserId } from '../matrix/ids.ts'
import { fromPgText, type ReadSql } from './sql.ts'

/** What was last written of a user who has not been seen since the start; undefined if there is nothing. */
export async function storedPresence(
  sql: ReadSql,
  user: UserId,
): Promise<{ last_active_ts: number; status_msg?: string } | undefined> {
  const [row] = await sql<{ last_active_ts: number; status_msg: string | null }[]>`
    select last_active_ts, status_msg from presence where user_id = ${user}`
  if (!row) return undefined
  return {
    last_active_ts: row.last_active_ts,
    ...(row.status_msg === null ? {} : { status_msg: fromPgText(row.status_msg) }),
  }
}

/** Whether both users are joined to some room. */
export async function sharesRoom(sql: ReadSql, a: UserId, b: UserId): Promise<boolean> {
  const [row] = await sql`
    select 1 as found from memberships one
    join memberships other on other.room_nid = one.room_nid and other.user_id = ${b} and other.membership = 'join'
    where one.user_id = ${a} and one.membership = 'join' limit 1`
  return row !== undefined
}
