/** What became of an event, step by step, from what the tables hold. */
import { rulesOf } from '../../../shared/core/room-versions.ts'
import type { EventId, ServerName } from '../../../shared/matrix/ids.ts'
import { serverNameOf } from '../../../shared/matrix/ids.ts'
import {
  type Delivery,
  deliveriesOf,
  type EventHistory,
  eventHistory,
  flagsOf,
  type StagedHistory,
  stagedHistory,
} from '../../../shared/storage/event-history.ts'
import type { ReadSql } from '../../../shared/storage/sql.ts'

export interface Step {
  readonly step: 'event' | 'received' | 'checked' | 'stored' | 'published' | 'sent'
  /** One sentence, or a few words. */
  readonly what: string
  /** Milliseconds since 1970, where it is known. */
  readonly at?: number
  /** Of `sent`: the server. */
  readonly to?: ServerName
}

const rejected = 1
const softFailed = 2
const outlier = 4

/** undefined: this server knows nothing of it. */
export async function storyOf(
  sql: ReadSql,
  {
    event_id,
    server_name,
    now,
  }: { readonly event_id: EventId; readonly server_name: ServerName; readonly now: number },
): Promise<readonly Step[] | undefined> {
  const [event, staged] = await Promise.all([eventHistory(sql, event_id), stagedHistory(sql, event_id)])
  if (!event) return staged && waiting(staged)
  const [auth, previous, deliveries] = await Promise.all([
    flagsOf(sql, event.auth_events),
    flagsOf(sql, event.prev_events),
    event.position === null ? [] : deliveriesOf(sql, { ...event, position: event.position }),
  ])
  const isOwn = serverNameOf(event.sender) === server_name
  return [
    { step: 'event', what: described(event), at: event.origin_server_ts },
    received(event, isOwn),
    checked(event, auth),
    stored(event, previous.length),
    published(event),
    ...sent(event, deliveries, { isOwn, now }),
  ]
}

function waiting({ room_id, origin, received_ts, ahead }: StagedHistory): Step[] {
  return [
    { step: 'received', what: `from ${origin}, for ${room_id}`, at: received_ts },
    { step: 'checked', what: 'format, signatures and content hash hold' },
    { step: 'stored', what: `waits for events that it builds on, behind ${ahead} others of its room` },
  ]
}

function described({ room_id, room_version, type, state_key, sender, redacted_by }: EventHistory): string {
  const key = state_key === null ? '' : ` of ${JSON.stringify(state_key)}`
  const gone = redacted_by === null ? '' : `, redacted by ${redacted_by}`
  return `${type}${key} by ${sender} in ${room_id}, room version ${room_version}${gone}; its time is its server's word`
}

function received({ sender, device_id, txn_id }: EventHistory, isOwn: boolean): Step {
  if (!isOwn) return { step: 'received', what: `from another server; ${serverNameOf(sender)} made it` }
  const from = device_id === null ? '' : ` by device ${device_id}`
  return { step: 'received', what: `made here${from}${txn_id === null ? '' : `, transaction ${txn_id}`}` }
}

function checked(
  { flags, type, room_version, auth_events }: EventHistory,
  auth: Awaited<ReturnType<typeof flagsOf>>,
): Step {
  const bad = auth.filter((one) => (one.flags & rejected) !== 0).map((one) => `${one.type} ${one.event_id}`)
  const absent = auth_events.length - auth.length
  const why = [
    ...(bad.length > 0 ? [`it rests on what was rejected: ${bad.join(', ')}`] : []),
    ...(absent > 0 ? [`${absent} of its auth events are not here`] : []),
  ]
  const reasons = why.length > 0 ? `; ${why.join('; ')}` : ''
  const rules = rulesOf(room_version) ? '' : `; room version ${room_version} is not known here`
  if ((flags & rejected) !== 0)
    return { step: 'checked', what: `rejected by the authorisation rules of ${type}${reasons}${rules}` }
  if ((flags & softFailed) !== 0) {
    return {
      step: 'checked',
      what: 'soft-failed: allowed where it was sent, and not by the state of the room when it came here; nobody sees it',
    }
  }
  return { step: 'checked', what: `allowed${reasons}${rules}` }
}

function stored(
  { flags, stored_ts, origin_server_ts, position, is_current, is_extremity, prev_events }: EventHistory,
  previous: number,
): Step {
  const said = [
    (flags & outlier) !== 0
      ? 'as an outlier: part of a state or an auth chain, not of the timeline'
      : position === null
        ? 'beside the timeline'
        : position < 0
          ? 'as history that was fetched later'
          : 'in the timeline',
    ...(is_current ? ['it is the room’s state now'] : []),
    ...(is_extremity ? ['it is one of the newest events'] : []),
    ...(previous < prev_events.length
      ? [`${prev_events.length - previous} of ${prev_events.length} previous events are not here`]
      : []),
  ]
  if (stored_ts === null) return { step: 'stored', what: `${said.join('; ')}; before times were kept` }
  return {
    step: 'stored',
    what: `${said.join('; ')}; ${duration(stored_ts - origin_server_ts)} after its own time`,
    at: stored_ts,
  }
}

function published({ position, stream_position, stored_ts }: EventHistory): Step {
  if (position === null) return { step: 'published', what: 'no: clients never see it' }
  if (position < 0) return { step: 'published', what: 'no: clients find it when they look at what came before' }
  const what = `with its commit, at position ${position} of stream events, which stands at ${stream_position}`
  return stored_ts === null ? { step: 'published', what } : { step: 'published', what, at: stored_ts }
}

function sent(
  { outbound, position }: EventHistory,
  deliveries: readonly Delivery[],
  { isOwn, now }: { readonly isOwn: boolean; readonly now: number },
): Step[] {
  if (position === null) return [{ step: 'sent', what: 'no: it is not part of the timeline' }]
  if (!isOwn && !outbound) return [{ step: 'sent', what: 'no: its own server sends it' }]
  if (deliveries.length === 0) return [{ step: 'sent', what: 'to nobody: no other server was in the room' }]
  return deliveries.map((delivery) => ({ step: 'sent', to: delivery.server_name, ...toOne(delivery, now) }))
}

function toOne(delivery: Delivery, now: number): { readonly what: string; readonly at?: number } {
  const { arrived, under_way, attempts, retry_ts, last_error, last_success_ts } = delivery
  if (arrived)
    return {
      what: `it has it${last_success_ts === null ? '' : `; it last answered ${duration(now - last_success_ts)} ago`}`,
    }
  const state = under_way ? 'on its way' : 'waits for its turn'
  if (attempts === 0) return { what: state }
  const next = retry_ts === null || retry_ts <= now ? 'now' : `in ${duration(retry_ts - now)}`
  return {
    what: `${state}; ${attempts} attempts failed, the last: ${last_error ?? 'no reason given'}; the next is ${next}`,
  }
}

const units: readonly (readonly [number, string])[] = [
  [86_400_000, 'days'],
  [3_600_000, 'hours'],
  [60_000, 'minutes'],
  [1_000, 'seconds'],
]

/** In the largest unit of which there is at least one. */
function duration(ms: number): string {
  const [size, name] = units.find(([unit]) => Math.abs(ms) >= unit) ?? [1, 'ms']
  return `${Number((ms / size).toFixed(1))} ${name}`
}
