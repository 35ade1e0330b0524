/** Events as other servers are told them: one by one, or those before others. */
import type { RoomRules } from '../core/room-versions.ts'
import { parseText } from '../matrix/engine-json.ts'
import { createEventIdOf, wireFromParts } from '../matrix/event-format.ts'
import type { EventId, RoomId } from '../matrix/ids.ts'
import { isJsonObject, type JsonValue } from '../matrix/json-value.ts'
import type { ReadSql } from './sql.ts'

const text = 25
/** Events of the room that are looked at for what lies between others. */
const windowMax = 500

export interface AnsweredEvent {
  readonly event_nid: number
  readonly event_id: EventId
  readonly room_id: RoomId
  readonly room_version: string
  readonly depth: number
  readonly state_key: string | null
  /** After the event; 0 where it is not known. */
  readonly state_root: number
  readonly envelope: string
  readonly content: string
}

/** JSON of the event as it was sent. */
export function wireOf({ envelope, content }: AnsweredEvent): string {
  return wireFromParts(envelope, content)
}

const columns = (sql: ReadSql) =>
  sql`e.event_nid, e.event_id, r.room_id, r.room_version, e.depth, e.state_key, e.state_root, e.envelope, e.content`

/** undefined where it is not here, or was rejected: nobody is told of such. */
export async function answeredEvent(sql: ReadSql, event_id: EventId): Promise<AnsweredEvent | undefined> {
  const [row] = await sql<AnsweredEvent[]>`
    select ${columns(sql)} from events e join rooms r using (room_nid)
    where e.event_id = ${event_id} and e.flags & 1 = 0`
  return row
}

/** The events of the timeline up to the last of these, those included, newest first. */
export async function timelineUpTo(
  sql: ReadSql,
  room_id: RoomId,
  { events, limit }: { readonly events: readonly EventId[]; readonly limit: number },
): Promise<AnsweredEvent[]> {
  return sql<AnsweredEvent[]>`
    with room as (select room_nid from rooms where room_id = ${room_id}),
    latest as (
      select max(e.position) as position from events e, room
      where e.event_id = any(${sql.array([...events], text)}::text[]) and e.room_nid = room.room_nid
    )
    select ${columns(sql)} from latest cross join room
    join events e on e.room_nid = room.room_nid and e.position <= latest.position
    join rooms r on r.room_nid = e.room_nid
    order by e.position desc limit ${limit}`
}

/** What lies between: events before `latest` that are not before `earliest`, at most `limit` of those nearest to `latest`,
 *  oldest first. https://spec.matrix.org/v1.19/server-server-api/#post_matrixfederationv1get_missing_eventsroomid */
export async function eventsBetween(
  sql: ReadSql,
  room_id: RoomId,
  question: {
    readonly earliest: readonly EventId[]
    readonly latest: readonly EventId[]
    readonly limit: number
    readonly min_depth: number
  },
): Promise<AnsweredEvent[]> {
  const { earliest, latest, limit, min_depth } = question
  const window = await timelineUpTo(sql, room_id, { events: latest, limit: windowMax })
  const byId = new Map(window.map((event) => [event.event_id, event]))
  const given = new Set([...earliest, ...latest])
  const found = new Map<EventId, AnsweredEvent>()
  let level = latest.flatMap((id) => previousOf(byId.get(id)))
  while (level.length > 0 && found.size < limit) {
    const next: EventId[] = []
    for (const id of level) {
      const event = byId.get(id)
      if (!event || given.has(id) || found.has(id) || event.depth < min_depth || found.size >= limit) continue
      found.set(id, event)
      next.push(...previousOf(event))
    }
    level = next
  }
  return [...found.values()].sort((a, b) => a.depth - b.depth)
}

/** Surrogates of the events that it names as its auth events; where the version has the room's id name the create event, of
 *  that too, as deployed servers have it. */
export async function authEventsOf(sql: ReadSql, rules: RoomRules, event: AnsweredEvent): Promise<number[]> {
  const ids = referencesOf(event, 'auth_events')
  const create = rules.roomIdIsCreateHash ? createEventIdOf(event.room_id) : undefined
  if (create !== undefined && create !== event.event_id) ids.push(create)
  if (ids.length === 0) return []
  const rows = await sql<{ event_nid: number }[]>`
    select event_nid from events where event_id = any(${sql.array(ids, text)}::text[])`
  return rows.map((row) => row.event_nid)
}

function previousOf(event: AnsweredEvent | undefined): EventId[] {
  return event ? referencesOf(event, 'prev_events') : []
}

function referencesOf({ envelope }: AnsweredEvent, key: 'auth_events' | 'prev_events'): EventId[] {
  const parsed = parseText(envelope)
  const references: JsonValue | undefined = isJsonObject(parsed) ? parsed[key] : undefined
  if (!Array.isArray(references)) return []
  return references.map((reference) => (Array.isArray(reference) ? reference[0] : reference) as EventId)
}

/** The event next to that time, itself included: the next later one, or with `b` the next earlier one. */
export async function nearestInTime(
  sql: ReadSql,
  room_id: RoomId,
  { ts, direction }: { readonly ts: number; readonly direction: 'f' | 'b' },
): Promise<{ readonly event_id: EventId; readonly origin_server_ts: number } | undefined> {
  const forwards = direction === 'f'
  const [row] = await sql<{ event_id: EventId; origin_server_ts: number }[]>`
    select e.event_id, e.origin_server_ts from events e join rooms r using (room_nid)
    where r.room_id = ${room_id} and e.position is not null
      and ${forwards ? sql`e.origin_server_ts >= ${ts}` : sql`e.origin_server_ts <= ${ts}`}
    order by ${
      forwards
        ? sql`e.room_nid, e.origin_server_ts, e.position`
        : sql`e.room_nid desc, e.origin_server_ts desc, e.position desc`
    } limit 1`
  return row
}
