/** How a room moves on by an event that is sent on its current state: new state, who is notified, and what of all that is
 *  written. The room in memory moves on at once; the commit follows. */
import type { Clock } from '../../../shared/clock.ts'
import { notificationLevel, powerLevelOf } from '../../../shared/core/power-levels.ts'
import type { StoredEvent } from '../../../shared/matrix/event-format.ts'
import { type EventId, type ServerName, serverNameOf, type UserId } from '../../../shared/matrix/ids.ts'
import type { Pdu } from '../../../shared/matrix/pdu.ts'
import type { SigningKey } from '../../../shared/matrix/signatures.ts'
import { defaultClass } from '../../../shared/storage/push-rules.ts'
import type { MainSql } from '../../../shared/storage/sql.ts'
import type { PushDeviation } from '../../../shared/streams/events.ts'
import type { Nids } from '../persist/nids.ts'
import { type StateTrees, stateMapKey } from '../persist/state-types.ts'
import type { EventWrite, Writes } from '../persist/writes.ts'
import type { AuthChains } from './auth-chains.ts'
import { membershipIn, profileIn, relationOf, rowOf, threadRootOf } from './event-row.ts'
import type { IgnoredSenders } from './ignored-senders.ts'
import type { PolicyServers } from './policy-server.ts'
import type { PushClasses } from './push-classes.ts'
import { RoomPush } from './push-outcomes.ts'
import { redactionWrites } from './redact.ts'
import type { ReferenceHashes } from './reference-hashes.ts'
import { authStateOf, type Extremity, type Room, rememberThread } from './room.ts'
import { isSummaryType, summarise } from './room-summary.ts'

export interface AppendDeps {
  readonly sql: MainSql
  readonly clock: Clock
  readonly nids: Nids
  readonly stateTrees: StateTrees
  readonly authChains: AuthChains
  readonly serverName: ServerName
  readonly signingKey: SigningKey
  readonly pushClasses: PushClasses
  readonly ignoredSenders: IgnoredSenders
  readonly referenceHashes: ReferenceHashes
  readonly policyServers: PolicyServers
}

type MutableWrites = { -readonly [K in keyof Writes]: Writes[K] }

/** What is known of an event beside what it says. */
export interface Advance {
  readonly event_nid: number
  readonly auth_event_nids: readonly number[]
  /** What it takes away, where it may. */
  readonly redacts: EventId | undefined
  /** Forward extremities that it does not follow. */
  readonly extremitiesLeft: readonly Extremity[]
  /** Its row is there, as an outlier's. */
  readonly placed?: boolean | undefined
  readonly unnoticed?: boolean | undefined
  readonly device_id?: string | undefined
  readonly txn_id?: string | undefined
  readonly delay_id?: string | undefined
}

/** Moves the room on by an allowed event that is sent on its current state. What the event replaces must have been
 *  loaded. */
