/** Members of one room. */
import type { RoomId, UserId } from '../matrix/ids.ts'
import type { TimelineEvent } from '../timeline/timeline-event.ts'
import { eventColumns, type RoomRef, type StoredEvent, timelineEvents } from './events.ts'
import { fromPgText, type ReadSql } from './sql.ts'

/** One change of a user's membership of a room. */
export interface MemberEvent {
  /** In stream events; 0: before the room's timeline here begins. */
  readonly position: number
  readonly event_nid: number
  /** The room's state after it. */
  readonly state_root: number
  /** JSON text. */
  readonly content: string
}

/** Every member event of the user in the room, oldest first. */
export async function memberEvents(sql: ReadSql, roomNid: number, user: UserId): Promise<MemberEvent[]> {
  return sql<MemberEvent[]>`
    select coalesce(e.position, 0) as position, e.event_nid, e.state_root, e.content from events e
    where e.room_nid = ${roomNid} and e.type = 'm.room.member' and e.state_key = ${user}
      and (e.position is not null or exists (select from current_state c where c.room_nid = e.room_nid
        and c.type = e.type and c.state_key = e.state_key and c.event_nid = e.event_nid))
    order by e.position nulls first`
}

export interface JoinedMember {
  readonly user_id: UserId
  readonly display_name: string | null
  readonly avatar_url: string | null
}

/** All who are joined now, in no order. */
export async function joinedMembers(sql: ReadSql, room: RoomRef): Promise<JoinedMember[]> {
  const rows = await sql<JoinedMember[]>`
    select user_id, display_name, avatar_url from memberships
    where room_nid = ${room.room_nid} and membership = 'join'`
  return rows.map((row) => ({
    user_id: row.user_id,
    display_name: row.display_name && fromPgText(row.display_name),
    avatar_url: row.avatar_url && fromPgText(row.avatar_url),
  }))
}

/** Member events of any rooms, by nid. */
export async function memberEventsByNid(
  sql: ReadSql,
  event_nids: readonly number[],
): Promise<ReadonlyMap<number, TimelineEvent>> {
  if (event_nids.length === 0) return new Map()
  const rows = await sql<(StoredEvent & { room_id: RoomId })[]>`
    select ${eventColumns(sql)}, r.room_id from events e join rooms r using (room_nid)
    where e.event_nid = any(${sql.array([...event_nids], 20)}::bigint[]) and e.type = 'm.room.member'`
  return new Map((await timelineEvents(sql, rows)).map((event) => [event.event_nid, event]))
}
