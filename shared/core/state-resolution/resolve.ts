/** State resolution: one state for several. https://spec.matrix.org/v1.19/server-server-api/#room-state-resolution */
import type { EventId } from '../../matrix/ids.ts'
import type { Pdu } from '../../matrix/pdu.ts'
import type { RoomRules } from '../room-versions.ts'
import { EventStore, MissingEventError, type Work } from './event-store.ts'
import { resolveV1 } from './resolve-v1.ts'
import { type AuthIndex, resolveV2 } from './resolve-v2.ts'
import { type Conflict, type StateMap, splitStateSets } from './state-sets.ts'

/** Resolves complete state sets. `events` gives every event of the sets and of their auth chains; with an index, only
 *  those that are in conflict and what they rest on are asked for. Throws MissingEventError where it has none. */
export function resolveState(
  rules: RoomRules,
  stateSets: readonly StateMap[],
  events: (id: EventId) => Pdu | undefined,
  index: AuthIndex = {},
): Map<string, EventId> {
  const conflict = conflictOf(rules, stateSets)
  if (conflict.conflicted.size === 0) return new Map(conflict.agreed)
  const store = new EventStore(rules)
  const work = conflictResolution(store, { sets: stateSets, conflict }, index)
  for (let step = work.next(); ; step = work.next()) {
    if (step.done) return merged(conflict, step.value)
    for (const id of step.value) {
      const pdu = events(id)
      if (!pdu) throw new MissingEventError(id)
      store.add(id, pdu)
    }
  }
}

/** Where sets disagree, by the room version's meaning of it. */
export function conflictOf(rules: RoomRules, stateSets: readonly StateMap[]): Conflict {
  return splitStateSets(stateSets, rules.stateResolution !== 'v1')
}

/** The work itself, for a caller who knows where the sets differ and who brings in events as it yields their ids; it
 *  yields none now and then, where a caller may see to other things. Returns events for keys that are not agreed on: a
 *  conflicted key that is not in the answer has no event any more. `sets` is not read if there is an index. */
export function conflictResolution(
  store: EventStore,
  state: { readonly sets: readonly StateMap[]; readonly conflict: Conflict },
  index: AuthIndex,
): Work<Map<string, EventId>> {
  return store.rules.stateResolution === 'v1'
    ? resolveV1(store, state.conflict)
    : resolveV2(store, state.sets, state.conflict, index)
}

function merged(conflict: Conflict, resolved: ReadonlyMap<string, EventId>): Map<string, EventId> {
  const state = new Map(conflict.agreed)
  for (const [key, id] of resolved) state.set(key, id)
  return state
}