export async function advance(
  deps: AppendDeps,
  room: Room,
  { pdu, content, envelope }: StoredEvent,
  more: Advance,
): Promise<Writes> {
  const { sql, stateTrees, authChains } = deps
  const { type, state_key, depth } = pdu
  const { event_nid, auth_event_nids } = more
  const replaced = state_key === undefined ? undefined : room.state.get(stateMapKey(type, state_key))

  let state_root = room.state_root
  // Grown key by key: cheaper than spreads of what is mostly absent.
  const writes: MutableWrites = {}
  if (state_key !== undefined) {
    // An outlier has its place among the chains already.
    const chaining = more.placed
      ? undefined
      : authChains.assign(room.room_id, [{ event_nid, auth_event_nids, replaces_nid: replaced?.event_nid }])
    const [tree, chains] = await Promise.all([
      stateTrees.apply(state_root || undefined, room.room_nid, [{ type, state_key, event_nid }]),
      chaining,
    ])
    state_root = tree.root_id
    writes.state = tree.writes
    if (chains) writes.auth_chains = chains
  }
  const relation = relationOf(pdu.content)
  const thread_root = relation && (await threadRootOf(sql, room, relation))
  const redaction = more.redacts === undefined ? undefined : await redactionWrites(deps, room, more.redacts, event_nid)

  const row = rowOf(room, { event_nid, pdu, content, relation, thread_root })
  if (replaced?.loaded) {
    row.replaces = { event_id: replaced.event_id, sender: replaced.sender, content: replaced.loaded.content }
  }
  if (more.device_id !== undefined) row.device_id = more.device_id
  if (more.txn_id !== undefined) row.txn_id = more.txn_id
  if (more.delay_id !== undefined) row.delay_id = more.delay_id

  const reading = deps.pushClasses.settled()
  if (reading) await reading
  const { push, deviations } = pushOutcome(deps, room, pdu)
  row.push = push
  if (more.unnoticed && state_key !== undefined) row.deviations = withoutNotice(deviations, state_key)
  else if (deviations.length > 0) row.deviations = [...deviations]

  // From here on nothing waits and nothing fails: the room moves on.
  let summaryChanged = false
  if (state_key !== undefined) {
    const membership = type === 'm.room.member' ? membershipIn(pdu) : undefined
    if (membership !== undefined) {
      changeCounts(room, replaced?.membership, membership)
      row.member = {
        user_id: state_key as UserId,
        membership,
        ...(replaced?.membership === undefined ? undefined : { prev_membership: replaced.membership }),
        local: serverNameOf(state_key as UserId) === deps.serverName,
        joined_members: room.summary.joined_members,
        invited_members: room.summary.invited_members,
      }
      if (row.member.local) changeLocalMember(room, pdu, membership)
    }
    room.state.set(stateMapKey(type, state_key), {
      event_nid,
      event_id: pdu.event_id,
      sender: pdu.sender,
      membership,
      loaded: { pdu, content },
    })
    summaryChanged = membership !== undefined || (state_key === '' && isSummaryType(type))
    if (summaryChanged && membership === undefined) summarise(room.summary, type, pdu.content)
  }
  redaction?.apply()
  room.depth = Math.max(room.depth, depth)
  room.state_root = state_root
  room.extremities = [{ event_nid, event_id: pdu.event_id, depth, state_root }, ...more.extremitiesLeft]
  rememberThread(room, pdu.event_id, thread_root || '')

  const event: { -readonly [K in keyof EventWrite]: EventWrite[K] } = {
    row,
    envelope,
    depth,
    state_root,
    flags: 0,
    visible: true,
    current_state: state_key !== undefined,
  }
  if (more.placed) event.placed = true
  if (replaced) event.replaces_nid = replaced.event_nid
  if (row.member) event.member_profile = profileIn(pdu)
  writes.events = [event]
  writes.heads = [
    {
      room_nid: room.room_nid,
      forward_extremities: room.extremities.map((extremity) => extremity.event_nid),
      state_root,
      depth: room.depth,
    },
  ]
  if (summaryChanged || redaction?.summaryChanged) writes.summaries = [{ room_nid: room.room_nid, ...room.summary }]
  if (redaction) Object.assign(writes, redaction.writes)
  return writes
}

export function changeCounts(room: Room, before: string | undefined, now: string | undefined): void {
  if (before === 'join') room.summary.joined_members--
  else if (before === 'invite') room.summary.invited_members--
  if (now === 'join') room.summary.joined_members++
  else if (now === 'invite') room.summary.invited_members++
}

export function changeLocalMember(room: Room, pdu: Pdu, membership: string): void {
  const user_id = pdu.state_key as UserId
  if (membership === 'join') {
    const { display_name } = profileIn(pdu)
    room.local_members.set(user_id, { user_id, display_name })
    room.push?.memberJoined(user_id, display_name)
  } else forgetLocalMember(room, user_id)
}

export function forgetLocalMember(room: Room, user_id: UserId): void {
  room.local_members.delete(user_id)
  room.push?.memberLeft(user_id)
}

/** Whom the event notifies, in the room as it is before it. */
export function pushOutcome(deps: AppendDeps, room: Room, pdu: Pdu): ReturnType<RoomPush['outcomes']> {
  room.push ??= new RoomPush({
    room_id: room.room_id,
    classes: deps.pushClasses,
    members: room.local_members.values(),
    isLocal: (user_id) => user_id.endsWith(`:${deps.serverName}`),
    ignoring: deps.ignoredSenders.ignoring,
  })
  return room.push.outcomes(pdu, {
    member_count: room.summary.joined_members,
    senderMayNotify(key) {
      const state = authStateOf(room)
      return powerLevelOf(room.rules, state, pdu.sender) >= notificationLevel(room.rules, state, key)
    },
  })
}

function withoutNotice(deviations: readonly PushDeviation[], user_id: string): PushDeviation[] {
  const others = deviations.filter((deviation) => deviation.user_id !== user_id)
  return [...others, { user_id, class_id: defaultClass, push: 0 }]
}
