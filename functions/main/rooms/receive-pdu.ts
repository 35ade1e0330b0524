/** An event that was made elsewhere, on whatever previous events it names: the checks on receipt from authorisation on, the
 *  state before and after it, and the room's current state over all its forward extremities. Format, hash and signatures
 *  were checked by who received it.
 *  https://spec.matrix.org/v1.19/server-server-api/#checks-performed-on-receipt-of-a-pdu */
import { authStateOf as authStateOfEvents, checkAuth, checkAuthEvents } from '../../../shared/core/auth-rules.ts'
import { authEventKeys } from '../../../shared/core/auth-selection.ts'
import type { AuthVerdict } from '../../../shared/core/auth-verdict.ts'
import type { StoredEvent } from '../../../shared/matrix/event-format.ts'
import { type EventId, type RoomId, serverNameOf, type UserId } from '../../../shared/matrix/ids.ts'
import type { Pdu } from '../../../shared/matrix/pdu.ts'
import type { MainSql } from '../../../shared/storage/sql.ts'
import { type StateChange, stateMapKey } from '../persist/state-types.ts'
import type { EventWrite, Writes } from '../persist/writes.ts'
import { membershipIn, profileIn, pushOutcome, relationOf, rowOf, threadRootOf } from './append.ts'
import { currentStateWrites, replaceState } from './current-state.ts'
import type { RoomEngine, RoomTask } from './engine.ts'
import { ensureLoaded, loadEvents } from './load-room.ts'
import { hasRedactLevel, redactionTarget, redactionWrites } from './redact.ts'
import { type NamedState, pdusById, rejectedFlag, resolveRoots, softFailedFlag } from './resolve-room.ts'
import { authStateOf, type Extremity, type Room, rememberThread, type StateKey, statePdu } from './room.ts'

export type Receipt =
  | { readonly outcome: 'accepted' | 'known' }
  | { readonly outcome: 'soft-failed' | 'rejected'; readonly reason: string }
  /** Events that it builds on and that are not here; nothing was stored. */
  | { readonly outcome: 'missing'; readonly event_ids: readonly EventId[] }

interface Previous extends Extremity {
  readonly flags: number
}

export function receivePdu(engine: RoomEngine, room_id: RoomId, event: StoredEvent): Promise<Receipt> {
  return engine.run(room_id, 'receivePdu', (task) => receive(engine, task, event))
}

async function receive(engine: RoomEngine, task: RoomTask, event: StoredEvent): Promise<Receipt> {
  const { deps } = engine
  const { sql } = deps
  const { room } = task
  const { pdu } = event
  // What follows reads events of the room from the database.
  await task.drained()
  if ((await pdusById(sql, room, [pdu.event_id])).size > 0) return { outcome: 'known' }
  const [authEvents, previous] = await Promise.all([
    pdusById(sql, room, pdu.auth_events),
    previousEvents(sql, room, pdu.prev_events),
  ])
  const missing = [
    ...pdu.auth_events.filter((id) => !authEvents.has(id)),
    ...pdu.prev_events.filter((id) => !previous.some((other) => other.event_id === id)),
  ]
  if (missing.length > 0) return { outcome: 'missing', event_ids: missing }

  const before = await stateBefore(engine, room, previous)
  const verdict = await checksOf(engine, room, pdu, { authEvents: [...authEvents.values()], before: before.state })
  const next = deps.nids.next()
  const event_nid = typeof next === 'number' ? next : await next
  await store(engine, task, { event, event_nid, verdict, before, previous, authEvents })
  if (verdict.flags === 0) return { outcome: 'accepted' }
  return { outcome: verdict.flags === rejectedFlag ? 'rejected' : 'soft-failed', reason: verdict.reason }
}

async function previousEvents(sql: MainSql, room: Room, ids: readonly EventId[]): Promise<Previous[]> {
  const known = ids.map((id) => room.extremities.find((extremity) => extremity.event_id === id))
  if (known.every((extremity) => extremity !== undefined)) return known.map((extremity) => ({ ...extremity, flags: 0 }))
  return sql<Previous[]>`
    select event_nid, event_id, depth, state_root, flags from events
    where event_id = any(${sql.array([...ids], 25)}::text[]) and room_nid = ${room.room_nid}`
}

interface StateBefore {
  readonly root: number
  readonly state: NamedState
  readonly writes: Writes
}

