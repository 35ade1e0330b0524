/** The iterative auth checks. https://spec.matrix.org/v1.19/rooms/v11/#definitions */
import type { EventId } from '../../matrix/ids.ts'
import type { Pdu } from '../../matrix/pdu.ts'
import { type AuthState, checkAuth } from '../auth-rules.ts'
import { authEventKeys } from '../auth-selection.ts'
import type { EventStore, Work } from './event-store.ts'
import { type StateMap, stateKey } from './state-sets.ts'

/** Checks between two places where the caller may see to other things. */
const checksPerTurn = 256

/** Applies `events` in order to `resolved`, which lies over `base`; what the rules forbid is left out. */
export function* iterativeAuthChecks(
  store: EventStore,
  events: readonly EventId[],
  base: StateMap,
  resolved: Map<string, EventId>,
): Work<void> {
  yield* store.need(neededState(store, events, base))
  yield* store.needAuthEventsOf(events)
  yield* store.needCreateOf(events)
  for (const [i, id] of events.entries()) {
    if (i % checksPerTurn === checksPerTurn - 1) yield []
    const pdu = store.get(id)
    if (pdu.state_key === undefined) continue
    if (checkAuth(store.rules, pdu, stateFor(store, pdu, base, resolved)).allowed) {
      resolved.set(stateKey(pdu.type, pdu.state_key), id)
    }
  }
}

/** State that the checks will look at, as far as it is of the base. */
function* neededState(store: EventStore, events: readonly EventId[], base: StateMap): Generator<EventId> {
  for (const id of events) {
    for (const [type, state_key] of authEventKeys(store.rules, store.get(id))) {
      const held = base.get(stateKey(type, state_key))
      if (held !== undefined) yield held
    }
  }
}

/** What is not in the state comes from the event's own auth events, unless those were rejected. */
function stateFor(store: EventStore, pdu: Pdu, base: StateMap, resolved: StateMap): AuthState {
  return {
    get(type, state_key) {
      const key = stateKey(type, state_key)
      const id = resolved.get(key) ?? base.get(key)
      if (id !== undefined) return store.get(id)
      const event = store.authEvent(pdu, type, state_key)
      return event?.rejected ? undefined : event
    },
  }
}
