/** What sliding sync reads of rooms beside what GET /sync reads. Each query takes a list of rooms. */
import type { EventId, RoomId, UserId } from '../matrix/ids.ts'
import type { StoredReceipt } from './receipts.ts'
import { fromPgText, pgText, type ReadSql } from './sql.ts'
import { type StateRow, type StoredState, stateByRoom, stateColumns } from './sync-rooms.ts'

const int8 = 20
const text = 25

/** Types of events that move a room up. The index `events_bump` holds exactly these.
 *  https://github.com/matrix-org/matrix-spec-proposals/blob/main/proposals/4186-simplified-sliding-sync.md#common-fields */
export const bumpTypes: ReadonlySet<string> = new Set([
  'm.room.create',
  'm.room.message',
  'm.room.encrypted',
  'm.sticker',
  'm.call.invite',
  'm.poll.start',
  'm.beacon_info',
])

/** Position of the last event of those types at or before `upTo`; rooms without one are left out. */
export async function bumpPositions(
  sql: ReadSql,
  rooms: readonly { readonly room_nid: number; readonly upTo: number }[],
): Promise<Map<number, number>> {
  if (rooms.length === 0) return new Map()
  const rows = await sql<{ room_nid: number; position: number }[]>`
    select q.room_nid, e.position
    from unnest(${numbers(sql, rooms, 'room_nid')}::bigint[], ${numbers(sql, rooms, 'upTo')}::bigint[]) as q(room_nid, up_to)
    cross join lateral (
      select e.position from events e
      where e.room_nid = q.room_nid and e.position is not null and e.position <= q.up_to
        and e.type in ('m.room.create', 'm.room.message', 'm.room.encrypted', 'm.sticker', 'm.call.invite',
          'm.poll.start', 'm.beacon_info')
      order by e.position desc limit 1) e`
  return new Map(rows.map((row) => [row.room_nid, row.position]))
}

/** What the filters of lists look at. */
export interface RoomFacts {
  readonly room_nid: number
  readonly room_type: string | null
  readonly encrypted: boolean
  readonly name: string | null
}

export async function roomFacts(sql: ReadSql, rooms: readonly number[]): Promise<RoomFacts[]> {
  if (rooms.length === 0) return []
  const rows = await sql<RoomFacts[]>`
    select room_nid, room_type, encryption is not null as encrypted, name from room_summaries
    where room_nid = any(${sql.array([...rooms], int8)}::bigint[])`
  return rows.map((row) => ({
    ...row,
    room_type: row.room_type === null ? null : fromPgText(row.room_type),
    name: row.name === null ? null : fromPgText(row.name),
  }))
}

/** Ids of the rooms that these spaces name as their children, by space. A child without `via` is none.
 *  https://spec.matrix.org/v1.19/client-server-api/#mspacechild */
export async function spaceChildren(sql: ReadSql, spaces: readonly number[]): Promise<Map<number, string[]>> {
  const children = new Map<number, string[]>()
  if (spaces.length === 0) return children
  const rows = await sql<{ room_nid: number; state_key: string; content: string }[]>`
    select c.room_nid, c.state_key, e.content from current_state c join events e using (event_nid)
    where c.room_nid = any(${sql.array([...spaces], int8)}::bigint[]) and c.type = 'm.space.child'`
  for (const { room_nid, state_key, content } of rows) {
    const via: unknown = (JSON.parse(content) as { via?: unknown }).via
    if (!Array.isArray(via)) continue
    const known = children.get(room_nid)
    if (known) known.push(fromPgText(state_key))
    else children.set(room_nid, [fromPgText(state_key)])
  }
  return children
}

export interface RoomLabelRow {
  /** 0: `m.direct`. */
  readonly room_nid: number
  readonly type: 'm.direct' | 'm.tag'
  /** JSON text. */
  readonly content: string
  readonly position: number
}

/** How the user sorts their rooms: `m.direct`, and the tags of every room. */
export async function roomLabels(sql: ReadSql, user: UserId): Promise<RoomLabelRow[]> {
  return sql<RoomLabelRow[]>`
    select room_nid, type, content, position from account_data
    where user_id = ${user} and ((room_nid = 0 and type = 'm.direct') or (room_nid <> 0 and type = 'm.tag'))`
}