/** The room's current state where the event follows all that is there; otherwise what its previous events lead to. */
async function stateBefore(engine: RoomEngine, room: Room, previous: readonly Previous[]): Promise<StateBefore> {
  if (followsAll(room, previous)) return { root: room.state_root, state: room.state, writes: {} }
  const roots = [...new Set(previous.map((event) => event.state_root))]
  const state = await resolveRoots(engine.deps, room, roots)
  const [only] = roots
  if (roots.length === 1 && only !== undefined) return { root: only, state, writes: {} }
  return { state, ...(await rootOf(engine, room, only, state)) }
}

function followsAll(room: Room, previous: readonly Extremity[]): boolean {
  return (
    previous.length === room.extremities.length &&
    previous.every((event) => room.extremities.some((extremity) => extremity.event_nid === event.event_nid))
  )
}

/** A root for a resolved state, by what it changes in one of those it came from. */
async function rootOf(
  engine: RoomEngine,
  room: Room,
  base: number | undefined,
  state: NamedState,
): Promise<{ root: number; writes: Writes }> {
  const { stateTrees } = engine.deps
  const old = base === undefined ? new Map<string, number>() : await stateTrees.load(base)
  const changes: StateChange[] = []
  for (const [key, { event_nid }] of state) {
    if (old.get(key) !== event_nid) changes.push({ ...stateKeyOf(key), event_nid })
  }
  for (const key of old.keys()) if (!state.has(key)) changes.push({ ...stateKeyOf(key), event_nid: undefined })
  if (changes.length === 0 && base !== undefined) return { root: base, writes: {} }
  const tree = await stateTrees.apply(base, room.room_nid, changes)
  return { root: tree.root_id, writes: { state: tree.writes } }
}

export function stateKeyOf(key: string): { type: string; state_key: string } {
  const nul = key.indexOf('\0')
  return { type: key.slice(0, nul), state_key: key.slice(nul + 1) }
}

interface Verdict {
  readonly flags: number
  readonly reason: string
}

/** Checks 4 to 6: by its auth events, by the state before it, and by the current state. */
async function checksOf(
  engine: RoomEngine,
  room: Room,
  pdu: Pdu,
  by: { readonly authEvents: readonly Pdu[]; readonly before: NamedState },
): Promise<Verdict> {
  const { rules } = room
  const rejected = (verdict: AuthVerdict & { allowed: false }) => ({ flags: rejectedFlag, reason: verdict.reason })
  const byShape = checkAuthEvents(rules, pdu, by.authEvents)
  if (!byShape.allowed) return rejected(byShape)
  const create = statePdu(room, 'm.room.create', '')
  const implied = rules.roomIdIsCreateHash && create ? [create] : []
  const byAuthEvents = checkAuth(rules, pdu, authStateOfEvents([...by.authEvents, ...implied]))
  if (!byAuthEvents.allowed) return rejected(byAuthEvents)
  const keys: StateKey[] = [...authEventKeys(rules, pdu), ['m.room.create', ''], ['m.room.power_levels', '']]
  if (by.before !== room.state) {
    const nids = keys.flatMap(([type, state_key]) => by.before.get(stateMapKey(type, state_key))?.event_nid ?? [])
    const events = await loadEvents(engine.deps.sql, room, nids)
    const byState = checkAuth(rules, pdu, authStateOfEvents(Array.from(events.values(), (event) => event.pdu)))
    if (!byState.allowed) return rejected(byState)
  }
  await ensureLoaded(engine.deps.sql, room, keys)
  const byCurrent = checkAuth(rules, pdu, authStateOf(room))
  if (byCurrent.allowed) return { flags: 0, reason: '' }
  return by.before === room.state ? rejected(byCurrent) : { flags: softFailedFlag, reason: byCurrent.reason }
}

interface Received {
  readonly event: StoredEvent
  readonly event_nid: number
  readonly verdict: Verdict
  readonly before: StateBefore
  readonly previous: readonly Previous[]
  readonly authEvents: ReadonlyMap<EventId, Pdu>
}

