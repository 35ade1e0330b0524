/** The auth events graph of state sets, over integers: each event is visited once, and what reaches what is one bit an
 *  event and state set, passed along the edges in topological order. */
import type { EventId } from '../../matrix/ids.ts'
import type { EventStore, Work } from './event-store.ts'
import type { StateMap } from './state-sets.ts'

interface AuthGraph {
  readonly ids: readonly EventId[]
  readonly indexOf: ReadonlyMap<EventId, number>
  /** Indexes of an event's auth events. */
  readonly edges: readonly (readonly number[])[]
  /** All indexes; an event comes before its auth events. */
  readonly order: readonly number[]
}

/** Events in the auth chain of some sets but not of all. An event of a set is itself in that set's auth chain. */
export function* authDifference(store: EventStore, sets: readonly StateMap[]): Work<Set<EventId>> {
  const graph = yield* authGraph(store, distinctEvents(sets))
  const words = Math.ceil(sets.length / 32)
  const reach = new Uint32Array(graph.ids.length * words)
  for (const [s, set] of sets.entries()) {
    const word = s >>> 5
    const bit = 1 << (s & 31)
    for (const id of set.values()) {
      const at = (graph.indexOf.get(id) ?? 0) * words + word
      reach[at] = (reach[at] ?? 0) | bit
    }
  }
  for (const index of graph.order) {
    for (const auth of graph.edges[index] ?? []) {
      for (let w = 0; w < words; w++) {
        const at = auth * words + w
        reach[at] = (reach[at] ?? 0) | (reach[index * words + w] ?? 0)
      }
    }
  }
  const all = new Uint32Array(words).fill(0xffffffff)
  if (sets.length % 32 !== 0) all[words - 1] = 2 ** (sets.length % 32) - 1
  const difference = new Set<EventId>()
  for (const [index, id] of graph.ids.entries()) {
    for (let w = 0; w < words; w++) {
      if (reach[index * words + w] !== all[w]) {
        difference.add(id)
        break
      }
    }
  }
  return difference
}

/** Version 12: events on a path along auth events from one conflicted event to another, ends included. */
export function* conflictedSubgraph(store: EventStore, conflicted: readonly EventId[]): Work<Set<EventId>> {
  const graph = yield* authGraph(store, conflicted)
  const below = new Uint8Array(graph.ids.length)
  const above = new Uint8Array(graph.ids.length)
  for (const id of conflicted) {
    const index = graph.indexOf.get(id) ?? 0
    below[index] = 1
    above[index] = 1
  }
  for (const index of graph.order) {
    if (below[index]) for (const auth of graph.edges[index] ?? []) below[auth] = 1
  }
  for (const index of graph.order.toReversed()) {
    if (graph.edges[index]?.some((auth) => above[auth])) above[index] = 1
  }
  return new Set(graph.ids.filter((_, index) => below[index] && above[index]))
}

function distinctEvents(sets: readonly StateMap[]): EventId[] {
  const ids = new Set<EventId>()
  for (const set of sets) for (const id of set.values()) ids.add(id)
  return [...ids]
}

/** Everything that the auth chains of `from` reach, `from` included. */
function* authGraph(store: EventStore, from: readonly EventId[]): Work<AuthGraph> {
  const ids: EventId[] = []
  const indexOf = new Map<EventId, number>()
  const place = (id: EventId): number => {
    let index = indexOf.get(id)
    if (index === undefined) {
      index = ids.length
      indexOf.set(id, index)
      ids.push(id)
    }
    return index
  }
  for (const id of from) place(id)
  const edges: number[][] = []
  while (edges.length < ids.length) {
    const frontier = ids.slice(edges.length)
    yield* store.need(frontier)
    for (const id of frontier) edges.push(store.authEventIds(store.get(id)).map(place))
  }
  return { ids, indexOf, edges, order: topologicalOrder(edges) }
}

function topologicalOrder(edges: readonly (readonly number[])[]): number[] {
  const referrers = new Uint32Array(edges.length)
  for (const auths of edges) for (const auth of auths) referrers[auth] = (referrers[auth] ?? 0) + 1
  const order: number[] = []
  for (let index = 0; index < edges.length; index++) if (referrers[index] === 0) order.push(index)
  for (let next = 0; next < order.length; next++) {
    for (const auth of edges[order[next] as number] ?? []) {
      const left = (referrers[auth] ?? 0) - 1
      referrers[auth] = left
      if (left === 0) order.push(auth)
    }
  }
  if (order.length < edges.length) throw new Error('auth_events form a cycle')
  return order
}
