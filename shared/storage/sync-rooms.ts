/** What GET /sync reads of rooms. Each query takes a list of rooms: an answer costs a few queries, never one a room. */
import type { EventId, RoomId, UserId } from '../matrix/ids.ts'
import type { TimelineEvent } from '../timeline/timeline-event.ts'
import { eventColumns, type StoredEvent, timelineEvents } from './events.ts'
import { fromPgText, pgText, type ReadSql } from './sql.ts'
import { strippedTypes } from './stripped-state.ts'

const int8 = 20
const text = 25

export type Membership = 'join' | 'invite' | 'knock' | 'leave' | 'ban'

export interface UserRoomRow {
  readonly room_nid: number
  readonly room_id: RoomId
  readonly membership: Membership
  /** Of the member event in stream events. */
  readonly position: number
  readonly event_nid: number
  readonly sender: UserId
  /** Where the user last came in: the join event after a membership that was none; 0 if never. */
  readonly joined_at: number
  /** Where the user last went, or was sent, out after having been joined; 0 if never. */
  readonly left_at: number
  /** Last positions in the room, of rooms the user is joined to. */
  readonly last_event: number
  readonly last_receipt: number
  readonly joined_members: number
}

/** All rooms that the user has, or had, to do with. */
export async function roomsOfUser(sql: ReadSql, user: UserId): Promise<UserRoomRow[]> {
  return sql<UserRoomRow[]>`
    with stays as (
      select room_nid, max(position) filter (where membership = 'join') as joined_at,
        max(position) filter (where prev_membership = 'join') as left_at
      from membership_changes
      where user_id = ${user} and (membership = 'join') <> (prev_membership is not distinct from 'join')
      group by room_nid
    )
    select m.room_nid, r.room_id, m.membership, m.position, m.event_nid, m.sender,
      coalesce(j.joined_at, 0) as joined_at, coalesce(j.left_at, 0) as left_at,
      case when m.membership = 'join' then coalesce((
        select e.position from events e where e.room_nid = m.room_nid and e.position is not null
        order by e.position desc limit 1), 0) else 0 end as last_event,
      case when m.membership = 'join' then coalesce((
        select c.position from receipts c where c.room_nid = m.room_nid order by c.position desc limit 1), 0)
        else 0 end as last_receipt, coalesce(s.joined_members, 0) as joined_members
    from memberships m join rooms r using (room_nid) left join stays j using (room_nid)
    left join room_summaries s using (room_nid)
    where m.user_id = ${user}`
}

export interface MembershipChange {
  readonly position: number
  readonly room_nid: number
  readonly membership: Membership
  readonly prev_membership: Membership | null
}

/** The user's changes of membership at positions in (after, upTo], oldest first. */
export async function membershipChanges(
  sql: ReadSql,
  user: UserId,
  range: { readonly after: number; readonly upTo: number },
): Promise<MembershipChange[]> {
  return sql<MembershipChange[]>`
    select position, room_nid, membership, prev_membership from membership_changes
    where user_id = ${user} and position > ${range.after} and position <= ${range.upTo} order by position`
}

/** The part of an event filter that the database can check. */
export interface TimelineFilter {
  readonly types?: readonly string[] | undefined
  readonly not_types?: readonly string[] | undefined
  readonly senders?: readonly string[] | undefined
  readonly not_senders?: readonly string[] | undefined
  readonly rel_types?: readonly string[] | undefined
  readonly not_rel_types?: readonly string[] | undefined
}

export interface RoomRange {
  readonly room_nid: number
  readonly after: number
  readonly upTo: number
}

/** The newest `limit` events of each range that pass the filter, oldest first, by room; rooms without any are left out.
 *  Fewer of a room where they make `bytesMax`: the oldest is then the event that reaches it. */
export async function newestEvents(
  sql: ReadSql,
  ranges: readonly RoomRange[],
  { limit, bytesMax }: { readonly limit: number; readonly bytesMax: number },
  filter: TimelineFilter,
): Promise<Map<number, TimelineEvent[]>> {
  const byRoom = new Map<number, TimelineEvent[]>()
  if (ranges.length === 0 || limit === 0) return byRoom
  const rows = await sql<(StoredEvent & { room_id: RoomId })[]>`
    select ${eventColumns(sql)}, r.room_id
    from unnest(${numbers(sql, ranges, 'room_nid')}::bigint[], ${numbers(sql, ranges, 'after')}::bigint[],
      ${numbers(sql, ranges, 'upTo')}::bigint[]) as q(room_nid, after, up_to)
    join rooms r on r.room_nid = q.room_nid
    cross join lateral (
      select e.*, sum(octet_length(e.content)) over (order by e.position desc rows unbounded preceding)
        - octet_length(e.content) as bytes_before
      from events e where e.room_nid = q.room_nid and e.position > q.after and e.position <= q.up_to
        ${filterCondition(sql, filter)}
      order by e.position desc limit ${limit}) e
    where e.bytes_before < ${bytesMax}`
  for (const event of await timelineEvents(sql, rows)) addTo(byRoom, event.room_nid, event)
  for (const events of byRoom.values()) events.sort((a, b) => a.position - b.position)
  return byRoom
}

