import type { UserId } from '../matrix/ids.ts'
import type { ReadSql } from './sql.ts'

/** Everyone joined to any of these rooms. */
export async function joinedMembers(sql: ReadSql, rooms: readonly number[]): Promise<UserId[]> {
  if (rooms.length === 0) return []
  const rows = await sql<{ user_id: UserId }[]>`
    select distinct user_id from memberships
    where room_nid = any(${sql.array([...rooms], 20)}::bigint[]) and membership = 'join'`
  return rows.map((row) => row.user_id)
}

/** Everyone whose member event in one of these rooms changed at positions in (after, upTo]. */
export async function membersChangedIn(
  sql: ReadSql,
  rooms: readonly number[],
  range: { readonly after: number; readonly upTo: number },
): Promise<UserId[]> {
  if (rooms.length === 0) return []
  const rows = await sql<{ state_key: UserId }[]>`
    select distinct state_key from events
    where room_nid = any(${sql.array([...rooms], 20)}::bigint[])
      and position > ${range.after} and position <= ${range.upTo} and type = 'm.room.member' and state_key is not null`
  return rows.map((row) => row.state_key)
}
