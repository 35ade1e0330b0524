/** Events of timelines, as readers see them. The order of a room's timeline is `position`. */
import type { EventId, RoomId } from '../matrix/ids.ts'
import type { StreamPosition } from '../streams/define.ts'
import { eventBody } from '../timeline/client-json.ts'
import type { TimelineEvent } from '../timeline/timeline-event.ts'
import { packedPage, unpackEvent } from './packed-events.ts'
import { contentBytes, pageBytesMax } from './page-bytes.ts'
import { fromPgText, pgText, type ReadSql } from './sql.ts'

type Fragment = ReturnType<typeof withinRange>

/** A room as tables and as clients name it. */
export interface RoomRef {
  readonly room_nid: number
  readonly room_id: RoomId
}

/** Positions in (after, upTo]. */
export interface TimelineRange {
  readonly after: number
  readonly upTo: number
}

/** `f`: oldest first; `b`: newest first. */
export type Direction = 'f' | 'b'

/** The columns of `events` (as `e`) that make a TimelineEvent. */
export const eventColumns = (sql: ReadSql) =>
  sql`e.event_nid, e.event_id, e.room_nid, e.position, e.type, e.state_key, e.sender, e.origin_server_ts, e.content,
    e.state_root, e.replaces_nid, e.redacts, e.redacted_by_nid, e.relates_to, e.rel_type, e.thread_root, e.push,
    e.device_id, e.txn_id, e.delay_id`

/** The same without what a page of one room's timeline need not be told, and with what is bundled with its events: one
 *  look into an index for each, and a page without children is done. Each value left out is one less to decode. */
const pageColumns = (sql: ReadSql) =>
  sql`e.event_nid, e.event_id, e.position, e.type, e.state_key, e.sender, e.origin_server_ts, e.content,
    e.state_root, e.replaces_nid, e.redacts, e.redacted_by_nid, e.relates_to, e.rel_type, e.thread_root,
    e.device_id, e.txn_id, e.delay_id, case when e.state_key is null then (select 1 from events c
      where c.relates_to = e.event_id and c.rel_type in ('m.replace', 'm.thread', 'm.reference') limit 1)
      end as has_children`

/** Compared as rows, so that the index by room and position is the only one that fits: the planner would sometimes walk
 *  the index by position alone, through the events of every room. */
const withinRange = (sql: ReadSql, { room_nid }: RoomRef, { after, upTo }: TimelineRange) =>
  sql`(e.room_nid, e.position) > (${room_nid}, ${after}) and (e.room_nid, e.position) <= (${room_nid}, ${upTo})
    and e.position is not null`
const inOrder = (sql: ReadSql, direction: Direction) =>
  direction === 'f' ? sql`order by e.room_nid, e.position` : sql`order by e.room_nid desc, e.position desc`

/** `from` and what follows: the first `limit` events that meet the condition, up to the one that makes `pageBytesMax`. */
function withinBytes(sql: ReadSql, condition: Fragment, direction: Direction, limit: number) {
  const ordered = inOrder(sql, direction)
  return sql`from (
    select e.*, sum(octet_length(e.content)) over (${ordered} rows unbounded preceding) - octet_length(e.content)
      as bytes_before
    from events e where ${condition} ${ordered} limit ${limit}
  ) e where e.bytes_before < ${pageBytesMax} ${ordered}`
}

export interface StoredEvent {
  readonly event_nid: number
  readonly event_id: EventId
  readonly room_nid?: number
  /** null: in no timeline, yet part of a state (the state that a join from afar brings along). */
  readonly position: StreamPosition | null
  readonly type: string
  readonly state_key: string | null
  readonly sender: TimelineEvent['sender']
  readonly origin_server_ts: number
  readonly content: string
  readonly state_root: number
  readonly replaces_nid: number | null
  readonly redacts: EventId | null
  readonly redacted_by_nid: number | null
  readonly relates_to: string | null
  readonly rel_type: string | null
  readonly thread_root: string | null
  readonly push?: number
  readonly device_id: string | null
  readonly txn_id: string | null
  readonly delay_id: string | null
  /** Read by pages of timelines alone. */
  readonly has_children?: 1 | null
}

/** At most `limit` events of one room with positions in (after, upTo], from the end that `direction` starts at; fewer where
 *  they make `pageBytesMax`. */
export async function timelineBetween(
  sql: ReadSql,
  room: RoomRef,
  range: TimelineRange,
  limit: number,
  direction: Direction,
): Promise<TimelineEvent[]> {
  const rows = await storedBetween(sql, room, range, limit, direction)
  return timelineEvents(sql, rows, room)
}

async function storedBetween(
  sql: ReadSql,
  room: RoomRef,
  range: TimelineRange,
  limit: number,
  direction: Direction,
): Promise<StoredEvent[]> {
  const page = packedPage(limit, direction)
  const packed = await sql.unsafe<{ event: string }[]>(page, [room.room_nid, range.after, range.upTo], {
    prepare: true,
  })
  const rows: StoredEvent[] = []
  for (const { event } of packed) {
    if (rows.length === limit) break
    const row = unpackEvent(event)
    if (!row) {
      const condition = withinRange(sql, room, range)
      return sql<StoredEvent[]>`select ${pageColumns(sql)} ${withinBytes(sql, condition, direction, limit)}`
    }
    rows.push(row)
  }
  return rows
}

