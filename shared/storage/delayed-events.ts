/** Reads of delayed events. */
import type { EventId, RoomId, UserId } from '../matrix/ids.ts'
import { fromPgText, pgText, type ReadSql } from './sql.ts'

export interface DelayedEvent {
  readonly delay_id: string
  readonly user_id: UserId
  readonly device_id: string | null
  readonly room_id: RoomId
  readonly type: string
  readonly state_key: string | null
  /** JSON text. */
  readonly content: string
  readonly delay_ms: number
  readonly scheduled_ts: number
  readonly send_ts: number
  /** null: it is scheduled. */
  readonly finalised_ts: number | null
  readonly event_id: EventId | null
  /** JSON text. */
  readonly error: string | null
}

/** Whatever became of it; undefined: there is none of this id, or it was long ago. */
export async function delayedEventById(sql: ReadSql, delay_id: string): Promise<DelayedEvent | undefined> {
  const [row] = await sql<
    DelayedEvent[]
  >`select ${columns(sql)} from delayed_events where delay_id = ${pgText(delay_id)}`
  return row && outside(row)
}

/** Those that are scheduled, the next due first; as many as a user may have. */
export async function scheduledEventsOf(sql: ReadSql, user_id: UserId): Promise<DelayedEvent[]> {
  const rows = await sql<DelayedEvent[]>`
    select ${columns(sql)} from delayed_events where user_id = ${user_id} and finalised_ts is null
    order by send_ts, place`
  return rows.map(outside)
}

const columns = (sql: ReadSql) =>
  sql`delay_id, user_id, device_id, room_id, type, state_key, content, delay_ms, scheduled_ts, send_ts, finalised_ts,
    event_id, error`

function outside(row: DelayedEvent): DelayedEvent {
  return {
    ...row,
    device_id: row.device_id === null ? null : fromPgText(row.device_id),
    type: fromPgText(row.type),
    state_key: row.state_key === null ? null : fromPgText(row.state_key),
  }
}