function filterCondition(sql: ReadSql, filter: TimelineFilter) {
  const patterns = (types: readonly string[]) =>
    sql.array(
      types.map((type) =>
        pgText(type)
          .replaceAll(/[\\%_]/g, '\\$&')
          .replaceAll('*', '%'),
      ),
      text,
    )
  const { senders, not_senders, rel_types, not_rel_types } = filter
  const texts = (list: readonly string[]) => sql.array(list.map(pgText), text)
  return sql`
    ${filter.types ? sql`and e.type like any(${patterns(filter.types)}::text[])` : sql``}
    ${filter.not_types?.length ? sql`and not e.type like any(${patterns(filter.not_types)}::text[])` : sql``}
    ${senders ? sql`and e.sender = any(${texts(senders)}::text[])` : sql``}
    ${not_senders?.length ? sql`and e.sender <> all(${texts(not_senders)}::text[])` : sql``}
    ${rel_types ? sql`and e.rel_type = any(${texts(rel_types)}::text[])` : sql``}
    ${not_rel_types?.length ? sql`and (e.rel_type <> all(${texts(not_rel_types)}::text[])) is not false` : sql``}`
}

/** What a room's state is asked for: the state just before the event at `before`. */
export interface StateRequest {
  readonly room_nid: number
  readonly before: number
  /** Every member event, or those of these users alone. */
  readonly members: 'all' | readonly string[]
  /** All that is not a member event. */
  readonly rest: boolean
}

/** A state event as clients get it; what it replaced is not read. */
export type StateRow = Pick<
  TimelineEvent,
  'event_id' | 'event_nid' | 'room_nid' | 'position' | 'sender' | 'origin_server_ts' | 'content'
> & { readonly type: string; readonly state_key: string }

export interface StoredState extends Omit<StateRow, 'position'> {
  readonly position: number | null
}

/** The state of rooms at a place in their timelines: today's, taken back by what the state events since then replaced. */
export async function stateBefore(sql: ReadSql, requests: readonly StateRequest[]): Promise<Map<number, StateRow[]>> {
  if (requests.length === 0) return new Map()
  const wanted = requests.flatMap(({ room_nid, members }) =>
    members === 'all' ? [] : members.map((user) => ({ room_nid, user })),
  )
  const all = requests.map((request) => (request.members === 'all' ? 1 : 0))
  const rest = requests.map((request) => (request.rest ? 1 : 0))
  const rows = await sql<StoredState[]>`
    with q as materialized (
      select * from unnest(${numbers(sql, requests, 'room_nid')}::bigint[], ${numbers(sql, requests, 'before')}::bigint[],
        ${sql.array(all, int8)}::bigint[], ${sql.array(rest, int8)}::bigint[]) as q(room_nid, before, members, rest)
    ), w as materialized (
      select * from unnest(${numbers(sql, wanted, 'room_nid')}::bigint[],
        ${sql.array(
          wanted.map(({ user }) => pgText(user)),
          text,
        )}::text[]) as w(room_nid, user_id)
    ), changed as materialized (
      select distinct on (e.room_nid, e.type, e.state_key) e.room_nid, e.type, e.state_key, e.replaces_nid
      -- Room by room on the index: estimated for all rooms at once, this would be a scan of every event there is.
      from q cross join lateral (
        select e.room_nid, e.type, e.state_key, e.replaces_nid, e.position from events e
        where e.room_nid = q.room_nid and e.position >= q.before and e.state_key is not null offset 0) e
      order by e.room_nid, e.type, e.state_key, e.position
    ), now as (
      select c.* from q join current_state c on c.room_nid = q.room_nid and c.type < 'm.room.member' where q.rest = 1
      union all
      select c.* from q join current_state c on c.room_nid = q.room_nid and c.type > 'm.room.member' where q.rest = 1
      union all
      select c.* from q join current_state c on c.room_nid = q.room_nid and c.type = 'm.room.member' where q.members = 1
      union all
      select c.* from w join current_state c
        on c.room_nid = w.room_nid and c.type = 'm.room.member' and c.state_key = w.user_id
    ), chosen as (
      select n.event_nid from now n where not exists (
        select from changed x where x.room_nid = n.room_nid and x.type = n.type and x.state_key = n.state_key)
      union
      select x.replaces_nid from changed x join q on q.room_nid = x.room_nid
      where x.replaces_nid is not null and case when x.type = 'm.room.member'
        then q.members = 1 or exists (select from w where w.room_nid = x.room_nid and w.user_id = x.state_key)
        else q.rest = 1 end
    )
    select ${stateColumns(sql)} from events e where e.event_nid = any(array(select event_nid from chosen))`
  return stateByRoom(rows)
}

