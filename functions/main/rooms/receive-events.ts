/** Events that were made elsewhere, in a room that is here: the checks on receipt from authorisation on, the state before
 *  and after each, and the room's current state over all its forward extremities. Format, hash and signatures were checked
 *  by who received them. https://spec.matrix.org/v1.19/server-server-api/#checks-performed-on-receipt-of-a-pdu */
import type { StoredEvent } from '../../../shared/matrix/event-format.ts'
import type { EventId, RoomId } from '../../../shared/matrix/ids.ts'
import type { Pdu } from '../../../shared/matrix/pdu.ts'
import type { Writes } from '../persist/writes.ts'
import { advance } from './advance.ts'
import type { RoomEngine, RoomTask } from './engine.ts'
import { ensureLoaded } from './load-room.ts'
import { outboundWrites } from './outbound.ts'
import { checkByPolicy, checkReceived, type Verdict } from './receive-checks.ts'
import { receiveForked } from './receive-forked.ts'
import { type KnownEvent, ReceivedBatch } from './received-batch.ts'
import { chainOf, hiddenWrite, mayRedact, type ReceivedEvent } from './received-event.ts'
import { outlierFlag, rejectedFlag } from './resolve-room.ts'
import type { Room } from './room.ts'

export type Receipt =
  | { readonly outcome: 'accepted' | 'known' }
  | { readonly outcome: 'soft-failed' | 'rejected'; readonly reason: string }
  /** Events that it builds on and that are not here, or whose state is not known; nothing was stored. */
  | {
      readonly outcome: 'missing'
      readonly prev_events: readonly EventId[]
      readonly auth_events: readonly EventId[]
    }

/** Receives the events in their order; each is answered at its place, once all are stored. `outbound`: their server has them
 *  from nobody else in the room, so this one passes them on to the others. `also`: joins the commit, once one was accepted. */
export async function receiveEvents(
  engine: RoomEngine,
  room_id: RoomId,
  events: readonly StoredEvent[],
  { outbound = false, also }: { readonly outbound?: boolean; readonly also?: Writes } = {},
): Promise<Receipt[]> {
  const receipts: Receipt[] = []
  while (receipts.length < events.length) {
    const rest = events.slice(receipts.length)
    receipts.push(
      ...(await engine.run(room_id, 'receiveEvents', (task) =>
        receiveSome(engine, outbound ? passingOn(task) : task, rest, also),
      )),
    )
  }
  return receipts
}

function passingOn(task: RoomTask): RoomTask {
  return {
    room: task.room,
    append: (draft) => task.append(draft),
    write: (writes) => task.write(outboundWrites(writes, {})),
    drained: () => task.drained(),
  }
}

/** The first of the events, at least one: as many as one commit may take. */
async function receiveSome(
  engine: RoomEngine,
  task: RoomTask,
  events: readonly StoredEvent[],
  also: Writes | undefined,
): Promise<readonly Receipt[]> {
  const { sql } = engine.deps
  // What follows reads events of the room from the database.
  await task.drained()
  const batch = new ReceivedBatch(sql, task.room)
  await batch.read(events)
  const receipts: Receipt[] = []
  for (const event of events) {
    const receipt = await receiveOne(engine, task, batch, event)
    if (!receipt) break
    receipts.push(receipt)
  }
  if (also && receipts.some((receipt) => receipt.outcome === 'accepted')) task.write(also)
  return receipts
}

