/** State resolution of room versions 2 to 11 (v2) and 12 (v2.1). https://spec.matrix.org/v1.19/rooms/v12/#state-resolution
 *
 *  Where deployed servers differ from the letter, rooms would split, so this does as they do: an event of a state set is
 *  in that set's auth chain; what a power event rests on is followed within the full conflicted set only; and in v2.1
 *  there is no mainline while no power levels are conflicted, since the partly resolved state starts empty. */
import type { EventId } from '../../matrix/ids.ts'
import { authDifference, conflictedSubgraph } from './auth-graph.ts'
import type { EventStore, Work } from './event-store.ts'
import { iterativeAuthChecks } from './iterative-auth.ts'
import { mainlineOrder } from './mainline-order.ts'
import { powerOrder } from './power-order.ts'
import { type Conflict, type StateMap, stateKey } from './state-sets.ts'

/** What an index of auth chains knows without a walk. */
export interface AuthIndex {
  /** The auth difference of the state sets. */
  readonly difference?: ReadonlySet<EventId>
  /** The conflicted state subgraph; asked for from version 12 on. */
  readonly subgraph?: ReadonlySet<EventId>
}

const nothing: StateMap = new Map()

export function* resolveV2(
  store: EventStore,
  sets: readonly StateMap[],
  conflict: Conflict,
  index: AuthIndex,
): Work<Map<string, EventId>> {
  const { agreed } = conflict
  const conflicted = [...conflict.conflicted.values()].flat()
  const startsEmpty = store.rules.stateResolution === 'v2.1'

  const full = new Set(conflicted)
  for (const id of index.difference ?? (yield* authDifference(store, sets))) full.add(id)
  if (startsEmpty) {
    for (const id of index.subgraph ?? (yield* conflictedSubgraph(store, conflicted))) full.add(id)
  }
  yield* store.need(full)

  // 1. The power events and what they rest on, in the reverse topological power ordering.
  const power = yield* powerOrder(store, full)
  // 2. Applied to the unconflicted state map, or from version 12 on to nothing.
  const base = startsEmpty ? nothing : agreed
  const resolved = new Map<string, EventId>()
  yield* iterativeAuthChecks(store, power, base, resolved)
  // 3. The rest, in the mainline ordering.
  const levelsKey = stateKey('m.room.power_levels', '')
  const placed = new Set(power)
  const rest = [...full].filter((id) => !placed.has(id))
  const ordered = yield* mainlineOrder(store, rest, resolved.get(levelsKey) ?? base.get(levelsKey))
  // 4. Applied to that.
  yield* iterativeAuthChecks(store, ordered, base, resolved)
  // 5. What was never in conflict stays.
  for (const key of resolved.keys()) if (agreed.has(key)) resolved.delete(key)
  return resolved
}
