/** Auth chains by chain cover. Every state event has a place (chain, sequence): it reaches all lower places of its chain,
 *  and what the links at or below its place reach. The auth chain of any set of events is then one number a chain, and
 *  differences are ranges of places: no event of what the sets share is ever looked at. */
import { LRUCache } from 'lru-cache'
import { entriesUpTo } from '../../../shared/lru-bound.ts'
import type { RoomId } from '../../../shared/matrix/ids.ts'
import type { MainSql } from '../../../shared/storage/sql.ts'
import type { Nids } from '../persist/nids.ts'
import type { AuthChainWrites } from '../persist/writes.ts'

export interface AuthChainEvent {
  readonly event_nid: number
  readonly auth_event_nids: readonly number[]
  /** The state event that it replaces. Where that is also its auth event, its chain goes on: one chain a member. */
  readonly replaces_nid?: number | undefined
}

export interface AuthChains {
  /** Places state events in the cover; auth events come before those that name them. The writes join the commit of the
   *  events. Usable at once; a caller whose commit fails calls `forget`. */
  assign(room_id: RoomId, events: readonly AuthChainEvent[]): Promise<AuthChainWrites>
  forget(event_nids: readonly number[]): void
  /** Another process may have added to the chains of these rooms: they are read anew. Places never change and stay. */
  forgetChains(isGained: (room_id: RoomId) => boolean): void
  /** nids of the events that are in the auth chain (the events themselves included) of some sets, but not of all. */
  difference(room_id: RoomId, sets: readonly (readonly number[])[]): Promise<Set<number>>
}

const limits = { placesCached: 200_000, chainsCached: 100_000 } as const

interface Place {
  readonly chain: number
  readonly sequence: number
}
interface Link {
  readonly from_sequence: number
  readonly to: Place
}
/** What is known of a chain. */
interface Chain {
  readonly room_id: RoomId
  /** Of the newest event in it. */
  tip: number
  links: Link[]
}
/** chain -> the highest sequence that is reached. */
type Reach = Map<number, number>

