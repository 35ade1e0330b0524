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
  const work = resolution(store, stateSets, conflict, index)
  for (let step = work.next(); ; step = work.next()) {
    if (step.done) return merged(conflict, step.value)
    for (const id of step.value) add(store, id, events(id))
  }
}

/** The same with events that have to be fetched: `load` gets the ids that are lacking, a few times in all. */
export async function resolveStateLoading(
  rules: RoomRules,
  stateSets: readonly StateMap[],
  load: (ids: readonly EventId[]) => Promise<ReadonlyMap<EventId, Pdu>>,
  index: AuthIndex = {},
): Promise<Map<string, EventId>> {
  const conflict = conflictOf(rules, stateSets)
  if (conflict.conflicted.size === 0) return new Map(conflict.agreed)
  return merged(conflict, await resolveConflict(rules, { sets: stateSets, conflict }, load, index))
}

/** The same for a caller who knows where the sets differ: returns events for the keys that are not agreed on. A key that
 *  is conflicted and not in the answer has no event any more. `sets` may leave out what is agreed if an index is given. */
export async function resolveConflict(
  rules: RoomRules,
  state: { readonly sets: readonly StateMap[]; readonly conflict: Conflict },
  load: (ids: readonly EventId[]) => Promise<ReadonlyMap<EventId, Pdu>>,
  index: AuthIndex = {},
): Promise<Map<string, EventId>> {
  const store = new EventStore(rules)
  const work = resolution(store, state.sets, state.conflict, index)
  for (let step = work.next(); ; step = work.next()) {
    if (step.done) return step.value
    const loaded = await load(step.value)
    for (const id of step.value) add(store, id, loaded.get(id))
  }
}

/** Where sets disagree, by the room version's meaning of it. */
export function conflictOf(rules: RoomRules, stateSets: readonly StateMap[]): Conflict {
  return splitStateSets(stateSets, rules.stateResolution !== 'v1')
}

function resolution(
  store: EventStore,
  sets: readonly StateMap[],
  conflict: Conflict,
  index: AuthIndex,
): Work<Map<string, EventId>> {
  return store.rules.stateResolution === 'v1' ? resolveV1(store, conflict) : resolveV2(store, sets, conflict, index)
}

function add(store: EventStore, id: EventId, pdu: Pdu | undefined): void {
  if (!pdu) throw new MissingEventError(id)
  store.add(id, pdu)
}

function merged(conflict: Conflict, resolved: ReadonlyMap<string, EventId>): Map<string, EventId> {
  const state = new Map(conflict.agreed)
  for (const [key, id] of resolved) state.set(key, id)
  return state
}
