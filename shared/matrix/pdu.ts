/** A persistent data unit as the core sees it, whatever the room version's wire format.
 *  https://spec.matrix.org/v1.19/server-server-api/#pdus */
import type { EventId, RoomId, UserId } from './ids.ts'
import type { JsonObject } from './json-value.ts'

export interface Pdu {
  /** Given on the wire in room versions 1 and 2, computed from the reference hash later. */
  readonly event_id: EventId
  /** In version 12 the create event has none on the wire; here it is always set. */
  readonly room_id: RoomId
  readonly type: string
  readonly state_key?: string
  readonly sender: UserId
  readonly content: JsonObject
  /** Ids alone, also where the wire format pairs them with hashes. */
  readonly prev_events: readonly EventId[]
  readonly auth_events: readonly EventId[]
  readonly depth: number
  readonly origin_server_ts: number
  /** From the top level or from the content, as the room version says. */
  readonly redacts?: EventId
  /** The event failed an auth check earlier. */
  readonly rejected?: boolean
}

/** A PDU that has a state key. */
export type StatePdu = Pdu & { readonly state_key: string }
