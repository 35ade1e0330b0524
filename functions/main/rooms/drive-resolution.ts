/** Runs the core's state resolution: fetches the events that it asks for, and lets others have their turn on the way. */
import { setImmediate as turn } from 'node:timers/promises'
import type { RoomRules } from '../../../shared/core/room-versions.ts'
import { EventStore, MissingEventError } from '../../../shared/core/state-resolution/event-store.ts'
import { conflictResolution } from '../../../shared/core/state-resolution/resolve.ts'
import type { AuthIndex } from '../../../shared/core/state-resolution/resolve-v2.ts'
import type { Conflict, StateMap } from '../../../shared/core/state-resolution/state-sets.ts'
import type { EventId } from '../../../shared/matrix/ids.ts'
import type { Pdu } from '../../../shared/matrix/pdu.ts'

/** Events for the keys that the sets do not agree on; a conflicted key that is not in the answer has no event any more.
 *  `load` gets ids that are lacking, a few times in all. Throws MissingEventError for what it does not return. */
export async function resolveConflict(
  rules: RoomRules,
  state: { readonly sets: readonly StateMap[]; readonly conflict: Conflict },
  load: (ids: readonly EventId[]) => Promise<ReadonlyMap<EventId, Pdu>>,
  index: AuthIndex = {},
): Promise<Map<string, EventId>> {
  const store = new EventStore(rules)
  const work = conflictResolution(store, state, index)
  for (let step = work.next(); ; step = work.next()) {
    if (step.done) return step.value
    if (step.value.length === 0) {
      await turn()
      continue
    }
    const loaded = await load(step.value)
    for (const id of step.value) {
      const pdu = loaded.get(id)
      if (!pdu) throw new MissingEventError(id)
      store.add(id, pdu)
    }
  }
}