export function createAuthChains({ sql, nids }: { sql: MainSql; nids: Nids }): AuthChains {
  const placeOf = new LRUCache<number, Place>({ ...entriesUpTo(limits.placesCached) })
  const eventAt = new LRUCache<string, number>({ ...entriesUpTo(limits.placesCached) })
  const chains = new LRUCache<number, Chain>({ ...entriesUpTo(limits.chainsCached) })

  function know(event_nid: number, place: Place): void {
    placeOf.set(event_nid, place)
    eventAt.set(`${place.chain}:${place.sequence}`, event_nid)
  }

  async function places(events: readonly number[]): Promise<Map<number, Place>> {
    const found = new Map<number, Place>()
    const missing: number[] = []
    for (const nid of events) {
      const place = placeOf.get(nid)
      if (place) found.set(nid, place)
      else missing.push(nid)
    }
    if (missing.length > 0) {
      const rows = await sql<{ event_nid: number; chain_id: number; sequence: number }[]>`
        select event_nid, chain_id, sequence from auth_chains
        where event_nid = any(${sql.array(missing, 20)}::bigint[])`
      for (const row of rows) {
        const place = { chain: row.chain_id, sequence: row.sequence }
        know(row.event_nid, place)
        found.set(row.event_nid, place)
      }
    }
    for (const nid of events) if (!found.has(nid)) throw new Error(`event ${nid} is not in the chain cover`)
    return found
  }

  async function chainsOf(room_id: RoomId, ids: readonly number[]): Promise<Map<number, Chain>> {
    const found = new Map<number, Chain>()
    const missing: number[] = []
    for (const id of ids) {
      const chain = chains.get(id)
      if (chain) found.set(id, chain)
      else missing.push(id)
    }
    if (missing.length === 0) return found
    const wanted = sql.array(missing, 20)
    const [tips, links] = await Promise.all([
      sql<{ chain_id: number; tip: number | null }[]>`
        select x.chain_id, (select max(sequence) from auth_chains a where a.chain_id = x.chain_id) as tip
        from unnest(${wanted}::bigint[]) as x(chain_id)`,
      sql<{ from_chain: number; from_sequence: number; to_chain: number; to_sequence: number }[]>`
        select from_chain, from_sequence, to_chain, to_sequence from auth_chain_links
        where from_chain = any(${wanted}::bigint[])`,
    ])
    const loaded = new Map(
      tips.map(({ chain_id, tip }): [number, Chain] => [chain_id, { room_id, tip: tip ?? 0, links: [] }]),
    )
    for (const { from_chain, from_sequence, to_chain, to_sequence } of links)
      loaded.get(from_chain)?.links.push({ from_sequence, to: { chain: to_chain, sequence: to_sequence } })
    for (const [id, chain] of loaded) {
      // Meanwhile another call may have loaded it and put an event on it: that one knows more.
      const known = chains.get(id) ?? chain
      // What is not stored yet is read again when it is.
      if (known.tip > 0) chains.set(id, known)
      found.set(id, known)
    }
    return found
  }

  /** Adds to `reach` what the places reach. */
  async function extend(room_id: RoomId, reach: Reach, from: Iterable<Place>): Promise<Reach> {
    let frontier = from
    for (;;) {
      const raised = new Map<number, number>()
      for (const { chain, sequence } of frontier) {
        const had = reach.get(chain) ?? 0
        if (sequence <= had) continue
        if (!raised.has(chain)) raised.set(chain, had)
        reach.set(chain, sequence)
      }
      if (raised.size === 0) return reach
      const found = await chainsOf(room_id, [...raised.keys()])
      const next: Place[] = []
      for (const [id, had] of raised) {
        const upTo = reach.get(id) ?? 0
        for (const link of found.get(id)?.links ?? [])
          if (link.from_sequence > had && link.from_sequence <= upTo) next.push(link.to)
      }
      frontier = next
    }
  }

  async function assignOne(room_id: RoomId, event: AuthChainEvent): Promise<{ place: Place; links: Place[] }> {
    const auth = event.auth_event_nids.length > 0 ? await places(event.auth_event_nids) : new Map<number, Place>()
    let place: Place | undefined
    const before = event.replaces_nid === undefined ? undefined : auth.get(event.replaces_nid)
    if (before) {
      const chain = (await chainsOf(room_id, [before.chain])).get(before.chain)
      // Taken at once: whoever comes next sees the new tip.
      if (chain && chain.tip === before.sequence) {
        chain.tip++
        place = { chain: before.chain, sequence: chain.tip }
      }
    }
    if (!place) {
      place = { chain: await nids.next(), sequence: 1 }
      chains.set(place.chain, { room_id, tip: 1, links: [] })
    }
    // Links only to what no other auth event reaches: newest first, as later events tend to reach the earlier ones.
    const reach: Reach = new Map()
    const rest = [...auth.values()]
    if (before?.chain === place.chain) await extend(room_id, reach, [before])
    const links: Place[] = []
    const reaches = await Promise.all(rest.map((one) => extend(room_id, new Map(), [one])))
    rest.forEach((target, i) => {
      const implied =
        (reach.get(target.chain) ?? 0) >= target.sequence ||
        reaches.some((other, j) => {
          if (i === j || (other.get(target.chain) ?? 0) < target.sequence) return false
          // Of two places that are one and the same, the first stays.
          const same = rest[j]!.chain === target.chain && rest[j]!.sequence === target.sequence
          return !same || j < i
        })
      if (!implied) links.push(target)
    })
    const chain = (await chainsOf(room_id, [place.chain])).get(place.chain)
    for (const to of links) chain?.links.push({ from_sequence: place.sequence, to })
    know(event.event_nid, place)
    return { place, links }
  }

  return {
    async assign(room_id, events) {
      const rows: AuthChainWrites['chains'][number][] = []
      const links: AuthChainWrites['links'][number][] = []
      // One question for all places that are not made here.
      const own = new Set(events.map((event) => event.event_nid))
      const known = new Set(events.flatMap((event) => event.auth_event_nids).filter((nid) => !own.has(nid)))
      const before = await places([...known])
      await chainsOf(room_id, [...new Set([...before.values()].map((place) => place.chain))])
      for (const event of events) {
        const { place, links: targets } = await assignOne(room_id, event)
        rows.push({ event_nid: event.event_nid, chain_id: place.chain, sequence: place.sequence })
        for (const to of targets)
          links.push({
            from_chain: place.chain,
            from_sequence: place.sequence,
            to_chain: to.chain,
            to_sequence: to.sequence,
          })
      }
      return { chains: rows, links }
    },
    forget(event_nids) {
      for (const nid of event_nids) {
        const place = placeOf.get(nid)
        if (!place) continue
        placeOf.delete(nid)
        eventAt.delete(`${place.chain}:${place.sequence}`)
        chains.delete(place.chain)
      }
    },
    forgetChains(isGained) {
      for (const [id, chain] of chains) if (isGained(chain.room_id)) chains.delete(id)
    },
    async difference(room_id, sets) {
      const counts = new Map<number, number>()
      for (const set of sets) for (const nid of new Set(set)) counts.set(nid, (counts.get(nid) ?? 0) + 1)
      const place = await places([...counts.keys()])
      // What all sets hold is followed once.
      const shared = await extend(
        room_id,
        new Map(),
        [...counts].filter(([, n]) => n === sets.length).map(([nid]) => place.get(nid)!),
      )
      const reaches = await Promise.all(
        sets.map((set) =>
          extend(
            room_id,
            new Map(shared),
            set.filter((nid) => counts.get(nid) !== sets.length).map((nid) => place.get(nid)!),
          ),
        ),
      )
      const ranges: { chain: number; low: number; high: number }[] = []
      for (const chain of new Set(reaches.flatMap((reach) => [...reach.keys()]))) {
        const sequences = reaches.map((reach) => reach.get(chain) ?? 0)
        const low = Math.min(...sequences)
        const high = Math.max(...sequences)
        if (low < high) ranges.push({ chain, low, high })
      }
      const found = new Set<number>()
      const unknown = ranges.filter(({ chain, low, high }) => {
        const events: number[] = []
        for (let sequence = low + 1; sequence <= high; sequence++) {
          const nid = eventAt.get(`${chain}:${sequence}`)
          if (nid === undefined) return true
          events.push(nid)
        }
        for (const nid of events) found.add(nid)
        return false
      })
      if (unknown.length > 0) {
        const rows = await sql<{ event_nid: number; chain_id: number; sequence: number }[]>`
          select a.event_nid, a.chain_id, a.sequence
          from unnest(${sql.array(
            unknown.map((range) => range.chain),
            20,
          )}::bigint[], ${sql.array(
            unknown.map((range) => range.low),
            20,
          )}::bigint[], ${sql.array(
            unknown.map((range) => range.high),
            20,
          )}::bigint[]) as x(chain, low, high)
          join auth_chains a on a.chain_id = x.chain and a.sequence > x.low and a.sequence <= x.high`
        for (const row of rows) {
          know(row.event_nid, { chain: row.chain_id, sequence: row.sequence })
          found.add(row.event_nid)
        }
      }
      return found
    },
  }
}
