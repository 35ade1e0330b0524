/** A page of a room's timeline, each row as one value: a driver decodes columns one by one, and eighteen of them for each of
 *  fifty events took longer than all the rest of a page. */
import type { EventId, UserId } from '../matrix/ids.ts'
import type { StreamPosition } from '../streams/define.ts'
import type { Direction, StoredEvent } from './events.ts'
import { pageBytesMax } from './page-bytes.ts'

/** Between the fields. Nothing keeps it out of them, yet a row with one too many has too many fields. */
const separator = '\u0001'

/** A text that may be null: null is empty, what is there begins with `=`. */
const optional = (column: string) => `coalesce('=' || ${column}, '')`

const fields = [
  'e.event_nid',
  'e.event_id',
  'e.position',
  'e.type',
  optional('e.state_key'),
  'e.sender',
  'e.origin_server_ts',
  'e.state_root',
  "coalesce(e.replaces_nid::text, '')",
  optional('e.redacts'),
  "coalesce(e.redacted_by_nid::text, '')",
  optional('e.relates_to'),
  optional('e.rel_type'),
  optional('e.thread_root'),
  optional('e.device_id'),
  optional('e.txn_id'),
  optional('e.delay_id'),
  // With what is bundled with the events: one look into an index for each, and a page without children is done.
  `case when e.state_key is null and (select 1 from events c
    where c.relates_to = e.event_id and c.rel_type in ('m.replace', 'm.thread', 'm.reference') limit 1) = 1
    then '1' else '' end`,
  'e.content',
]

/** Pages are read in these sizes, so that few statements are prepared. */
const sizes = [11, 21, 31, 51, 101, 201, 501]
/** Of as many rows as this, no sizes are asked for: the largest events make three megabytes of them. */
const smallPage = 51
const statements = new Map<string, string>()

/** The statement for a page of at least `limit` rows with one column, `event`; parameters: room_nid, after, upTo.
 *
 *  The values compared with stand in selects of their own, where the planner does not see them: its plan for one page is as
 *  good as for another, and so it is kept. Planning took half of Postgres's time. They are compared as rows, so that the
 *  index by room and position is the only one that fits: else the planner would sometimes walk the index by position
 *  alone, through the events of every room.
 *
 *  A large page ends with the event that makes it `pageBytesMax`. The database knows a text's length without reading it. */
export function packedPage(limit: number, direction: Direction): string {
  const size = sizes.find((rows) => rows >= limit) ?? limit
  const key = `${direction}${size}`
  const known = statements.get(key)
  if (known !== undefined) return known
  const order = direction === 'f' ? 'asc' : 'desc'
  const ordered = `order by e.room_nid ${order}, e.position ${order}`
  const found = `from events e
    where (e.room_nid, e.position) > ((select $1::bigint), (select $2::bigint))
      and (e.room_nid, e.position) <= ((select $1::bigint), (select $3::bigint)) and e.position is not null
    ${ordered} limit ${size}`
  const packed = `select concat_ws(E'\\x01', ${fields.join(', ')}) as event`
  const made =
    size <= smallPage
      ? `${packed} ${found}`
      : `${packed} from (
          select e.*, sum(octet_length(e.content)) over (${ordered} rows unbounded preceding) - octet_length(e.content)
            as bytes_before ${found}
        ) e where e.bytes_before < ${pageBytesMax} ${ordered}`
  statements.set(key, made)
  return made
}

/** undefined: a field holds the separator, so that the row has to be read by its columns. */
export function unpackEvent(packed: string): StoredEvent | undefined {
  const parts = packed.split(separator)
  if (parts.length !== fields.length) return undefined
  const at = (i: number) => parts[i] ?? ''
  return {
    event_nid: Number(at(0)),
    event_id: at(1) as EventId,
    position: Number(at(2)) as StreamPosition,
    type: at(3),
    state_key: text(at(4)),
    sender: at(5) as UserId,
    origin_server_ts: Number(at(6)),
    state_root: Number(at(7)),
    replaces_nid: number(at(8)),
    redacts: text(at(9)) as EventId | null,
    redacted_by_nid: number(at(10)),
    relates_to: text(at(11)),
    rel_type: text(at(12)),
    thread_root: text(at(13)),
    device_id: text(at(14)),
    txn_id: text(at(15)),
    delay_id: text(at(16)),
    has_children: at(17) === '1' ? 1 : null,
    content: at(18),
  }
}

function text(part: string): string | null {
  return part === '' ? null : part.slice(1)
}

function number(part: string): number | null {
  return part === '' ? null : Number(part)
}