async function store(engine: RoomEngine, task: RoomTask, received: Received): Promise<void> {
  const { deps } = engine
  const { room } = task
  const { event, event_nid, verdict, before } = received
  const { pdu } = event
  const { state_key } = pdu
  const visible = verdict.flags === 0
  const isState = state_key !== undefined && verdict.flags !== rejectedFlag
  if (before.writes.state) task.write(before.writes)

  let root = before.root
  if (isState) {
    const tree = await deps.stateTrees.apply(root || undefined, room.room_nid, [
      { type: pdu.type, state_key, event_nid },
    ])
    root = tree.root_id
    task.write({ state: tree.writes })
  }
  if (state_key !== undefined) {
    const auth_event_nids = await nidsOf(deps.sql, pdu.auth_events)
    task.write({ auth_chains: await deps.authChains.assign(room.room_id, [{ event_nid, auth_event_nids }]) })
  }
  const replacedName = state_key === undefined ? undefined : before.state.get(stateMapKey(pdu.type, state_key))
  const replaced =
    replacedName && (await loadEvents(deps.sql, room, [replacedName.event_nid])).get(replacedName.event_nid)
  const relation = relationOf(pdu.content)
  const thread_root = relation && (await threadRootOf(deps.sql, room, relation))
  const row = rowOf(room, { event_nid, pdu, content: event.content, relation, thread_root })
  if (replaced) {
    row.replaces = { event_id: replaced.pdu.event_id, sender: replaced.pdu.sender, content: replaced.content }
  }
  const write = (extra: Partial<EventWrite>): EventWrite => ({
    row,
    envelope: event.envelope,
    depth: pdu.depth,
    state_root: root,
    flags: verdict.flags,
    visible,
    current_state: false,
    ...(replaced ? { replaces_nid: replaced.event_nid } : undefined),
    ...extra,
  })
  if (!visible) {
    task.write({ events: [write({})] })
    return
  }

  await deps.pushClasses.settled()
  const { push, deviations } = pushOutcome(deps, room, pdu)
  row.push = push
  if (deviations.length > 0) row.deviations = [...deviations]
  const redaction =
    pdu.redacts && (await mayRedact(deps.sql, room, pdu, pdu.redacts))
      ? await redactionWrites(deps, room, pdu.redacts, event_nid)
      : undefined

  const followed = new Set(received.previous.map((previous) => previous.event_nid))
  const extremities: Extremity[] = [
    { event_nid, event_id: pdu.event_id, depth: pdu.depth, state_root: root },
    ...room.extremities.filter((extremity) => !followed.has(extremity.event_nid)),
  ]
  const own = { event_nid, event_id: pdu.event_id }
  let state: NamedState
  let current = root
  if (extremities.length === 1) {
    state = before.state === room.state && !isState ? room.state : new Map(before.state)
    if (isState) state.set(stateMapKey(pdu.type, state_key), own)
  } else {
    const roots = extremities.map((extremity) => extremity.state_root)
    state = await resolveRoots(deps, room, roots, { event_nid, pdu })
    const resolved = await rootOf(engine, room, root, state)
    current = resolved.root
    task.write(resolved.writes)
  }
  const changes =
    state === room.state ? [] : await replaceState(deps, room, state, { pdu, content: event.content, event_nid })
  const becomesCurrent = isState && state.get(stateMapKey(pdu.type, state_key))?.event_nid === event_nid
  if (becomesCurrent && pdu.type === 'm.room.member') {
    const before = changes.find((change) => change.after?.event_nid === event_nid)?.before
    row.member = {
      user_id: state_key as UserId,
      membership: membershipIn(pdu),
      ...(before?.membership === undefined ? undefined : { prev_membership: before.membership }),
      local: serverNameOf(state_key as UserId) === deps.serverName,
      joined_members: room.summary.joined_members,
      invited_members: room.summary.invited_members,
    }
  }
  redaction?.apply()
  room.extremities = extremities
  room.state_root = current
  room.depth = Math.max(room.depth, pdu.depth)
  rememberThread(room, pdu.event_id, thread_root || '')
  if (redaction) task.write(redaction.writes)
  task.write(currentStateWrites(deps, room, changes, event_nid))
  task.write({
    events: [
      write({
        current_state: becomesCurrent,
        ...(row.member ? { member_profile: profileIn(pdu) } : undefined),
      }),
    ],
    heads: [
      {
        room_nid: room.room_nid,
        forward_extremities: extremities.map((extremity) => extremity.event_nid),
        state_root: current,
        depth: room.depth,
      },
    ],
    summaries: [{ room_nid: room.room_nid, ...room.summary }],
  })
}

async function nidsOf(sql: MainSql, ids: readonly EventId[]): Promise<number[]> {
  const rows = await sql<{ event_nid: number }[]>`
    select event_nid from events where event_id = any(${sql.array([...ids], 25)}::text[])`
  return rows.map((row) => row.event_nid)
}

/** https://spec.matrix.org/v1.19/rooms/v11/#handling-redactions: by power, or by the server that the event is of. */
async function mayRedact(sql: MainSql, room: Room, pdu: Pdu, redacts: EventId): Promise<boolean> {
  if (room.rules.redactionsAreAuthorised) return true
  await ensureLoaded(sql, room, [['m.room.power_levels', '']])
  if (hasRedactLevel(room, pdu.sender)) return true
  const target = await redactionTarget(sql, room, redacts)
  return target !== undefined && serverNameOf(target.sender) === serverNameOf(pdu.sender)
}
