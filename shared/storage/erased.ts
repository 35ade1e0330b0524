/** Users who had themselves erased when their account ended. */
import { pgText, type ReadSql } from './sql.ts'

/** Which of these users are erased. */
export async function erasedUsers(sql: ReadSql, users: readonly string[]): Promise<ReadonlySet<string>> {
  if (users.length === 0) return new Set()
  const rows = await sql<{ user_id: string }[]>`
    select user_id from users where user_id = any(${sql.array(users.map(pgText), 25)}::text[]) and erased`
  return new Set(rows.map(({ user_id }) => user_id))
}

/** Versions of these rooms. */
export async function versionsOfRooms(
  sql: ReadSql,
  room_nids: readonly number[],
): Promise<ReadonlyMap<number, string>> {
  if (room_nids.length === 0) return new Map()
  const rows = await sql<{ room_nid: number; room_version: string }[]>`
    select room_nid, room_version from rooms where room_nid = any(${sql.array([...room_nids], 20)}::bigint[])`
  return new Map(rows.map(({ room_nid, room_version }) => [room_nid, room_version]))
}
