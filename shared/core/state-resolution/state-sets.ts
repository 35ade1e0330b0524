/** State as maps, and where several of them disagree. */
import type { EventId } from '../../matrix/ids.ts'

/** Room state: event ids by `stateKey`. */
export type StateMap = ReadonlyMap<string, EventId>

export function stateKey(type: string, state_key: string): string {
  return `${type}\0${state_key}`
}

export interface Conflict {
  /** Keys that have one event in all sets: the *unconflicted state map*. */
  readonly agreed: StateMap
  /** Per key the distinct events of the sets: together the *conflicted state set*. */
  readonly conflicted: ReadonlyMap<string, readonly EventId[]>
}

/** Splits state sets. `missingIsConflict`: from version 2 on a key that some set lacks is conflicted; in version 1 only
 *  different events are. */
export function splitStateSets(sets: readonly StateMap[], missingIsConflict: boolean): Conflict {
  const agreed = new Map<string, EventId>()
  const conflicted = new Map<string, EventId[]>()
  const notInFirst = new Set<string>()
  const [first, ...rest] = sets
  if (!first) return { agreed, conflicted }
  // What the first set says, unless another contradicts it: then the walk below is over differences alone.
  for (const [key, id] of first) agreed.set(key, id)
  for (const set of rest) {
    for (const [key, id] of set) {
      const known = agreed.get(key)
      if (known === id) continue
      if (known !== undefined) {
        agreed.delete(key)
        conflicted.set(key, [known, id])
        continue
      }
      const ids = conflicted.get(key)
      if (ids === undefined) {
        agreed.set(key, id)
        notInFirst.add(key)
      } else if (!ids.includes(id)) ids.push(id)
    }
  }
  if (missingIsConflict) {
    // A key that the first set lacks is conflicted, however many of the others have it.
    for (const key of notInFirst) {
      const id = agreed.get(key)
      if (id === undefined) continue
      agreed.delete(key)
      conflicted.set(key, [id])
    }
    for (const key of first.keys()) {
      const id = agreed.get(key)
      if (id === undefined || rest.every((set) => set.has(key))) continue
      agreed.delete(key)
      conflicted.set(key, [id])
    }
  }
  return { agreed, conflicted }
}
