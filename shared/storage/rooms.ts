/** What a reader of one room has to know of it before anything else. */
import type { RoomId, UserId } from '../matrix/ids.ts'
import type { RoomRef } from './events.ts'
import { pgText, type ReadSql } from './sql.ts'

export type Membership = 'join' | 'invite' | 'knock' | 'leave' | 'ban'

/** A room as one user stands to it. */
export interface RoomStanding extends RoomRef {
  readonly room_version: string
  /** As m.room.history_visibility has it now; null: never set. */
  readonly history_visibility: string | null
  /** null: the user never had to do with the room. */
  readonly membership: Membership | null
  /** Of the user's newest member event, in stream events. */
  readonly membership_position: number | null
  readonly forgotten: boolean | null
}

/** undefined: no such room. */
export async function roomStanding(sql: ReadSql, roomId: RoomId, user: UserId): Promise<RoomStanding | undefined> {
  const [row] = await sql<RoomStanding[]>`
    select r.room_nid, r.room_id, r.room_version, s.history_visibility, m.membership,
      m.position as membership_position, m.forgotten
    from rooms r
    left join room_summaries s using (room_nid)
    left join memberships m on m.user_id = ${user} and m.room_nid = r.room_nid
    where r.room_id = ${roomId}`
  return row
}

export async function joinedRooms(sql: ReadSql, user: UserId): Promise<RoomId[]> {
  const rows = await sql<{ room_id: RoomId }[]>`
    select r.room_id from memberships m join rooms r using (room_nid)
    where m.user_id = ${user} and m.membership = 'join'`
  return rows.map((row) => row.room_id)
}

/** The room that an event is in; undefined for unknown events, and for those in no timeline. */
export async function roomOfEvent(sql: ReadSql, eventId: string): Promise<RoomId | undefined> {
  const [row] = await sql<{ room_id: RoomId }[]>`
    select r.room_id from events e join rooms r using (room_nid)
    where e.event_id = ${pgText(eventId)} and e.position is not null`
  return row?.room_id
}

/** JSON texts of every m.room.history_visibility event that the room ever had. */
export async function historyVisibilities(sql: ReadSql, roomNid: number): Promise<string[]> {
  const rows = await sql<{ content: string }[]>`
    select content from events
    where room_nid = ${roomNid} and type = 'm.room.history_visibility' and state_key = ''`
  return rows.map((row) => row.content)
}

/** Root of the room's present state. */
export async function presentStateRoot(sql: ReadSql, roomNid: number): Promise<number | undefined> {
  const [row] = await sql<{ state_root: number }[]>`select state_root from room_heads where room_nid = ${roomNid}`
  return row?.state_root
}
