/** States and auth chains as other servers are told them: events as they were sent, by their surrogates. */
import { wireFromParts } from '../matrix/event-format.ts'
import type { EventId, RoomId, ServerName, UserId } from '../matrix/ids.ts'
import type { ReadSql } from './sql.ts'
import { createStateReader } from './state.ts'

const int8 = 20
/** Events read at a time: a few megabytes. */
const chunk = 500

export interface EventAt {
  readonly room_nid: number
  readonly event_nid: number
  /** After the event. 0: it is not known. */
  readonly state_root: number
  readonly replaces_nid: number | null
  readonly type: string
  readonly state_key: string | null
  readonly flags: number
}

/** undefined: no such event in that room. */
export async function eventAt(sql: ReadSql, room_id: RoomId, event_id: EventId): Promise<EventAt | undefined> {
  const [row] = await sql<EventAt[]>`
    select e.room_nid, e.event_nid, e.state_root, e.replaces_nid, e.type, e.state_key, e.flags
    from events e join rooms r using (room_nid) where e.event_id = ${event_id} and r.room_id = ${room_id}`
  return row
}

/** Surrogates of the state before the event, by state key. */
export async function stateBefore(sql: ReadSql, event: EventAt): Promise<Map<string, number>> {
  const state = new Map(await createStateReader(sql).load(event.state_root))
  // What was rejected changed nothing.
  if (event.state_key === null) return state
  const key = `${event.type}\0${event.state_key}`
  if (state.get(key) !== event.event_nid) return state
  if (event.replaces_nid === null) state.delete(key)
  else state.set(key, event.replaces_nid)
  return state
}

/** Surrogates of all events that these rest on, without them but for those that another rests on. */
export async function authChainOf(sql: ReadSql, event_nids: readonly number[]): Promise<number[]> {
  if (event_nids.length === 0) return []
  const rows = await sql<{ event_nid: number }[]>`
    with recursive start as (
      select event_nid, chain_id, sequence from auth_chains where event_nid = any(${sql.array([...event_nids], int8)}::bigint[])
    ), reach(chain_id, sequence) as (
      -- What an event's own place reaches below it, and what its links lead to.
      select chain_id, max(sequence) from start group by chain_id
      union
      select l.to_chain, l.to_sequence from reach r
        join auth_chain_links l on l.from_chain = r.chain_id and l.from_sequence <= r.sequence
    ), upto as (select chain_id, max(sequence) as sequence from reach group by chain_id)
    select a.event_nid from auth_chains a join upto u on a.chain_id = u.chain_id and a.sequence <= u.sequence`
  return rows.map((row) => row.event_nid)
}

/** JSON of the events as they were sent, read as somebody takes them. */
export async function* wiresOf(sql: ReadSql, event_nids: readonly number[]): AsyncGenerator<string> {
  for (let from = 0; from < event_nids.length; from += chunk) {
    const rows = await sql<{ envelope: string; content: string }[]>`
      select envelope, content from events
      where event_nid = any(${sql.array(event_nids.slice(from, from + chunk), int8)}::bigint[])`
    for (const { envelope, content } of rows) yield wireFromParts(envelope, content)
  }
}

/** Ids of the events, in no order. */
export async function eventIdsOf(sql: ReadSql, event_nids: readonly number[]): Promise<EventId[]> {
  if (event_nids.length === 0) return []
  const rows = await sql<{ event_id: EventId }[]>`
    select event_id from events where event_nid = any(${sql.array([...event_nids], int8)}::bigint[])`
  return rows.map((row) => row.event_id)
}

/** Servers with a joined member other than this one. */
export async function allServersInRoom(sql: ReadSql, room_nid: number, but: UserId): Promise<ServerName[]> {
  const rows = await sql<{ server_name: ServerName }[]>`
    select distinct server_of(user_id) as server_name from memberships
    where room_nid = ${room_nid} and membership = 'join' and user_id <> ${but}`
  return rows.map((row) => row.server_name)
}

/** Surrogates of the member events of those after whom a room is called that has no name.
 *  https://spec.matrix.org/v1.19/client-server-api/#calculating-the-display-name-for-a-room */
export async function heroesOf(sql: ReadSql, room_nid: number, but: UserId): Promise<number[]> {
  const rows = await sql<{ event_nid: number }[]>`
    select event_nid from memberships
    where room_nid = ${room_nid} and membership in ('join', 'invite') and user_id <> ${but}
    order by position, user_id limit 5`
  return rows.map((row) => row.event_nid)
}