/** Selectors for several rooms: pairs of type and key, whole types, keys of whatever type, everything but members, members. */
export interface StateQuestion {
  readonly rooms: readonly { readonly room_nid: number; readonly before: number }[]
  readonly pairs: readonly { readonly type: string; readonly state_key: string }[]
  readonly types: readonly string[]
  readonly keys: readonly string[]
  readonly rest: boolean
  readonly members: boolean
}

/** The selected state of rooms just before the event at `before`: today's, taken back by what has been replaced since. More
 *  may be among it than was selected. */
export async function selectedState(
  sql: ReadSql,
  questions: readonly StateQuestion[],
): Promise<Map<number, StateRow[]>> {
  const rooms = questions.flatMap(({ rooms, rest, members }, grp) =>
    rooms.map((room) => ({ ...room, grp, rest: rest ? 1 : 0, members: members ? 1 : 0 })),
  )
  if (rooms.length === 0) return new Map()
  const pairs = questions.flatMap((question, grp) => question.pairs.map((pair) => ({ ...pair, grp })))
  const types = questions.flatMap((question, grp) => question.types.map((value) => ({ value, grp })))
  const keys = questions.flatMap((question, grp) => question.keys.map((value) => ({ value, grp })))
  const rows = await sql<StoredState[]>`
    with q as materialized (
      select * from unnest(${numbers(sql, rooms, 'room_nid')}::bigint[], ${numbers(sql, rooms, 'before')}::bigint[],
        ${numbers(sql, rooms, 'grp')}::bigint[], ${numbers(sql, rooms, 'rest')}::bigint[],
        ${numbers(sql, rooms, 'members')}::bigint[]) as q(room_nid, before, grp, rest, members)
    ), pair as materialized (
      select * from unnest(${numbers(sql, pairs, 'grp')}::bigint[], ${texts(sql, pairs, 'type')}::text[],
        ${texts(sql, pairs, 'state_key')}::text[]) as p(grp, type, state_key)
    ), kind as materialized (
      select * from unnest(${numbers(sql, types, 'grp')}::bigint[], ${texts(sql, types, 'value')}::text[]) as k(grp, type)
    ), named as materialized (
      select * from unnest(${numbers(sql, keys, 'grp')}::bigint[], ${texts(sql, keys, 'value')}::text[]) as n(grp, state_key)
    ), changed as materialized (
      select distinct on (e.room_nid, e.type, e.state_key) e.room_nid, e.type, e.state_key, e.replaces_nid
      -- Room by room on the index: estimated for all rooms at once, this would be a scan of every event there is.
      from q cross join lateral (
        select e.room_nid, e.type, e.state_key, e.replaces_nid, e.position from events e
        where e.room_nid = q.room_nid and e.position >= q.before and e.state_key is not null offset 0) e
      order by e.room_nid, e.type, e.state_key, e.position
    ), now as (
      select c.* from q join pair p using (grp) cross join lateral (
        select * from current_state c
        where c.room_nid = q.room_nid and c.type = p.type collate "C" and c.state_key = p.state_key collate "C" offset 0) c
      union
      select c.* from q join kind k using (grp) cross join lateral (
        select * from current_state c where c.room_nid = q.room_nid and c.type = k.type collate "C" offset 0) c
      union
      select c.* from q join named n using (grp) cross join lateral (
        select * from current_state c where c.room_nid = q.room_nid and c.state_key = n.state_key collate "C" offset 0) c
      union
      select c.* from q cross join lateral (
        select * from current_state c where c.room_nid = q.room_nid and c.type < 'm.room.member'
        union all select * from current_state c where c.room_nid = q.room_nid and c.type > 'm.room.member') c
      where q.rest = 1
      union
      select c.* from q cross join lateral (
        select * from current_state c where c.room_nid = q.room_nid and c.type = 'm.room.member' offset 0) c
      where q.members = 1
    ), chosen as (
      select n.event_nid from now n where not exists (
        select from changed x where x.room_nid = n.room_nid and x.type = n.type and x.state_key = n.state_key)
      union
      select x.replaces_nid from changed x join q on q.room_nid = x.room_nid
      where x.replaces_nid is not null and (
        (q.rest = 1 and x.type <> 'm.room.member') or (q.members = 1 and x.type = 'm.room.member')
        or exists (select from pair p
          where p.grp = q.grp and p.type collate "C" = x.type and p.state_key collate "C" = x.state_key)
        or exists (select from kind k where k.grp = q.grp and k.type collate "C" = x.type)
        or exists (select from named n where n.grp = q.grp and n.state_key collate "C" = x.state_key))
    )
    select ${stateColumns(sql)} from events e where e.event_nid = any(array(select event_nid from chosen))`
  return stateByRoom(rows)
}

