/** Reads of the index of messages. https://spec.matrix.org/v1.19/client-server-api/#server-side-search */
import type { SearchTerm } from '../core/words.ts'
import type { RoomId, UserId } from '../matrix/ids.ts'
import type { TimelineEvent } from '../timeline/timeline-event.ts'
import { eventColumns, type StoredEvent, timelineEvents } from './events.ts'
import { pgText, type ReadSql } from './sql.ts'

/** What of an event is searched: a kind is the number that the table has for it. */
export type SearchKind = 1 | 2 | 3

export const searchedKeys = { 1: 'body', 2: 'name', 3: 'topic' } as const satisfies Record<SearchKind, string>
const types: Readonly<Record<string, SearchKind>> = { 'm.room.message': 1, 'm.room.name': 2, 'm.room.topic': 3 }

/** Undefined: events of the type are not searched. */
export function kindOfType(type: string): SearchKind | undefined {
  return Object.hasOwn(types, type) ? types[type] : undefined
}

/** The word that stands for the room; no text holds such a one. */
export function roomTerm(room_nid: number): string {
  return `#${room_nid}`
}

/** A room that is searched, up to a position. */
export interface SearchedRoom {
  readonly room_nid: number
  readonly room_id: RoomId
  readonly upTo: number
}

/** Rooms that the user is in, and those that they left and did not forget, each as far as they may have seen it: what was
 *  hidden from them there is for the reader of the room to say. */
export async function searchedRooms(sql: ReadSql, user: UserId, max: number): Promise<SearchedRoom[]> {
  return sql<SearchedRoom[]>`
    select r.room_nid, r.room_id,
      case when m.membership = 'join' then ${Number.MAX_SAFE_INTEGER}::bigint else m.position end as "upTo"
    from memberships m join rooms r using (room_nid)
    where m.user_id = ${user} and (m.membership = 'join' or (m.membership in ('leave', 'ban') and not m.forgotten))
    order by m.membership = 'join' desc, m.position desc limit ${max}`
}

/** The rooms that these replaced, and those that they replaced, to `depth` upgrades back. */
export async function replacedRooms(sql: ReadSql, room_ids: readonly string[], depth: number): Promise<string[]> {
  const rows = await sql<{ room_id: string }[]>`
    with recursive chain (room_id, depth) as (
      select id collate "C", 0 from unnest(${sql.array(room_ids.map(pgText), 25)}::text[]) as id
      union
      select (e.content::json -> 'predecessor' ->> 'room_id') collate "C", chain.depth + 1
      from chain join rooms r on r.room_id = chain.room_id
      join current_state c on c.room_nid = r.room_nid and c.type = 'm.room.create' and c.state_key = ''
      join events e on e.event_nid = c.event_nid
      where chain.depth < ${depth} and json_typeof(e.content::json -> 'predecessor') = 'object'
    )
    select distinct room_id from chain where room_id is not null`
  return rows.map((row) => row.room_id)
}

export interface SearchQuestion {
  readonly rooms: readonly SearchedRoom[]
  readonly terms: readonly SearchTerm[]
  readonly kinds: readonly SearchKind[]
  readonly senders?: readonly string[] | undefined
  readonly not_senders?: readonly string[] | undefined
  /** Positions up to this one. */
  readonly upTo: number
}

export interface FoundEvent {
  readonly event_nid: number
  readonly room_nid: number
  readonly position: number
  readonly rank: number
}

/** The newest matches, newest first. */
export async function newestMatches(sql: ReadSql, question: SearchQuestion, limit: number): Promise<FoundEvent[]> {
  return sql<FoundEvent[]>`
    select s.event_nid, s.room_nid, s.position, ts_rank(s.words, ${wordQuery(question.terms)}::tsquery)::float8 as rank
    ${matching(sql, question)} order by s.position desc limit ${limit}`
}

/** The best of the newest `among` matches, best first. */
export async function bestMatches(
  sql: ReadSql,
  question: SearchQuestion,
  page: { readonly among: number; readonly offset: number; readonly limit: number },
): Promise<FoundEvent[]> {
  return sql<FoundEvent[]>`
    select * from (
      select s.event_nid, s.room_nid, s.position, ts_rank(s.words, ${wordQuery(question.terms)}::tsquery)::float8 as rank
      ${matching(sql, question)} order by s.position desc limit ${page.among}
    ) newest order by rank desc, position desc offset ${page.offset} limit ${page.limit}`
}

/** How many matches there are, counted no further than `max`. */
export async function countMatches(sql: ReadSql, question: SearchQuestion, max: number): Promise<number> {
  const [row] = await sql<{ count: number }[]>`
    select count(*)::integer as count from (select 1 ${matching(sql, question)} limit ${max}) found`
  return row?.count ?? 0
}

/** With more rooms than this, words are looked up first and rooms after that. */
const roomTermsMax = 200

function matching(sql: ReadSql, question: SearchQuestion) {
  const { rooms, terms, kinds, senders, not_senders, upTo } = question
  const inRooms =
    rooms.length <= roomTermsMax ? `(${rooms.map((room) => `'${roomTerm(room.room_nid)}'`).join('|')})&` : ''
  const texts = (list: readonly string[]) => sql.array(list.map(pgText), 25)
  return sql`
    from event_search s
    join unnest(${sql.array(
      rooms.map((room) => room.room_nid),
      20,
    )}::bigint[], ${sql.array(
      rooms.map((room) => room.upTo),
      20,
    )}::bigint[]) as r(room_nid, up_to) on r.room_nid = s.room_nid and s.position <= r.up_to
    join events e on e.event_nid = s.event_nid
    where s.words @@ ${`${inRooms}${wordQuery(terms)}`}::tsquery and s.position <= ${upTo}
      and s.kind = any(${`{${kinds}}`}::smallint[]) and e.redacted_by_nid is null
      ${senders ? sql`and s.sender = any(${texts(senders)}::text[])` : sql``}
      ${not_senders?.length ? sql`and s.sender <> all(${texts(not_senders)}::text[])` : sql``}`
}

/** Terms are letters, digits and underscores: nothing in them needs to be escaped. */
function wordQuery(terms: readonly SearchTerm[]): string {
  return `(${terms.map(({ text, prefix }) => `'${text}'${prefix ? ':*' : ''}`).join('&')})`
}

/** The events found, of any rooms, in no order; those redacted meanwhile are left out. */
export async function foundEvents(sql: ReadSql, event_nids: readonly number[]): Promise<TimelineEvent[]> {
  if (event_nids.length === 0) return []
  const rows = await sql<(StoredEvent & { room_id: RoomId })[]>`
    select ${eventColumns(sql)}, r.room_id from events e join rooms r using (room_nid)
    where e.event_nid = any(${sql.array([...event_nids], 20)}::bigint[]) and e.redacted_by_nid is null`
  return timelineEvents(sql, rows)
}
