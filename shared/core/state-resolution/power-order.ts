/** The reverse topological power ordering. https://spec.matrix.org/v1.19/rooms/v11/#definitions */
import type { EventId } from '../../matrix/ids.ts'
import type { Pdu } from '../../matrix/pdu.ts'
import { powerLevelOf } from '../power-levels.ts'
import type { EventStore, Work } from './event-store.ts'

/** An event that might take away someone's ability to do something. The create event counts where it is conflicted: that
 *  is what deployed servers do, and that the state key is empty. */
export function isPowerEvent(pdu: Pdu): boolean {
  switch (pdu.type) {
    case 'm.room.power_levels':
    case 'm.room.join_rules':
    case 'm.room.create':
      return pdu.state_key === ''
    case 'm.room.member': {
      const { membership } = pdu.content
      return (membership === 'leave' || membership === 'ban') && pdu.sender !== pdu.state_key
    }
    default:
      return false
  }
}

/** Power events of `full`, and what they reach within it along auth events, earliest first. */
export function* powerOrder(store: EventStore, full: ReadonlySet<EventId>): Work<EventId[]> {
  const chosen = new Set<EventId>()
  for (const id of full) if (isPowerEvent(store.get(id))) chosen.add(id)
  // A set grows while it is walked.
  for (const id of chosen) for (const auth of store.authEventIds(store.get(id))) if (full.has(auth)) chosen.add(auth)
  yield* store.needAuthEventsOf(chosen)
  yield* store.needCreateOf(chosen)

  const waitsFor = new Map<EventId, number>()
  const referrers = new Map<EventId, EventId[]>()
  const heap = new Heap<Candidate>(isBefore)
  for (const id of chosen) {
    const pdu = store.get(id)
    const within = new Set(store.authEventIds(pdu).filter((auth) => chosen.has(auth)))
    waitsFor.set(id, within.size)
    for (const auth of within) {
      const known = referrers.get(auth)
      if (known) known.push(id)
      else referrers.set(auth, [id])
    }
    if (within.size === 0) heap.push(candidate(store, id, pdu))
  }
  const order: EventId[] = []
  for (let next = heap.pop(); next; next = heap.pop()) {
    order.push(next.id)
    for (const id of referrers.get(next.id) ?? []) {
      const left = (waitsFor.get(id) ?? 0) - 1
      waitsFor.set(id, left)
      if (left === 0) heap.push(candidate(store, id, store.get(id)))
    }
  }
  if (order.length < chosen.size) throw new Error('auth_events form a cycle')
  return order
}

interface Candidate {
  readonly id: EventId
  readonly level: number
  readonly ts: number
}

function candidate(store: EventStore, id: EventId, pdu: Pdu): Candidate {
  const state = { get: (type: string, state_key: string) => store.authEvent(pdu, type, state_key) }
  return { id, level: powerLevelOf(store.rules, state, pdu.sender), ts: pdu.origin_server_ts }
}

function isBefore(x: Candidate, y: Candidate): boolean {
  if (x.level !== y.level) return x.level > y.level
  if (x.ts !== y.ts) return x.ts < y.ts
  return x.id < y.id
}

class Heap<T> {
  readonly #items: T[] = []
  readonly #isBefore: (x: T, y: T) => boolean
  constructor(isBefore: (x: T, y: T) => boolean) {
    this.#isBefore = isBefore
  }
  push(item: T): void {
    const items = this.#items
    let at = items.length
    while (at > 0) {
      const parent = (at - 1) >> 1
      const above = items[parent] as T
      if (!this.#isBefore(item, above)) break
      items[at] = above
      at = parent
    }
    items[at] = item
  }
  pop(): T | undefined {
    const items = this.#items
    const top = items[0]
    const last = items.pop()
    if (last === undefined || items.length === 0) return top
    let at = 0
    for (;;) {
      let child = 2 * at + 1
      if (child >= items.length) break
      if (child + 1 < items.length && this.#isBefore(items[child + 1] as T, items[child] as T)) child++
      if (!this.#isBefore(items[child] as T, last)) break
      items[at] = items[child] as T
      at = child
    }
    items[at] = last
    return top
  }
}