/** The last state event of each key at positions in (after, upTo], by room. */
export async function stateBetween(sql: ReadSql, ranges: readonly RoomRange[]): Promise<Map<number, StateRow[]>> {
  if (ranges.length === 0) return new Map()
  const rows = await sql<StoredState[]>`
    select distinct on (e.room_nid, e.type, e.state_key) ${stateColumns(sql)}
    from unnest(${numbers(sql, ranges, 'room_nid')}::bigint[], ${numbers(sql, ranges, 'after')}::bigint[],
      ${numbers(sql, ranges, 'upTo')}::bigint[]) as q(room_nid, after, up_to)
    cross join lateral (
      select * from events e
      where e.room_nid = q.room_nid and e.position > q.after and e.position <= q.up_to and e.state_key is not null
      offset 0) e
    order by e.room_nid, e.type, e.state_key, e.position desc`
  return stateByRoom(rows)
}

/** What an invited or knocking user may know of a room, and that user's own member event.
 *  https://spec.matrix.org/v1.19/client-server-api/#stripped-state */
export async function strippedState(
  sql: ReadSql,
  user: UserId,
  rooms: readonly number[],
): Promise<Map<number, StateRow[]>> {
  if (rooms.length === 0) return new Map()
  const [rows, told] = await Promise.all([
    sql<StoredState[]>`
      select ${stateColumns(sql)} from current_state c join events e using (event_nid)
      where c.room_nid = any(${sql.array([...rooms], int8)}::bigint[])
        and ((c.type = any(${sql.array([...strippedTypes], text)}::text[]) and c.state_key = '')
          or (c.type = 'm.room.member' and c.state_key = ${user}))`,
    toldStates(sql, user, rooms),
  ])
  if (told.size === 0) return stateByRoom(rows)
  const own = rows.filter((row) => !told.has(row.room_nid) || row.type === 'm.room.member')
  const byRoom = stateByRoom(own)
  for (const [room_nid, events] of told) {
    const others = events.filter((event) => event.type !== 'm.room.member' || event.state_key !== user)
    byRoom.set(room_nid, [...others, ...(byRoom.get(room_nid) ?? [])])
  }
  return byRoom
}

interface ToldEvent {
  readonly type: string
  readonly state_key: string
  readonly sender: UserId
  readonly content: object
  readonly origin_server_ts?: number
}

/** Of rooms that this server is not in: what it was told of them. */
async function toldStates(sql: ReadSql, user: UserId, rooms: readonly number[]): Promise<Map<number, StateRow[]>> {
  const rows = await sql<{ room_nid: number; events: string }[]>`
    select room_nid, events from stripped_states
    where room_nid = any(${sql.array([...rooms], int8)}::bigint[]) and user_id = ${user}`
  return new Map(
    rows.map(({ room_nid, events }) => [
      room_nid,
      (JSON.parse(events) as ToldEvent[]).map(({ type, state_key, sender, content, origin_server_ts = 0 }) => ({
        event_id: '' as EventId,
        event_nid: 0,
        room_nid,
        position: 0 as StateRow['position'],
        origin_server_ts,
        type,
        state_key,
        sender,
        content: JSON.stringify(content),
      })),
    ]),
  )
}

/** Events by surrogate, whether or not they have a place in a timeline. */
export async function stateEventsByNid(sql: ReadSql, nids: readonly number[]): Promise<Map<number, StateRow[]>> {
  if (nids.length === 0) return new Map()
  return stateByRoom(
    await sql<StoredState[]>`select ${stateColumns(sql)} from events e
      where e.event_nid = any(${sql.array([...nids], int8)}::bigint[])`,
  )
}

export const stateColumns = (sql: ReadSql) =>
  sql`e.event_nid, e.event_id, e.room_nid, e.position, e.type, e.state_key, e.sender, e.origin_server_ts, e.content`

export function stateByRoom(rows: readonly StoredState[]): Map<number, StateRow[]> {
  const byRoom = new Map<number, StateRow[]>()
  for (const row of rows) {
    const position = (row.position ?? 0) as StateRow['position']
    const type = fromPgText(row.type)
    addTo(byRoom, row.room_nid, { ...row, position, type, state_key: fromPgText(row.state_key) })
  }
  return byRoom
}

export interface RoomSummary {
  readonly room_nid: number
  readonly joined_members: number
  readonly invited_members: number
  /** Set where the room has neither a name nor an alias: up to six members by whom it can be called, of whom a client
   *  gets five others than its user. */
  readonly heroes: readonly UserId[] | null
}

