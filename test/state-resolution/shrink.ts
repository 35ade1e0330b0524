/** Makes a case smaller for as long as something stays true of it. */
import type { JsonValue } from '../../shared/matrix/json-value.ts'
import type { ForkCase } from './fork-wars.ts'

/** Tries to leave out state sets, then pieces of them, then all events that nothing refers to any more. */
export async function shrunk(whole: ForkCase, stillFails: (smaller: ForkCase) => Promise<boolean>): Promise<ForkCase> {
  let smallest = withoutUnreferred(whole)
  if (!(await stillFails(smallest))) smallest = whole
  const tried = async (state_sets: readonly (readonly string[])[]): Promise<boolean> => {
    const smaller = withoutUnreferred({ ...smallest, state_sets })
    if (!(await stillFails(smaller))) return false
    smallest = smaller
    return true
  }
  for (let at = 0; at < smallest.state_sets.length && smallest.state_sets.length > 2; ) {
    if (!(await tried(smallest.state_sets.filter((_, i) => i !== at)))) at++
  }
  for (let progress = true; progress; ) {
    progress = false
    for (const id of new Set(smallest.state_sets.flat())) {
      if (await tried(smallest.state_sets.map((set) => set.filter((other) => other !== id)))) progress = true
    }
    for (const at of smallest.state_sets.keys()) {
      for (const id of smallest.state_sets[at] ?? []) {
        const sets = smallest.state_sets.map((set, i) => (i === at ? set.filter((other) => other !== id) : set))
        if (await tried(sets)) progress = true
      }
    }
  }
  return smallest
}

function withoutUnreferred(one: ForkCase): ForkCase {
  const kept = new Set(one.state_sets.flat())
  // The create event is what a room id of version 12 refers to.
  for (const [id, { type, state_key }] of Object.entries(one.events)) {
    if (type === 'm.room.create' && state_key === '') kept.add(id)
  }
  // A set grows while it is walked.
  for (const id of kept) for (const auth of references(one.events[id]?.auth_events)) kept.add(auth)
  return { ...one, events: Object.fromEntries(Object.entries(one.events).filter(([id]) => kept.has(id))) }
}

function references(auth_events: JsonValue | undefined): string[] {
  if (!Array.isArray(auth_events)) return []
  return auth_events.map((reference) => String(Array.isArray(reference) ? reference[0] : reference))
}
