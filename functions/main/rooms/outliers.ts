/** Outliers: events that are part of a state or of an auth chain, and have no place in a timeline. They are checked by their
 *  auth events alone. https://spec.matrix.org/v1.19/server-server-api/#checks-performed-on-receipt-of-a-pdu */
import { setImmediate as turn } from 'node:timers/promises'
import type { RoomRules } from '../../../shared/core/room-versions.ts'
import { pduFromStored, type StoredEvent } from '../../../shared/matrix/event-format.ts'
import type { EventId, RoomId } from '../../../shared/matrix/ids.ts'
import type { Pdu } from '../../../shared/matrix/pdu.ts'
import type { MainSql } from '../../../shared/storage/sql.ts'
import type { Nids } from '../persist/nids.ts'
import type { EventWrite, Writes } from '../persist/writes.ts'
import type { AuthChainEvent, AuthChains } from './auth-chains.ts'
import { checkByAuthEvents, impliedCreate } from './receive-checks.ts'
import { chainOf, hiddenWrite } from './received-event.ts'
import { outlierFlag, rejectedFlag } from './resolve-room.ts'

interface OutlierDeps {
  readonly sql: MainSql
  readonly nids: Nids
  readonly authChains: AuthChains
}

/** The room that they are of; it need not have a head. */
export interface OutlierRoom {
  readonly room_nid: number
  readonly room_id: RoomId
  readonly rules: RoomRules
}

export interface NamedOutlier {
  readonly event_nid: number
  readonly pdu: Pdu
  readonly rejected: boolean
}

export interface Outliers {
  /** To be committed in this order, each with a few hundred events. */
  readonly writes: readonly Writes[]
  /** Those that were given, and those they rest on, as far as they were asked for: stored already, or by the writes. */
  readonly events: ReadonlyMap<EventId, NamedOutlier>
  /** Not stored: they name auth events that are neither here nor among them, or name each other. */
  readonly unfounded: readonly EventId[]
}

const eventsPerWrite = 256

/** What has to be written for these to be here. No two calls for one room may run side by side until that is stored. Those
 *  that are stored already are left as they are. */
export async function outliersOf(
  deps: OutlierDeps,
  room: OutlierRoom,
  events: readonly StoredEvent[],
): Promise<Outliers> {
  const given = new Map(events.map((event) => [event.pdu.event_id, event]))
  const named = new Set<EventId>(given.keys())
  const implied = impliedCreate(room.rules, room.room_id)
  if (implied !== undefined) named.add(implied)
  for (const { pdu } of events) for (const id of pdu.auth_events) named.add(id)
  const found = await storedEvents(deps.sql, room, [...named])
  const fresh: { readonly event: StoredEvent; readonly auth: readonly NamedOutlier[] }[] = []
  const inOrder = byAuthEvents([...given.values()].filter(({ pdu }) => !found.has(pdu.event_id)))
  const nids = await deps.nids.take(inOrder.length)
  const unfounded: EventId[] = []
  for (const [i, event] of inOrder.entries()) {
    if (i % eventsPerWrite === eventsPerWrite - 1) await turn()
    const { pdu } = event
    const auth: NamedOutlier[] = []
    const ids = implied === undefined || pdu.type === 'm.room.create' ? pdu.auth_events : [...pdu.auth_events, implied]
    for (const id of ids) {
      const one = found.get(id)
      if (one) auth.push(one)
    }
    const event_nid = nids[i]
    if (auth.length < ids.length || pdu.room_id !== room.room_id || event_nid === undefined) {
      unfounded.push(pdu.event_id)
      continue
    }
    const authPdus = auth.map((one) => one.pdu)
    const rejected = checkByAuthEvents(room.rules, pdu, authPdus).flags !== 0
    found.set(pdu.event_id, { event_nid, pdu: rejected ? { ...pdu, rejected } : pdu, rejected })
    fresh.push({ event, auth })
  }
  const writes: Writes[] = []
  for (let from = 0; from < fresh.length; from += eventsPerWrite) {
    const rows: EventWrite[] = []
    const chains: AuthChainEvent[] = []
    for (const { event, auth } of fresh.slice(from, from + eventsPerWrite)) {
      const { event_id, state_key } = event.pdu
      const { event_nid, rejected } = found.get(event_id) as NamedOutlier
      const flags = outlierFlag | (rejected ? rejectedFlag : 0)
      rows.push(hiddenWrite(room, { event, event_nid, placed: false }, { state_root: 0, flags }))
      if (state_key !== undefined) chains.push(chainOf({ event, event_nid, auth }))
    }
    writes.push({ events: rows, auth_chains: await deps.authChains.assign(room.room_id, chains) })
  }
  return { writes, events: found, unfounded }
}

async function storedEvents(
  sql: MainSql,
  { room_nid, room_id, rules }: OutlierRoom,
  ids: readonly EventId[],
): Promise<Map<EventId, NamedOutlier>> {
  if (ids.length === 0) return new Map()
  const rows = await sql<{ event_nid: number; event_id: EventId; envelope: string; content: string; flags: number }[]>`
    select event_nid, event_id, envelope, content, flags from events
    where event_id = any(${sql.array([...ids], 25)}::text[]) and room_nid = ${room_nid}`
  return new Map(
    rows.map(({ event_nid, event_id, envelope, content, flags }) => {
      const pdu = pduFromStored(rules, event_id, room_id, envelope, content)
      const rejected = (flags & rejectedFlag) !== 0
      return [event_id, { event_nid, pdu: rejected ? { ...pdu, rejected } : pdu, rejected }]
    }),
  )
}

/** Auth events before those that name them. Events that name each other come last, where they miss one another. */
export function byAuthEvents(events: readonly StoredEvent[]): StoredEvent[] {
  const waiting = new Map(events.map((event) => [event.pdu.event_id, event]))
  const dependants = new Map<EventId, StoredEvent[]>()
  const unmet = new Map<EventId, number>()
  const ready: StoredEvent[] = []
  for (const event of waiting.values()) {
    const needs = new Set(event.pdu.auth_events.filter((id) => waiting.has(id)))
    if (needs.size === 0) ready.push(event)
    unmet.set(event.pdu.event_id, needs.size)
    for (const id of needs) {
      const others = dependants.get(id)
      if (others) others.push(event)
      else dependants.set(id, [event])
    }
  }
  for (const { pdu } of ready) {
    waiting.delete(pdu.event_id)
    for (const dependant of dependants.get(pdu.event_id) ?? []) {
      const left = (unmet.get(dependant.pdu.event_id) ?? 0) - 1
      unmet.set(dependant.pdu.event_id, left)
      if (left === 0) ready.push(dependant)
    }
  }
  return [...ready, ...waiting.values()]
}