/** undefined: it can be told once what was written before it is stored. */
async function receiveOne(
  engine: RoomEngine,
  task: RoomTask,
  batch: ReceivedBatch,
  event: StoredEvent,
): Promise<Receipt | undefined> {
  const { deps } = engine
  const { room } = task
  const { pdu } = event
  const stored = batch.fresh.get(pdu.event_id) ?? batch.known.get(pdu.event_id)
  if (stored && (stored.flags & outlierFlag) === 0) return { outcome: 'known' }
  if (stored && (stored.flags & rejectedFlag) !== 0) return { outcome: 'rejected', reason: 'it was rejected before' }

  const previous: KnownEvent[] = []
  const missing: EventId[] = []
  for (const id of pdu.prev_events) {
    const one = batch.previous(id)
    if (one) previous.push(one)
    else missing.push(id)
  }
  const auth = await batch.authEvents(pdu)
  if (missing.length > 0 || auth.missing.length > 0 || previous.length === 0) {
    if (previous.length === 0 && missing.length === 0) {
      return { outcome: 'rejected', reason: 'the event follows no other' }
    }
    return { outcome: 'missing', prev_events: missing, auth_events: auth.missing }
  }

  const next = stored?.event_nid ?? deps.nids.next()
  const event_nid = typeof next === 'number' ? next : await next
  const received: ReceivedEvent = { event, event_nid, placed: stored !== undefined, previous, auth: auth.found }
  if (!followsAll(room, previous)) {
    if (batch.fresh.size > 0) return undefined
    const verdict = await receiveForked(engine, task, received)
    batch.fresh.set(pdu.event_id, { ...knownAs(event, event_nid, verdict), pdu, event_nid })
    return receiptOf(verdict)
  }
  // A redaction looks at what it redacts.
  if (pdu.redacts !== undefined && batch.fresh.size > 0) return undefined

  const authPdus = auth.found.map((one) => one.pdu)
  let verdict = await checkReceived(deps.sql, room, pdu, { authEvents: authPdus })
  let asStored = event
  if (verdict.flags === 0) ({ event: asStored, verdict } = await checkByPolicy(deps.policyServers, room, event))
  if (verdict.flags !== 0) {
    const state_root = await rootAfterHidden(engine, task, pdu, { event_nid, flags: verdict.flags })
    task.write({
      events: [hiddenWrite(room, received, { state_root, flags: verdict.flags })],
      ...(pdu.state_key === undefined || received.placed
        ? undefined
        : { auth_chains: await deps.authChains.assign(room.room_id, [chainOf(received)]) }),
    })
    batch.fresh.set(pdu.event_id, {
      ...knownAs(event, event_nid, verdict),
      state_root,
      pdu: verdict.flags === rejectedFlag ? { ...pdu, rejected: true } : pdu,
    })
    return receiptOf(verdict)
  }
  if (pdu.state_key !== undefined) {
    const loading = ensureLoaded(deps.sql, room, [[pdu.type, pdu.state_key]])
    if (loading) await loading
  }
  const redacts =
    pdu.redacts !== undefined && (await mayRedact(deps.sql, room, pdu, pdu.redacts)) ? pdu.redacts : undefined
  task.write(
    await advance(deps, room, asStored, {
      event_nid,
      auth_event_nids: auth.found.map((one) => one.event_nid),
      redacts,
      placed: received.placed,
      extremitiesLeft: [],
    }),
  )
  batch.fresh.set(pdu.event_id, { ...knownAs(event, event_nid, verdict), state_root: room.state_root, pdu })
  return { outcome: 'accepted' }
}

/** The state after an event that nobody is shown: a soft-failed one counts in what follows it, a rejected one does not. */
async function rootAfterHidden(
  { deps }: RoomEngine,
  { room, write }: RoomTask,
  { type, state_key }: Pdu,
  { event_nid, flags }: { readonly event_nid: number; readonly flags: number },
): Promise<number> {
  if (state_key === undefined || flags === rejectedFlag) return room.state_root
  const tree = await deps.stateTrees.apply(room.state_root, room.room_nid, [{ type, state_key, event_nid }])
  write({ state: tree.writes })
  return tree.root_id
}

function followsAll(room: Room, previous: readonly KnownEvent[]): boolean {
  return (
    previous.length === room.extremities.length &&
    previous.every((event) => room.extremities.some((extremity) => extremity.event_nid === event.event_nid))
  )
}

function knownAs({ pdu }: StoredEvent, event_nid: number, { flags }: Verdict): KnownEvent {
  return { event_nid, event_id: pdu.event_id, depth: pdu.depth, state_root: 0, flags }
}

function receiptOf({ flags, reason }: Verdict): Receipt {
  if (flags === 0) return { outcome: 'accepted' }
  return { outcome: flags === rejectedFlag ? 'rejected' : 'soft-failed', reason }
}