/** The part of an event filter that the database can check. */
export interface TimelineConditions {
  /** `*` stands for any run of characters. */
  readonly types?: readonly string[] | undefined
  readonly not_types?: readonly string[] | undefined
  readonly senders?: readonly string[] | undefined
  readonly not_senders?: readonly string[] | undefined
  /** Children of these types. */
  readonly rel_types?: readonly string[] | undefined
  readonly not_rel_types?: readonly string[] | undefined
  /** With a child by one of these users. */
  readonly related_by_senders?: readonly string[] | undefined
  /** With a child of one of these types; with `related_by_senders`, one child must be both. */
  readonly related_by_rel_types?: readonly string[] | undefined
}

export interface ScannedEvents {
  readonly events: TimelineEvent[]
  /** What was not looked at: as much of the range as is left; undefined: nothing. */
  readonly rest: TimelineRange | undefined
}

/** As `timelineBetween`, with the events that meet the conditions; looks at no more than `scanMax` events. */
export async function timelineMeeting(
  sql: ReadSql,
  room: RoomRef,
  range: TimelineRange,
  limit: number,
  direction: Direction,
  conditions: TimelineConditions,
  scanMax: number,
): Promise<ScannedEvents> {
  const [edge] = await sql<{ position: number }[]>`
    select e.position from events e
    where ${withinRange(sql, room, range)} ${inOrder(sql, direction)} offset ${scanMax} limit 1`
  const scanned = !edge
    ? range
    : direction === 'f'
      ? { after: range.after, upTo: edge.position - 1 }
      : { after: edge.position, upTo: range.upTo }
  const rows = await sql<StoredEvent[]>`
    select ${pageColumns(sql)} ${withinBytes(
      sql,
      sql`${withinRange(sql, room, scanned)} ${meeting(sql, conditions)}`,
      direction,
      limit,
    )}`
  const events = await timelineEvents(sql, rows, room)
  const isFull = events.length === limit || contentBytes(events) >= pageBytesMax
  const last = isFull ? events.at(-1)?.position : undefined
  if (last === undefined && !edge) return { events, rest: undefined }
  const rest =
    direction === 'f'
      ? { after: last ?? scanned.upTo, upTo: range.upTo }
      : { after: range.after, upTo: last === undefined ? scanned.after : last - 1 }
  return { events, rest }
}

function meeting(sql: ReadSql, conditions: TimelineConditions) {
  const { types, not_types, senders, not_senders, rel_types, not_rel_types } = conditions
  const { related_by_senders, related_by_rel_types } = conditions
  const texts = (list: readonly string[]) => sql.array(list.map(pgText), 25)
  const patterns = (list: readonly string[]) =>
    texts(list.map((type) => type.replaceAll(/[\\%_]/g, '\\$&').replaceAll('*', '%')))
  const related = related_by_senders || related_by_rel_types
  return sql`
    ${types ? sql`and e.type like any(${patterns(types)}::text[])` : sql``}
    ${not_types?.length ? sql`and not e.type like any(${patterns(not_types)}::text[])` : sql``}
    ${senders ? sql`and e.sender = any(${texts(senders)}::text[])` : sql``}
    ${not_senders?.length ? sql`and e.sender <> all(${texts(not_senders)}::text[])` : sql``}
    ${rel_types ? sql`and e.rel_type = any(${texts(rel_types)}::text[])` : sql``}
    ${not_rel_types?.length ? sql`and (e.rel_type <> all(${texts(not_rel_types)}::text[])) is not false` : sql``}
    ${
      related
        ? sql`and exists (select from events c where c.relates_to = e.event_id and c.room_nid = e.room_nid
            and c.position is not null
            ${related_by_senders ? sql`and c.sender = any(${texts(related_by_senders)}::text[])` : sql``}
            ${related_by_rel_types ? sql`and c.rel_type = any(${texts(related_by_rel_types)}::text[])` : sql``})`
        : sql``
    }`
}

/** Events of any room by id, in no order; unknown ones, outliers, rejected and soft-failed events are left out. */
export async function eventsByIds(sql: ReadSql, ids: readonly string[]): Promise<TimelineEvent[]> {
  if (ids.length === 0) return []
  const rows = await sql<(StoredEvent & { room_id: RoomId })[]>`select ${eventColumns(sql)}, r.room_id
    from events e join rooms r using (room_nid)
    where e.event_id = any(${sql.array(ids.map(pgText), 25)}::text[]) and e.position is not null`
  return timelineEvents(sql, rows)
}

