/** What an event of another server builds on and is not here: its missing predecessors are asked for, and where those have
 *  no end, the state before them.
 *  https://spec.matrix.org/v1.19/server-server-api/#backfilling-and-retrieving-missing-events */
import type { StoredEvent } from '../../../shared/matrix/event-format.ts'
import type { EventId, RoomId, ServerName } from '../../../shared/matrix/ids.ts'
import type { MainSql } from '../../../shared/storage/sql.ts'
import type { StateChange } from '../persist/state-types.ts'
import type { RoomEngine } from '../rooms/engine.ts'
import { byAuthEvents, outliersOf } from '../rooms/outliers.ts'
import { type Receipt, receiveEvents } from '../rooms/receive-events.ts'
import { rejectedFlag } from '../rooms/resolve-room.ts'
import type { Room } from '../rooms/room.ts'
import { type EventFetcher, inOrder, missingEventsMax, type StateIds } from './fetch-events.ts'
import { gapWrites } from './gap-writes.ts'

export interface GapDeps {
  readonly sql: MainSql
  readonly engine: RoomEngine
  readonly fetcher: EventFetcher
}

/** Nothing more can be done for the event: it is dropped. */
export class UnfoundedError extends Error {}

/** Questions about what lies between, because of one event. */
const missingRoundsMax = 20
/** States that are asked for because of one event. */
const statesMax = 20
/** Of a state, so many events are asked for one by one; above it, all of them together. */
const oneByOneMax = 100
/** Outliers that are written while the room is held. */
const outliersPerTurn = 256

type RoomInfo = Pick<Room, 'room_nid' | 'room_id' | 'rules'>

/** Receives the event with whatever it takes. Throws UnfoundedError where it can not be had, and RemoteError where `origin`
 *  does not answer. */
export async function receiveWithGaps(
  deps: GapDeps,
  room: RoomInfo,
  { origin, event }: { readonly origin: ServerName; readonly event: StoredEvent },
): Promise<Receipt> {
  const { engine } = deps
  const one = await receiveOne(engine, room.room_id, event)
  if (one.outcome !== 'missing') return one
  const budget = { states: statesMax }
  if (one.prev_events.length > 0) {
    const earliest = await engine.run(room.room_id, 'gap', async (task) =>
      task.room.extremities.map((extremity) => extremity.event_id),
    )
    const between = await eventsUpTo(deps, room, { origin, event, earliest })
    await receiveInOrder(deps, room, origin, between, budget)
    // What it follows right away, its sender has to give: on the state that somebody says was there before an event that they
    // keep to themselves, it could become all that the room is.
    budget.states = 0
  }
  return settle(deps, room, origin, event, budget)
}

/** Events between what is here and `event`, as far as the server gives them. One answer holds few, so it is asked on from the
 *  oldest: who was away for an hour is to have what was said meanwhile, not only the state that it led to. */
async function eventsUpTo(
  { sql, fetcher }: GapDeps,
  room: RoomInfo,
  question: { readonly origin: ServerName; readonly event: StoredEvent; readonly earliest: readonly EventId[] },
): Promise<StoredEvent[]> {
  const { origin, event, earliest } = question
  const found = new Map<EventId, StoredEvent>()
  let latest = [event.pdu.event_id]
  for (let round = 0; round < missingRoundsMax && latest.length > 0; round++) {
    const answered = await fetcher.missing(origin, room, { earliest, latest, min_depth: 1 })
    const fresh = answered.filter(({ pdu }) => pdu.event_id !== event.pdu.event_id && !found.has(pdu.event_id))
    for (const one of fresh) found.set(one.pdu.event_id, one)
    // One that is not full is all that the server gives.
    if (answered.length < missingEventsMax) break
    const before = fresh.flatMap(({ pdu }) => pdu.prev_events).filter((id) => !found.has(id))
    const here = new Set(
      (
        await sql<{ event_id: EventId }[]>`
          select event_id from events where event_id = any(${sql.array(before, 25)}::text[]) and state_root <> 0`
      ).map((row) => row.event_id),
    )
    const lacks = (id: EventId) => !found.has(id) && !here.has(id)
    latest = fresh.filter(({ pdu }) => pdu.prev_events.some(lacks)).map(({ pdu }) => pdu.event_id)
  }
  return [...found.values()]
}

/** Events that lead up to another: those that can't be had are left out, and missed by those that follow them. */
async function receiveInOrder(
  deps: GapDeps,
  room: RoomInfo,
  origin: ServerName,
  events: readonly StoredEvent[],
  budget: { states: number },
): Promise<void> {
  let rest: readonly StoredEvent[] = inOrder(events)
  while (rest.length > 0) {
    const receipts = await receiveEvents(deps.engine, room.room_id, rest)
    const at = receipts.findIndex((receipt) => receipt.outcome === 'missing')
    const event = rest[at]
    if (!event) return
    try {
      await settle(deps, room, origin, event, budget)
    } catch (error) {
      if (!(error instanceof UnfoundedError)) throw error
    }
    rest = rest.slice(at + 1)
  }
}

