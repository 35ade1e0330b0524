/** An event on its way into a room that it was not made in. */
import type { StoredEvent } from '../../../shared/matrix/event-format.ts'
import { type EventId, serverNameOf } from '../../../shared/matrix/ids.ts'
import type { Pdu } from '../../../shared/matrix/pdu.ts'
import type { MainSql } from '../../../shared/storage/sql.ts'
import type { EventWrite } from '../persist/writes.ts'
import type { AuthChainEvent } from './auth-chains.ts'
import { relationOf, rowOf } from './event-row.ts'
import { ensureLoaded } from './load-room.ts'
import type { KnownEvent } from './received-batch.ts'
import { hasRedactLevel, redactionTarget } from './redact.ts'
import type { Room } from './room.ts'

export interface ReceivedEvent {
  readonly event: StoredEvent
  readonly event_nid: number
  /** Its row is there, as an outlier's. */
  readonly placed: boolean
  readonly previous: readonly KnownEvent[]
  /** Its auth events, all of them. */
  readonly auth: readonly { readonly pdu: Pdu; readonly event_nid: number }[]
}

/** The event as it is kept where no timeline shows it. */
export function hiddenWrite(
  room: Pick<Room, 'room_nid' | 'room_id'>,
  { event, event_nid, placed }: Pick<ReceivedEvent, 'event' | 'event_nid' | 'placed'>,
  { state_root, flags }: { readonly state_root: number; readonly flags: number },
): EventWrite {
  const { pdu, content, envelope } = event
  const row = rowOf(room, { event_nid, pdu, content, relation: relationOf(pdu.content), thread_root: undefined })
  const write = { row, envelope, depth: pdu.depth, state_root, flags, visible: false, current_state: false }
  return placed ? { ...write, placed } : write
}

/** For the cover of auth chains. An event that names the one before it of the same key goes on in its chain. */
export function chainOf({
  event,
  event_nid,
  auth,
}: Pick<ReceivedEvent, 'event' | 'event_nid' | 'auth'>): AuthChainEvent {
  const { type, state_key } = event.pdu
  const before = auth.find(({ pdu }) => pdu.type === type && pdu.state_key === state_key)
  return {
    event_nid,
    auth_event_nids: auth.map((one) => one.event_nid),
    ...(before ? { replaces_nid: before.event_nid } : undefined),
  }
}

/** https://spec.matrix.org/v1.19/rooms/v11/#handling-redactions: by power, or by the server that the event is of. */
export async function mayRedact(sql: MainSql, room: Room, pdu: Pdu, redacts: EventId): Promise<boolean> {
  if (room.rules.redactionsAreAuthorised) return true
  await ensureLoaded(sql, room, [['m.room.power_levels', '']])
  if (hasRedactLevel(room, pdu.sender)) return true
  const target = await redactionTarget(sql, room, redacts)
  return target !== undefined && serverNameOf(target.sender) === serverNameOf(pdu.sender)
}