/** Events of one room by their surrogates, in no order: also those that are part of a state but in no timeline. */
export async function eventsByNids(sql: ReadSql, room: RoomRef, nids: readonly number[]): Promise<TimelineEvent[]> {
  if (nids.length === 0) return []
  const rows = await sql<StoredEvent[]>`select ${eventColumns(sql)} from events e
    where e.event_nid = any(${sql.array([...nids], 20)}::bigint[]) and e.room_nid = ${room.room_nid}`
  return timelineEvents(sql, rows, room)
}

/** Rows as events, in the order given. State events that replaced another and redacted events need one more query, for
 *  all of them together. */
export async function timelineEvents(
  sql: ReadSql,
  rows: readonly (StoredEvent & { readonly room_id?: RoomId })[],
  room?: RoomRef,
): Promise<TimelineEvent[]> {
  const others: number[] = []
  for (const row of rows) {
    if (row.replaces_nid !== null) others.push(row.replaces_nid)
    if (row.redacted_by_nid !== null) others.push(row.redacted_by_nid)
  }
  const related = others.length > 0 ? await relatedByNid(sql, others) : undefined
  return rows.map((row) => timelineEvent(row, room ?? roomIn(row), related))
}

type Related = Pick<
  StoredEvent,
  'event_nid' | 'event_id' | 'type' | 'state_key' | 'sender' | 'origin_server_ts' | 'content' | 'redacts'
>

async function relatedByNid(sql: ReadSql, nids: readonly number[]): Promise<Map<number, Related>> {
  const rows = await sql<
    Related[]
  >`select event_nid, event_id, type, state_key, sender, origin_server_ts, content, redacts
    from events where event_nid = any(${sql.array([...nids], 20)}::bigint[])`
  return new Map(rows.map((row) => [row.event_nid, row]))
}

function roomIn(row: StoredEvent & { readonly room_id?: RoomId }): RoomRef {
  const { room_nid, room_id } = row
  if (room_nid === undefined || room_id === undefined)
    throw new Error(`event ${row.event_id} was read without its room`)
  return { room_nid, room_id }
}

function timelineEvent(
  row: StoredEvent,
  room: RoomRef,
  related: ReadonlyMap<number, Related> | undefined,
): TimelineEvent {
  const event = placed(row, room)
  if (row.replaces_nid !== null) {
    const replaced = related?.get(row.replaces_nid)
    if (replaced) event.replaces = { event_id: replaced.event_id, sender: replaced.sender, content: replaced.content }
  }
  if (row.redacted_by_nid !== null) {
    const redaction = related?.get(row.redacted_by_nid)
    if (redaction) event.redacted_because = eventBody(placed({ ...row, ...redaction }, room))
  }
  return event
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] }

function placed(row: StoredEvent, room: RoomRef): Mutable<TimelineEvent> {
  const event: Mutable<TimelineEvent> = {
    position: row.position ?? (0 as StreamPosition),
    event_nid: row.event_nid,
    event_id: row.event_id,
    room_nid: room.room_nid,
    room_id: room.room_id,
    type: fromPgText(row.type),
    sender: row.sender,
    origin_server_ts: row.origin_server_ts,
    content: row.content,
    state_root: row.state_root,
    push: row.push ?? 0,
  }
  if (row.state_key !== null) event.state_key = fromPgText(row.state_key)
  if (row.redacts !== null) event.redacts = row.redacts
  if (row.relates_to !== null) event.relates_to = row.relates_to
  if (row.rel_type !== null) event.rel_type = fromPgText(row.rel_type)
  if (row.thread_root !== null) event.thread_root = row.thread_root
  if (row.device_id !== null) event.device_id = row.device_id
  if (row.txn_id !== null) event.txn_id = fromPgText(row.txn_id)
  if (row.delay_id !== null) event.delay_id = row.delay_id
  if (row.has_children !== undefined) event.has_children = row.has_children === 1
  return event
}

/** A place in a room's events as they are ordered by their senders' clocks. */
export interface PlaceInTime {
  readonly origin_server_ts: number
  readonly position: number
}

/** At most `limit` events from that place on, without it, by time and then position: later ones, or with `b` earlier ones;
 *  of positions up to `upTo`. */
export async function eventsByTime(
  sql: ReadSql,
  room: RoomRef,
  from: PlaceInTime,
  page: { readonly direction: Direction; readonly upTo: number; readonly limit: number },
): Promise<TimelineEvent[]> {
  const place = sql`(${room.room_nid}::bigint, ${from.origin_server_ts}::bigint, ${from.position}::bigint)`
  const forwards = page.direction === 'f'
  const rows = await sql<StoredEvent[]>`
    select ${eventColumns(sql)} from events e
    where (e.room_nid, e.origin_server_ts, e.position) ${forwards ? sql`>` : sql`<`} ${place}
      and e.room_nid = ${room.room_nid} and e.position is not null and e.position <= ${page.upTo}
    order by ${
      forwards
        ? sql`e.room_nid, e.origin_server_ts, e.position`
        : sql`e.room_nid desc, e.origin_server_ts desc, e.position desc`
    } limit ${page.limit}`
  return timelineEvents(sql, rows, room)
}