async function settle(
  deps: GapDeps,
  room: RoomInfo,
  origin: ServerName,
  event: StoredEvent,
  budget: { states: number },
): Promise<Receipt> {
  const { engine, fetcher } = deps
  const { event_id } = event.pdu
  let receipt = await receiveOne(engine, room.room_id, event)
  if (receipt.outcome === 'missing' && receipt.prev_events.length > 0) {
    for (const id of receipt.prev_events) {
      if (budget.states-- <= 0) throw new UnfoundedError(`${event_id} leads to too many gaps`)
      await learnStateAfter(deps, room, origin, id)
    }
    receipt = await receiveOne(engine, room.room_id, event)
  }
  if (receipt.outcome === 'missing' && receipt.auth_events.length > 0) {
    await storeOutliers(deps, room, await fetcher.authChain(origin, room, event_id))
    receipt = await receiveOne(engine, room.room_id, event)
  }
  if (receipt.outcome === 'missing') {
    const [lacking] = [...receipt.prev_events, ...receipt.auth_events]
    throw new UnfoundedError(`${event_id} builds on ${lacking}, which ${origin} does not give`)
  }
  return receipt
}

async function receiveOne(engine: RoomEngine, room_id: RoomId, event: StoredEvent): Promise<Receipt> {
  const [receipt] = await receiveEvents(engine, room_id, [event])
  if (!receipt) throw new Error(`${event.pdu.event_id} was not received`)
  return receipt
}

/** Stores what is sound of the events. */
export async function storeOutliers(deps: GapDeps, room: RoomInfo, events: readonly StoredEvent[]): Promise<void> {
  const ordered = byAuthEvents(events)
  for (let from = 0; from < ordered.length; from += outliersPerTurn) {
    const part = ordered.slice(from, from + outliersPerTurn)
    await deps.engine.run(room.room_id, 'outliers', async (task) => {
      await task.drained()
      const { writes } = await outliersOf(deps.engine.deps, room, part)
      for (const write of writes) task.write(write)
    })
  }
}

/** Sees to it that the event, the state before it and its auth chain are here, as far as the server gives them. */
export async function haveState(
  deps: GapDeps,
  room: RoomInfo,
  origin: ServerName,
  event_id: EventId,
): Promise<StateIds> {
  const { sql, fetcher } = deps
  const ids = await fetcher.stateIds(origin, room, event_id)
  const named = [...new Set([...ids.pdu_ids, ...ids.auth_chain_ids, event_id])]
  const known = new Set(
    (
      await sql<{ event_id: EventId }[]>`
        select event_id from events where event_id = any(${sql.array(named, 25)}::text[])`
    ).map((row) => row.event_id),
  )
  const missing = named.filter((id) => !known.has(id))
  if (missing.length > oneByOneMax) {
    const { events } = await fetcher.state(origin, room, event_id)
    const own = missing.includes(event_id) ? await fetcher.events(origin, room, [event_id]) : []
    await storeOutliers(deps, room, [...events, ...own])
  } else if (missing.length > 0) {
    await storeOutliers(deps, room, await fetcher.events(origin, room, missing))
  }
  return ids
}

/** Makes an event that has no place here one that others can follow: as an outlier, with the state after it. */
async function learnStateAfter(deps: GapDeps, room: RoomInfo, origin: ServerName, event_id: EventId): Promise<void> {
  const { sql, engine } = deps
  const ids = await haveState(deps, room, origin, event_id)
  await engine.run(room.room_id, 'stateAfter', async (task) => {
    await task.drained()
    const state = [...new Set([...ids.pdu_ids, event_id])]
    const rows = await sql<
      {
        event_id: EventId
        event_nid: number
        type: string
        state_key: string | null
        flags: number
        state_root: number
      }[]
    >`
      select event_id, event_nid, type, state_key, flags, state_root from events
      where event_id = any(${sql.array(state, 25)}::text[]) and room_nid = ${room.room_nid}`
    const own = rows.find((row) => row.event_id === event_id)
    if (!own) throw new UnfoundedError(`${origin} does not give ${event_id}`)
    if (own.state_root !== 0) return
    const changes = new Map<string, StateChange>()
    // Itself last: it is what the state before it became.
    for (const row of [...rows.filter((one) => one !== own), own]) {
      if (row.state_key === null || (row.flags & rejectedFlag) !== 0) continue
      const { type, state_key, event_nid } = row
      changes.set(`${type}\0${state_key}`, { type, state_key, event_nid })
    }
    if (!changes.has('m.room.create\0')) throw new UnfoundedError(`the state before ${event_id} is that of no room`)
    const { root_id, writes } = await engine.deps.stateTrees.apply(undefined, room.room_nid, [...changes.values()])
    task.write({
      state: writes,
      also: (tx) => [tx`update events set state_root = ${root_id} where event_nid = ${own.event_nid}`],
    })
    // What comes before it is to be had from others.
    task.write(gapWrites(room.room_nid, [event_id]))
  })
}
