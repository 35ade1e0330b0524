/** Reads of what became of one event, for administrators. */
import { parseText } from '../matrix/engine-json.ts'
import type { EventId, RoomId, ServerName, UserId } from '../matrix/ids.ts'
import { isJsonObject } from '../matrix/json-value.ts'
import type { ReadSql } from './sql.ts'

/** An event that is stored, whether or not anybody sees it. */
export interface EventHistory {
  readonly event_id: EventId
  readonly room_id: RoomId
  readonly room_nid: number
  readonly room_version: string
  readonly type: string
  readonly state_key: string | null
  readonly sender: UserId
  readonly origin_server_ts: number
  /** null: stored before times were kept. */
  readonly stored_ts: number | null
  /** In stream events; null: not part of the timeline. */
  readonly position: number | null
  /** 1 rejected, 2 soft-failed, 4 outlier. */
  readonly flags: number
  readonly device_id: string | null
  readonly txn_id: string | null
  readonly redacted_by: EventId | null
  /** Whether it is the room's state now. */
  readonly is_current: boolean
  /** Whether it is one of the room's newest events. */
  readonly is_extremity: boolean
  /** Where stream events stands. */
  readonly stream_position: number
  /** Events of this server that some destination still waits for. */
  readonly outbound: boolean
  readonly auth_events: readonly EventId[]
  readonly prev_events: readonly EventId[]
}

export async function eventHistory(sql: ReadSql, event_id: EventId): Promise<EventHistory | undefined> {
  const [row] = await sql<(Omit<EventHistory, 'auth_events' | 'prev_events'> & { envelope: string })[]>`
    select e.event_id, r.room_id, e.room_nid, r.room_version, e.type, e.state_key, e.sender, e.origin_server_ts,
      e.stored_ts, e.position, e.flags, e.device_id, e.txn_id, e.envelope,
      (select event_id from events where event_nid = e.redacted_by_nid) as redacted_by,
      exists (select from current_state c where c.room_nid = e.room_nid and c.event_nid = e.event_nid) as is_current,
      exists (select from room_heads h where h.room_nid = e.room_nid and e.event_nid = any(h.forward_extremities))
        as is_extremity,
      (select position from streams where name = 'events') as stream_position,
      exists (select from outbound_events o where o.position = e.position) as outbound
    from events e join rooms r using (room_nid) where e.event_id = ${event_id}`
  if (!row) return undefined
  const { envelope, ...rest } = row
  const parsed = parseText(envelope)
  const named = (value: unknown): EventId[] =>
    Array.isArray(value) ? value.map((one) => (Array.isArray(one) ? one[0] : one) as EventId) : []
  const { auth_events, prev_events } = isJsonObject(parsed) ? parsed : {}
  return { ...rest, auth_events: named(auth_events), prev_events: named(prev_events) }
}

/** An event that waits for what it builds on. */
export interface StagedHistory {
  readonly room_id: RoomId
  readonly origin: ServerName
  readonly received_ts: number
  /** Events of its room that are looked at before it. */
  readonly ahead: number
}

export async function stagedHistory(sql: ReadSql, event_id: EventId): Promise<StagedHistory | undefined> {
  const [row] = await sql<StagedHistory[]>`
    select r.room_id, s.origin, s.received_ts,
      (select count(*)::integer from staged_pdus o where o.room_nid = s.room_nid and o.seq < s.seq) as ahead
    from staged_pdus s join rooms r using (room_nid) where s.event_id = ${event_id} limit 1`
  return row
}

/** Flags of those of the events that are here; in no order. */
export async function flagsOf(
  sql: ReadSql,
  ids: readonly EventId[],
): Promise<{ readonly event_id: EventId; readonly type: string; readonly flags: number }[]> {
  if (ids.length === 0) return []
  return sql<{ event_id: EventId; type: string; flags: number }[]>`
    select event_id, type, flags from events where event_id = any(${sql.array([...ids], 25)}::text[])`
}

/** How an event stands with a server that it goes to. */
export interface Delivery {
  readonly server_name: ServerName
  /** It has answered to the transaction that the event was in, or to a later one. */
  readonly arrived: boolean
  /** It is in the transaction that is sent until it arrives. */
  readonly under_way: boolean
  /** Failed attempts in a row. */
  readonly attempts: number
  /** The next attempt is not before. */
  readonly retry_ts: number | null
  readonly last_error: string | null
  readonly last_success_ts: number | null
}

const deliveriesMax = 10_000

/** Servers that were in the room at that position, or whom the event is for although they were not; by name. */
export async function deliveriesOf(
  sql: ReadSql,
  { room_nid, position, sender }: { readonly room_nid: number; readonly position: number; readonly sender: UserId },
): Promise<Delivery[]> {
  return sql<Delivery[]>`
    select d.server_name, d.cursor >= ${position} as arrived,
      d.cursor < ${position} and coalesce(d.transaction_upto, 0) >= ${position} as under_way,
      d.attempts, d.retry_ts, d.last_error, d.last_success_ts
    from (
      select server_name from room_servers
      where room_nid = ${room_nid} and since <= ${position} and (until is null or until >= ${position})
      union
      select also_to from outbound_events where position = ${position} and also_to is not null
    ) to_them join destinations d using (server_name)
    where d.server_name <> server_of(${sender})
    order by d.server_name limit ${deliveriesMax}`
}
