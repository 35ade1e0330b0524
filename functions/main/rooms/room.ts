/** A warm room: what the engine holds of a room in memory, so that a send needs no query. One task at a time changes it;
 *  what it says runs ahead of the database by the commits in flight. */
import type { AuthState } from '../../../shared/core/auth-rules.ts'
import type { RoomRules } from '../../../shared/core/room-versions.ts'
import type { EventId, RoomId, UserId } from '../../../shared/matrix/ids.ts'
import type { Pdu } from '../../../shared/matrix/pdu.ts'
import { stateMapKey } from '../persist/state-types.ts'
import type { RoomSummaryWrite } from '../persist/writes.ts'
import type { RoomPush } from './push-outcomes.ts'

export type StateKey = readonly [type: string, state_key: string]

/** One entry of the current state. `pdu` and `content` are there once something asked for them. */
export interface StateEntry {
  readonly event_nid: number
  readonly event_id: EventId
  readonly sender: UserId
  /** For m.room.member. */
  readonly membership?: string | undefined
  loaded?: { readonly pdu: Pdu; readonly content: string } | undefined
}

export interface Extremity {
  readonly event_nid: number
  readonly event_id: EventId
  readonly depth: number
  readonly state_root: number
}

/** A joined user of this server: whom an event of the room can notify. */
export interface LocalMember {
  readonly user_id: UserId
  readonly display_name: string | undefined
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] }
export type RoomSummary = Mutable<Omit<RoomSummaryWrite, 'room_nid'>>

export interface Room {
  readonly room_nid: number
  /** Of a room whose id is its create event's hash, known from that event on. */
  room_id: RoomId
  readonly rules: RoomRules
  extremities: readonly Extremity[]
  depth: number
  /** The state before the next event that names all extremities. */
  state_root: number
  /** That state, by stateMapKey. */
  readonly state: Map<string, StateEntry>
  readonly summary: RoomSummary
  readonly local_members: Map<UserId, LocalMember>
  /** Whom events notify; made by the first event. */
  push: RoomPush | undefined
  /** Thread roots of the newest events ('' for none), to place what relates to them. */
  readonly threads: Map<EventId, EventId | ''>
  /** Reactions sent but perhaps not yet stored. */
  readonly reactions: Set<string>
  /** Set when a commit failed or a task hung: this copy is no longer the room, and may not write. */
  stale: boolean
  /** Tasks that use this copy, and its commits in flight; it is not evicted while there are any. */
  tasks: number
  commits: number
}

/** How many previous events an event may name; the rest wait for the next one.
 *  https://spec.matrix.org/v1.19/rooms/v11/#event-format: at most 20, fewer are kinder. */
export const prevEventsMax = 10
const recentThreadsMax = 512

export function stateEntry(room: Room, type: string, state_key: string): StateEntry | undefined {
  return room.state.get(stateMapKey(type, state_key))
}

/** The state event as a PDU; it must have been loaded, which `ensureLoaded` does. */
export function statePdu(room: Room, type: string, state_key: string): Pdu | undefined {
  const entry = stateEntry(room, type, state_key)
  if (!entry) return undefined
  if (!entry.loaded) throw new Error(`state ${type} ${state_key} of ${room.room_id} is used before it was loaded`)
  return entry.loaded.pdu
}

export function authStateOf(room: Room): AuthState {
  return { get: (type, state_key) => statePdu(room, type, state_key) }
}

/** `leave` where the room has never heard of the user. */
export function membershipOf(room: Room, user: string): string {
  return stateEntry(room, 'm.room.member', user)?.membership ?? 'leave'
}

/** Remembers whether an event is in a thread; the newest few hundred are kept. */
export function rememberThread(room: Room, event_id: EventId, root: EventId | ''): void {
  room.threads.set(event_id, root)
  if (room.threads.size > recentThreadsMax) {
    const oldest = room.threads.keys().next().value
    if (oldest !== undefined) room.threads.delete(oldest)
  }
}

/** A close enough estimate of the memory that the room takes. */
export function roomBytes(room: Room): number {
  let bytes = 4096 + room.threads.size * 160 + room.local_members.size * 120
  for (const entry of room.state.values()) bytes += 240 + (entry.loaded ? 600 + entry.loaded.content.length * 4 : 0)
  return bytes
}

/** A room that has no event yet. */
export function emptyRoom(room_nid: number, room_id: RoomId, rules: RoomRules): Room {
  return {
    room_nid,
    room_id,
    rules,
    extremities: [],
    depth: 0,
    state_root: 0,
    state: new Map(),
    summary: { joined_members: 0, invited_members: 0 },
    local_members: new Map(),
    push: undefined,
    threads: new Map(),
    reactions: new Set(),
    stale: false,
    tasks: 0,
    commits: 0,
  }
}
