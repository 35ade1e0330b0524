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

export interface MembersMoved {
  /** Came into one of the rooms at some place of the range, and may have gone again. */
  readonly met: readonly UserId[]
  /** Were in one of the rooms at some place of the range, and ceased to be. */
  readonly parted: readonly UserId[]
}

/** What JSON text of a member event's content holds where it is a join. In strings its quotes would be escaped. */
const join = '"membership":"join"'

/** Who came into, and who went out of, one of these rooms at positions in (after, upTo]. */
export async function membersMovedIn(
  sql: ReadSql,
  rooms: readonly number[],
  range: { readonly after: number; readonly upTo: number },
): Promise<MembersMoved> {
  if (rooms.length === 0) return { met: [], parted: [] }
  const rows = await sql<{ user_id: UserId; met: boolean; parted: boolean }[]>`
    select user_id, bool_or(is_in and not was_in) as met, bool_or(was_in and not is_in) as parted
    from (
      select e.state_key as user_id, position(${join} in e.content) > 0 as is_in,
        coalesce(position(${join} in b.content) > 0, false) as was_in
      from events e left join events b on b.event_nid = e.replaces_nid
      where e.room_nid = any(${sql.array([...rooms], 20)}::bigint[])
        and e.position > ${range.after} and e.position <= ${range.upTo}
        and e.type = 'm.room.member' and e.state_key is not null
    ) moves
    where is_in <> was_in group by user_id`
  return {
    met: rows.filter((row) => row.met).map((row) => row.user_id),
    parted: rows.filter((row) => row.parted).map((row) => row.user_id),
  }
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
