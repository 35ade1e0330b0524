/** An event that does not follow all that the room has: the state before it is that of its previous events, and the room's
 *  current state is resolved over all its forward extremities.
 *  https://spec.matrix.org/v1.19/server-server-api/#room-state-resolution */
import { serverNameOf, type UserId } from '../../../shared/matrix/ids.ts'
import { type StateChange, stateMapKey } from '../persist/state-types.ts'
import type { EventWrite, Writes } from '../persist/writes.ts'
import { pushOutcome } from './advance.ts'
import { currentStateWrites, replaceState } from './current-state.ts'
import type { RoomEngine, RoomTask } from './engine.ts'
import { membershipIn, profileIn, relationOf, rowOf, threadRootOf } from './event-row.ts'
import { loadEvents } from './load-room.ts'
import { checkByPolicy, checkReceived, type Verdict } from './receive-checks.ts'
import { chainOf, hiddenWrite, mayRedact, type ReceivedEvent } from './received-event.ts'
import { redactionWrites } from './redact.ts'
import { behindHidden, type NamedState, rejectedFlag, resolveRoots } from './resolve-room.ts'
import { type Extremity, type Room, rememberThread } from './room.ts'

/** Everything that the room has written must be stored. */
export async function receiveForked(engine: RoomEngine, task: RoomTask, received: ReceivedEvent): Promise<Verdict> {
  const { deps } = engine
  const { room } = task
  const { event, auth } = received
  const roots = [...new Set(received.previous.map((previous) => previous.state_root))]
  const state = await resolveRoots(deps, room, roots)
  const [only] = roots
  const { root, writes } =
    roots.length === 1 && only !== undefined ? { root: only, writes: {} } : await rootOf(engine, room, only, state)
  const authEvents = auth.map((one) => one.pdu)
  let verdict = await checkReceived(deps.sql, room, event.pdu, { authEvents, before: state })
  let asStored = event
  if (verdict.flags === 0) ({ event: asStored, verdict } = await checkByPolicy(deps.policyServers, room, event))
  if (writes.state) task.write(writes)
  await storeOnState(engine, task, { ...received, event: asStored, verdict, before: { root, state } })
  return verdict
}

/** A root for a resolved state, by what it changes in one of those it came from. */
export async function rootOf(
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

export interface CheckedEvent extends ReceivedEvent {
  readonly verdict: Verdict
  readonly before: { readonly root: number; readonly state: NamedState }
  /** Whatever the room had before is behind this event: it is its only forward extremity. */
  readonly alone?: boolean
}

export async function storeOnState(engine: RoomEngine, task: RoomTask, received: CheckedEvent): Promise<void> {
  const { deps } = engine
  const { room } = task
  const { event, event_nid, verdict, before, placed } = received
  const { pdu } = event
  const { state_key } = pdu
  const isState = state_key !== undefined && verdict.flags !== rejectedFlag

  let root = before.root
  if (isState) {
    const tree = await deps.stateTrees.apply(root || undefined, room.room_nid, [
      { type: pdu.type, state_key, event_nid },
    ])
    root = tree.root_id
    task.write({ state: tree.writes })
  }
  if (state_key !== undefined && !placed) {
    task.write({ auth_chains: await deps.authChains.assign(room.room_id, [chainOf(received)]) })
  }
  if (verdict.flags !== 0) {
    task.write({ events: [hiddenWrite(room, received, { state_root: root, flags: verdict.flags })] })
    return
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

  await deps.pushClasses.settled()
  const { push, deviations } = pushOutcome(deps, room, pdu)
  row.push = push
  if (deviations.length > 0) row.deviations = [...deviations]
  const redaction =
    pdu.redacts && (await mayRedact(deps.sql, room, pdu, pdu.redacts))
      ? await redactionWrites(deps, room, pdu.redacts, event_nid)
      : undefined

  const followed = new Set(received.previous.map((previous) => previous.event_id))
  for (const id of await behindHidden(deps.sql, room, received.previous)) followed.add(id)
  const extremities: Extremity[] = [
    { event_nid, event_id: pdu.event_id, depth: pdu.depth, state_root: root },
    ...(received.alone ? [] : room.extremities.filter((extremity) => !followed.has(extremity.event_id))),
  ]
  const own = { event_nid, event_id: pdu.event_id }
  let state: NamedState
  let current = root
  if (extremities.length === 1) {
    state = new Map(before.state)
    if (isState) state.set(stateMapKey(pdu.type, state_key), own)
  } else if (sameRoots(extremities, room.extremities)) {
    // The forks are where they were, so what they resolve to is what it was.
    state = room.state
    current = room.state_root
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
  const write: EventWrite = {
    row,
    envelope: event.envelope,
    depth: pdu.depth,
    state_root: root,
    flags: 0,
    visible: true,
    current_state: becomesCurrent,
    ...(placed ? { placed } : undefined),
    ...(replaced ? { replaces_nid: replaced.event_nid } : undefined),
    ...(row.member ? { member_profile: profileIn(pdu) } : undefined),
  }
  task.write({
    events: [write],
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

function sameRoots(these: readonly Extremity[], those: readonly Extremity[]): boolean {
  const before = new Set(those.map((extremity) => extremity.state_root))
  const now = new Set(these.map((extremity) => extremity.state_root))
  return before.size === now.size && [...now].every((root) => before.has(root))
}
