/** State resolution of room version 1. https://spec.matrix.org/v1.19/rooms/v1/#state-resolution
 *  Each key is resolved by itself, as deployed servers do: its events see what earlier passes decided. */
import { createHash } from 'node:crypto'
import type { EventId } from '../../matrix/ids.ts'
import type { Pdu } from '../../matrix/pdu.ts'
import { type AuthState, checkAuth } from '../auth-rules.ts'
import { authEventKeys } from '../auth-selection.ts'
import type { EventStore, Work } from './event-store.ts'
import { type Conflict, type StateMap, stateKey } from './state-sets.ts'

const levelsKey = stateKey('m.room.power_levels', '')
/** In this order: later ones depend on earlier ones. */
const authPasses: readonly ((key: string) => boolean)[] = [
  (key) => key === levelsKey,
  (key) => key.startsWith('m.room.join_rules\0'),
  (key) => key.startsWith('m.room.member\0'),
]

export function* resolveV1(store: EventStore, conflict: Conflict): Work<Map<string, EventId>> {
  const { agreed, conflicted } = conflict
  const all = [...conflicted.values()].flat()
  yield* store.need(all)
  yield* store.need(agreedStateFor(store, all, agreed))

  const resolved = new Map<string, EventId>()
  const left = new Map(conflicted)
  for (const isOfPass of authPasses) {
    const pass = new Map<string, EventId>()
    for (const [key, ids] of left) {
      if (!isOfPass(key)) continue
      left.delete(key)
      pass.set(key, lastAllowed(store, key, ids, agreed, resolved))
    }
    for (const [key, id] of pass) resolved.set(key, id)
  }
  const others = new Map<string, EventId>()
  for (const [key, ids] of left) others.set(key, firstAllowed(store, ids, agreed, resolved))
  for (const [key, id] of others) resolved.set(key, id)
  return resolved
}

function* agreedStateFor(store: EventStore, ids: readonly EventId[], agreed: StateMap): Generator<EventId> {
  for (const id of ids) {
    for (const [type, state_key] of authEventKeys(store.rules, store.get(id))) {
      const held = agreed.get(stateKey(type, state_key))
      if (held !== undefined) yield held
    }
  }
}

/** From the shallowest on: the last event that the one before it still allows. */
function lastAllowed(
  store: EventStore,
  key: string,
  ids: readonly EventId[],
  agreed: StateMap,
  resolved: StateMap,
): EventId {
  const [first, ...rest] = deepestFirst(store, ids).toReversed()
  if (first === undefined) throw new Error('a conflict without events')
  let last = first
  for (const pdu of rest) {
    const current = new Map(resolved).set(key, last.event_id)
    if (!checkAuth(store.rules, pdu, stateOf(store, agreed, current)).allowed) break
    last = pdu
  }
  return last.event_id
}

/** The deepest event that is allowed; the shallowest if none is. */
function firstAllowed(store: EventStore, ids: readonly EventId[], agreed: StateMap, resolved: StateMap): EventId {
  const events = deepestFirst(store, ids)
  const state = stateOf(store, agreed, resolved)
  const chosen = events.find((pdu) => checkAuth(store.rules, pdu, state).allowed) ?? events[events.length - 1]
  if (!chosen) throw new Error('a conflict without events')
  return chosen.event_id
}

/** Descending depth, then ascending SHA-1 of the event id. */
function deepestFirst(store: EventStore, ids: readonly EventId[]): Pdu[] {
  return ids
    .map((id) => ({ pdu: store.get(id), hash: createHash('sha1').update(id).digest('hex') }))
    .sort((x, y) => y.pdu.depth - x.pdu.depth || (x.hash < y.hash ? -1 : 1))
    .map(({ pdu }) => pdu)
}

function stateOf(store: EventStore, agreed: StateMap, resolved: StateMap): AuthState {
  return {
    get(type, state_key) {
      const key = stateKey(type, state_key)
      const id = resolved.get(key) ?? agreed.get(key)
      return id === undefined ? undefined : store.get(id)
    },
  }
}
