/** A room's present state, read with its events in one query. */

import type { TimelineEvent } from '../timeline/timeline-event.ts'
import { eventColumns, type RoomRef, type StoredEvent, timelineEvents } from './events.ts'
import { pgText, type ReadSql } from './sql.ts'

/** Rows of one page when a room's state is read in pages. */
const pageRows = 1000

/** The event that holds this key now; undefined: none. */
export async function currentStateEvent(
  sql: ReadSql,
  room: RoomRef,
  type: string,
  stateKey: string,
): Promise<TimelineEvent | undefined> {
  const rows = await sql<StoredEvent[]>`
    select ${eventColumns(sql)} from current_state c join events e using (event_nid)
    where c.room_nid = ${room.room_nid} and c.type = ${pgText(type)} and c.state_key = ${pgText(stateKey)}`
  const [event] = await timelineEvents(sql, rows, room)
  return event
}

/** Member events of these users that hold now. */
export async function currentMembers(sql: ReadSql, room: RoomRef, users: readonly string[]): Promise<TimelineEvent[]> {
  const rows = await sql<StoredEvent[]>`
    select ${eventColumns(sql)} from current_state c join events e using (event_nid)
    where c.room_nid = ${room.room_nid} and c.type = 'm.room.member'
      and c.state_key = any(${sql.array(users.map(pgText), 25)}::text[])`
  return timelineEvents(sql, rows, room)
}

/** The whole state, or its member events, ordered by type and key, in pages: a large room is never in memory at once,
 *  and no connection is held while a slow client reads. */
export async function* currentState(
  sql: ReadSql,
  room: RoomRef,
  only?: 'm.room.member',
): AsyncGenerator<TimelineEvent[]> {
  let type = only ?? ''
  let stateKey = ''
  let first = true
  while (true) {
    const after = first
      ? only === undefined
        ? sql``
        : sql`and c.type = ${only}`
      : only === undefined
        ? sql`and (c.type, c.state_key) > (${type}, ${stateKey})`
        : sql`and c.type = ${only} and c.state_key > ${stateKey}`
    const rows = await sql<StoredEvent[]>`
      select ${eventColumns(sql)} from current_state c join events e using (event_nid)
      where c.room_nid = ${room.room_nid} ${after}
      order by c.room_nid, c.type, c.state_key limit ${pageRows}`
    const last = rows.at(-1)
    if (!last) return
    yield await timelineEvents(sql, rows, room)
    if (rows.length < pageRows) return
    type = last.type
    stateKey = last.state_key ?? ''
    first = false
  }
}

/** All state but the member events; of those, only these users'. */
export async function currentStateWithMembers(
  sql: ReadSql,
  room: RoomRef,
  users: readonly string[],
): Promise<TimelineEvent[]> {
  const rows = await sql<StoredEvent[]>`
    select ${eventColumns(sql)} from (
      select event_nid from current_state where room_nid = ${room.room_nid} and type < 'm.room.member'
      union all
      select event_nid from current_state where room_nid = ${room.room_nid} and type > 'm.room.member'
      union all
      select event_nid from current_state where room_nid = ${room.room_nid} and type = 'm.room.member'
        and state_key = any(${sql.array(users.map(pgText), 25)}::text[])
    ) c join events e using (event_nid)`
  return timelineEvents(sql, rows, room)
}