/** Counts and heroes. https://spec.matrix.org/v1.19/client-server-api/#calculating-the-display-name-for-a-room */
export async function roomSummaries(sql: ReadSql, rooms: readonly number[]): Promise<Map<number, RoomSummary>> {
  if (rooms.length === 0) return new Map()
  const rows = await sql<(Omit<RoomSummary, 'heroes'> & { present: UserId[] | null; gone: UserId[] | null })[]>`
    select s.room_nid, s.joined_members, s.invited_members,
      case when h.needed then coalesce((
        select json_agg(m.user_id order by m.position) from (
          select user_id, position from memberships
          where room_nid = s.room_nid and membership in ('join', 'invite') order by position limit 6) m), '[]') end as present,
      case when h.needed and s.joined_members + s.invited_members < 2 then coalesce((
        select json_agg(m.user_id order by m.position) from (
          select user_id, position from memberships
          where room_nid = s.room_nid and membership in ('leave', 'ban') order by position limit 6) m), '[]') end as gone
    from room_summaries s
    cross join lateral (select coalesce(s.name, '') = '' and coalesce(s.canonical_alias, '') = '' as needed) h
    where s.room_nid = any(${sql.array([...rooms], int8)}::bigint[])`
  return new Map(
    rows.map(({ present, gone, ...row }) => [
      row.room_nid,
      { ...row, heroes: present && [...present, ...(gone ?? [])] },
    ]),
  )
}

/** A change of what a user may see: of their membership, or of the room's history visibility. */
export interface VisibilityChange {
  readonly room_nid: number
  /** 0: before the room's timeline here begins. */
  readonly position: number
  readonly type: 'm.room.member' | 'm.room.history_visibility'
  readonly event_id: EventId
  /** JSON text. */
  readonly content: string
}

/** All changes of the user's membership and of the history visibility in these rooms, oldest first. */
export async function visibilityChanges(
  sql: ReadSql,
  user: UserId,
  rooms: readonly number[],
): Promise<Map<number, VisibilityChange[]>> {
  const byRoom = new Map<number, VisibilityChange[]>()
  if (rooms.length === 0) return byRoom
  const list = sql.array([...rooms], int8)
  const rows = await sql<VisibilityChange[]>`
    select e.room_nid, coalesce(e.position, 0) as position, e.type, e.event_id, e.content from events e
    where e.room_nid = any(${list}::bigint[]) and e.type = 'm.room.member' and e.state_key = ${user}
      and (e.position is not null or exists (select from current_state c where c.room_nid = e.room_nid
        and c.type = e.type and c.state_key = e.state_key and c.event_nid = e.event_nid))
    union all
    select e.room_nid, coalesce(e.position, 0) as position, e.type, e.event_id, e.content from events e
    where e.room_nid = any(${list}::bigint[]) and e.type = 'm.room.history_visibility' and e.state_key = ''
      and (e.position is not null or exists (select from current_state c where c.room_nid = e.room_nid
        and c.type = e.type and c.state_key = e.state_key and c.event_nid = e.event_nid))
    order by position`
  for (const row of rows) addTo(byRoom, row.room_nid, row)
  return byRoom
}

/** Which of `users` are joined to one of `rooms`. */
export async function joinedAmong(
  sql: ReadSql,
  rooms: readonly number[],
  users: readonly string[],
): Promise<Set<UserId>> {
  if (rooms.length === 0 || users.length === 0) return new Set()
  const rows = await sql<{ user_id: UserId }[]>`
    select distinct user_id from memberships
    where user_id = any(${sql.array([...users], text)}::text[]) and membership = 'join'
      and room_nid = any(${sql.array([...rooms], int8)}::bigint[])`
  return new Set(rows.map((row) => row.user_id))
}

/** Rooms that each of `users` is joined to. */
export async function joinedRoomsOf(sql: ReadSql, users: readonly string[]): Promise<Map<string, number[]>> {
  const byUser = new Map<string, number[]>(users.map((user) => [user, []]))
  if (users.length === 0) return byUser
  const rows = await sql<{ user_id: string; room_nid: number }[]>`
    select user_id, room_nid from memberships
    where user_id = any(${sql.array([...users], text)}::text[]) and membership = 'join'`
  for (const row of rows) byUser.get(row.user_id)?.push(row.room_nid)
  return byUser
}

function numbers<K extends string>(sql: ReadSql, rows: readonly { readonly [P in K]: number }[], key: K) {
  return sql.array(
    rows.map((row) => row[key]),
    int8,
  )
}

function addTo<T>(map: Map<number, T[]>, key: number, value: T): void {
  const list = map.get(key)
  if (list) list.push(value)
  else map.set(key, [value])
}