/** Of rooms that a client sees for the first time: the receipts on these events, and all of the user's own. */
export async function receiptsOnEvents(
  sql: ReadSql,
  user: UserId,
  rooms: readonly number[],
  events: readonly EventId[],
  upTo: number,
): Promise<StoredReceipt[]> {
  if (rooms.length === 0) return []
  return sql<StoredReceipt[]>`
    select room_nid, user_id, receipt_type, thread_id, event_id, ts, position from receipts
    where room_nid = any(${sql.array([...rooms], int8)}::bigint[]) and position <= ${upTo} and receipt_type = 'm.read'
      and event_id = any(${sql.array([...events], text)}::text[]) and user_id <> ${user}
    union all
    select room_nid, user_id, receipt_type, thread_id, event_id, ts, position from receipts
    where user_id = ${user} and room_nid = any(${sql.array([...rooms], int8)}::bigint[]) and position <= ${upTo}
    order by position`
}

export interface UpdatedThread {
  readonly room_nid: number
  readonly room_id: RoomId
  readonly root_event_id: EventId
  readonly latest_position: number
  /** Of the reply before the latest in the range; null: there is none. */
  readonly previous_position: number | null
  /** A reply in the range lies at or before `shownFrom`. */
  readonly unseen: boolean
}

/** Threads with replies at positions in (after, upTo], the newest first. `shownFrom`: the client is shown what lies after it
 *  in the room's timeline. https://github.com/matrix-org/matrix-spec-proposals/pull/4360 */
export async function updatedThreads(
  sql: ReadSql,
  rooms: readonly { readonly room_nid: number; readonly after: number; readonly shownFrom: number }[],
  upTo: number,
  { limit, onlyUnseen }: { readonly limit: number; readonly onlyUnseen: boolean },
): Promise<UpdatedThread[]> {
  if (rooms.length === 0) return []
  const unseen = sql`exists (select from events e where e.thread_root = t.root_event_id and e.room_nid = t.room_nid
    and e.rel_type = 'm.thread' and e.position > q.after and e.position <= q.shown_from)`
  return sql<UpdatedThread[]>`
    select q.room_nid, r.room_id, t.root_event_id, l.positions[1] as latest_position,
      l.positions[2] as previous_position, ${unseen} as unseen
    from unnest(${numbers(sql, rooms, 'room_nid')}::bigint[], ${numbers(sql, rooms, 'after')}::bigint[],
      ${numbers(sql, rooms, 'shownFrom')}::bigint[]) as q(room_nid, after, shown_from)
    join rooms r on r.room_nid = q.room_nid
    cross join lateral (
      select * from threads t where t.room_nid = q.room_nid and t.latest_position > q.after
      order by t.latest_position desc limit ${limit}) t
    cross join lateral (
      select array(select e.position from events e
        where e.thread_root = t.root_event_id and e.room_nid = t.room_nid and e.rel_type = 'm.thread'
          and e.position > q.after and e.position <= ${upTo}
        order by e.position desc limit 2) as positions) l
    where l.positions[1] is not null ${onlyUnseen ? sql`and ${unseen}` : sql``}
    order by l.positions[1] desc limit ${limit}`
}

function numbers<K extends string>(sql: ReadSql, rows: readonly { readonly [P in K]: number }[], key: K) {
  return sql.array(
    rows.map((row) => row[key]),
    int8,
  )
}

function texts<K extends string>(sql: ReadSql, rows: readonly { readonly [P in K]: string }[], key: K) {
  return sql.array(
    rows.map((row) => pgText(row[key])),
    text,
  )
}
