import type { RoomId, UserId } from '../matrix/ids.ts'
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

/** Memberships of this server's users in a room; undefined if there is no such room. */
export async function localMemberships(
  sql: ReadSql,
  room_id: RoomId,
): Promise<{ room_nid: number; memberships: Map<UserId, { membership: string; position: number }> } | undefined> {
  const [room] = await sql<{ room_nid: number }[]>`select room_nid from rooms where room_id = ${room_id}`
  if (!room) return undefined
  const rows = await sql<{ user_id: UserId; membership: string; position: number }[]>`
    select user_id, membership, position from memberships where room_nid = ${room.room_nid} and local`
  return { room_nid: room.room_nid, memberships: new Map(rows.map((row) => [row.user_id, row])) }
}

/** Rooms that the user left and does not want to hear of again. */
export async function forgottenRooms(sql: ReadSql, user: UserId): Promise<Set<number>> {
  const rows = await sql<{ room_nid: number }[]>`
    select room_nid from memberships where user_id = ${user} and forgotten`
  return new Set(rows.map((row) => row.room_nid))
}
