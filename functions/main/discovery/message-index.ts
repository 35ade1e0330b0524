/** The index that POST /search reads: words of messages, room names and topics.
 *  https://spec.matrix.org/v1.19/client-server-api/#server-side-search */
import { indexTerms } from '../../../shared/core/words.ts'
import { isJsonObject } from '../../../shared/matrix/json-value.ts'
import { kindOfType, roomTerm, searchedKeys } from '../../../shared/storage/event-search.ts'
import type { MainSql } from '../../../shared/storage/sql.ts'
import { indexState, moving } from './index-cursor.ts'

const eventsPerStep = 1_000
/** Of one event: what comes after is found by nobody. */
const termsMax = 2_000

interface SearchedEvent {
  readonly event_nid: number
  readonly room_nid: number
  readonly position: number
  readonly type: string
  readonly sender: string
  readonly content: string
  readonly redacts: string | null
  readonly redacted_by_nid: number | null
}

/** Takes in the next events of the stream. True where more may be waiting. */
export async function followMessages(sql: MainSql): Promise<boolean> {
  const { cursor, events: upTo } = await indexState(sql, 'messages')
  if (cursor.events_position >= upTo) return false
  const read = await sql<SearchedEvent[]>`
    select event_nid, room_nid, position, type, sender, content, redacts, redacted_by_nid from events
    where position > ${cursor.events_position} and position <= ${upTo}
      and type in ('m.room.message', 'm.room.name', 'm.room.topic', 'm.room.redaction')
    order by position limit ${eventsPerStep}`
  const full = read.length === eventsPerStep
  const reached = full ? (read.at(-1)?.position ?? upTo) : upTo
  const redacted = read.flatMap((event) => (event.redacts === null ? [] : [event.redacts]))
  await sql`
    with moved as (${moving(sql, cursor, { ...cursor, events_position: reached })}),
    gone as (
      delete from event_search s using events e
      where e.event_id = any(${sql.array(redacted, 25)}::text[]) and e.redacted_by_nid is not null
        and s.event_nid = e.event_nid and exists (select from moved)
    ) ${inserted(sql, read)}`
  return full || reached < upTo
}

/** Takes in what was there before the index, newest first. True where more is left. */
export async function backfillMessages(sql: MainSql): Promise<boolean> {
  const { cursor } = await indexState(sql, 'messages')
  if (cursor.backfill === null) return false
  const read = await sql<SearchedEvent[]>`
    select event_nid, room_nid, position, type, sender, content, redacts, redacted_by_nid from events
    where position <= ${Number(cursor.backfill)} and position is not null
      and type in ('m.room.message', 'm.room.name', 'm.room.topic')
    order by position desc limit ${eventsPerStep}`
  const last = read.length === eventsPerStep ? read.at(-1) : undefined
  const backfill = last && last.position > 1 ? String(last.position - 1) : null
  await sql`with moved as (${moving(sql, cursor, { ...cursor, backfill })}) ${inserted(sql, read)}`
  return backfill !== null
}

function inserted(sql: MainSql, events: readonly SearchedEvent[]) {
  const rows = events.flatMap(rowOf)
  return sql`
    insert into event_search (event_nid, room_nid, position, kind, sender, words)
    select x.event_nid, x.room_nid, x.position, x.kind, e.sender, x.words::tsvector
    from jsonb_to_recordset(${JSON.stringify(rows)}::text::jsonb)
      as x(event_nid bigint, room_nid bigint, position bigint, kind smallint, words text)
    join events e on e.event_nid = x.event_nid and e.redacted_by_nid is null
    where exists (select from moved)
    on conflict (event_nid) do update set words = excluded.words`
}

/** None for what holds no words. */
function rowOf({ event_nid, room_nid, position, type, content, redacted_by_nid }: SearchedEvent) {
  const kind = kindOfType(type)
  if (kind === undefined || redacted_by_nid !== null) return []
  const parsed: unknown = JSON.parse(content)
  const text = isJsonObject(parsed) ? parsed[searchedKeys[kind]] : undefined
  if (typeof text !== 'string') return []
  const terms = indexTerms(text, termsMax)
  if (terms.length === 0) return []
  // Terms are letters, digits and underscores: nothing in them needs to be escaped.
  const words = [roomTerm(room_nid), ...terms].map((term) => `'${term}'`).join(' ')
  return [{ event_nid, room_nid, position, kind, words }]
}
