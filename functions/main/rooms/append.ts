/** The way of a local event: previous events, auth events, hash and signature, authorisation, new state, who is notified,
 *  and what of all that is written. The room in memory moves on at once; the commit follows. */
import * as v from 'valibot'
import type { Clock } from '../../../shared/clock.ts'
import { checkAuth } from '../../../shared/core/auth-rules.ts'
import { authEventKeys } from '../../../shared/core/auth-selection.ts'
import { notificationLevel, powerLevelOf } from '../../../shared/core/power-levels.ts'
import { buildEvent } from '../../../shared/matrix/event-format.ts'
import { EventId, type ServerName, serverNameOf, type UserId } from '../../../shared/matrix/ids.ts'
import { isJsonObject, type JsonObject } from '../../../shared/matrix/json-value.ts'
import { limits } from '../../../shared/matrix/limits.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import type { Pdu } from '../../../shared/matrix/pdu.ts'
import type { SigningKey } from '../../../shared/matrix/signatures.ts'
import { defaultClass } from '../../../shared/storage/push-rules.ts'
import type { MainSql } from '../../../shared/storage/sql.ts'
import type { EventRow, PushDeviation } from '../../../shared/streams/events.ts'
import type { Nids } from '../persist/nids.ts'
import { type StateTrees, stateMapKey } from '../persist/state-types.ts'
import type { EventWrite, Unplaced, Writes } from '../persist/writes.ts'
import type { AuthChains } from './auth-chains.ts'
import type { IgnoredSenders } from './ignored-senders.ts'
import { ensureLoaded } from './load-room.ts'
import type { PushClasses } from './push-classes.ts'
import { RoomPush } from './push-outcomes.ts'
import { redactionWrites } from './redact.ts'
import type { ReferenceHashes } from './reference-hashes.ts'
import { authStateOf, prevEventsMax, type Room, rememberThread, type StateEntry, type StateKey } from './room.ts'
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
}

/** An event as a local user wants it. */
export interface Draft {
  readonly type: string
  readonly state_key?: string | undefined
  readonly sender: UserId
  readonly content: JsonObject
  readonly redacts?: EventId | undefined
  readonly origin_server_ts?: number | undefined
  readonly device_id?: string | undefined
  readonly txn_id?: string | undefined
  /** Of the delayed event that it was. */
  readonly delay_id?: string | undefined
  /** A member event that is not to notify the user it is about. */
  readonly unnoticed?: boolean | undefined
}

export interface Appended {
  readonly pdu: Pdu
  readonly event_nid: number
  readonly writes: Writes
}

type MutableWrites = { -readonly [K in keyof Writes]: Writes[K] }
export type MutableRow = { -readonly [K in keyof Unplaced<EventRow>]: Unplaced<EventRow>[K] }

/** Builds the room's next event. Throws M_FORBIDDEN where the authorisation rules refuse it, M_BAD_JSON and M_TOO_LARGE
 *  for what is no event; then nothing has changed. */
export async function appendEvent(deps: AppendDeps, room: Room, draft: Draft): Promise<Appended> {
  const { sql, stateTrees, authChains } = deps
  const { type, state_key, sender, content } = draft
  const { rules } = room

  const selected: readonly StateKey[] = authEventKeys(rules, draft)
  const loading = ensureLoaded(sql, room, state_key === undefined ? selected : [...selected, [type, state_key]])
  if (loading) await loading
  const authEntries: StateEntry[] = []
  for (const [authType, authKey] of selected) {
    const entry = room.state.get(stateMapKey(authType, authKey))
    if (entry) authEntries.push(entry)
  }
  const previous = room.extremities.slice(0, prevEventsMax)
  let depth = 0
  for (const extremity of previous) depth = Math.max(depth, extremity.depth)
  depth = Math.min(depth + 1, limits.eventDepth)

  const prev_events = previous.map((extremity) => extremity.event_id)
  const auth_events = authEntries.map((entry) => entry.event_id)
  const hashes = rules.eventReferencesHaveHashes
    ? { reference_hashes: await deps.referenceHashes.of(rules, [...prev_events, ...auth_events]) }
    : undefined
  const built = buildEvent(
    rules,
    {
      room_id: room.room_id,
      type,
      state_key,
      sender,
      content,
      prev_events,
      auth_events,
      ...hashes,
      depth,
      origin_server_ts: draft.origin_server_ts ?? deps.clock.now(),
      redacts: draft.redacts,
    },
    deps.serverName,
    deps.signingKey,
  )
  const { pdu } = built
  if (room.extremities.length === 0) room.room_id = pdu.room_id
  const verdict = checkAuth(rules, pdu, authStateOf(room))
  if (!verdict.allowed) throw new MatrixError('M_FORBIDDEN', verdict.reason)

  const next = deps.nids.next()
  const event_nid = typeof next === 'number' ? next : await next
  const replaced = state_key === undefined ? undefined : room.state.get(stateMapKey(type, state_key))

  let state_root = room.state_root
  // Grown key by key: cheaper than spreads of what is mostly absent.
  const writes: MutableWrites = {}
  if (state_key !== undefined) {
    const [tree, chains] = await Promise.all([
      stateTrees.apply(state_root || undefined, room.room_nid, [{ type, state_key, event_nid }]),
      authChains.assign(room.room_id, [
        { event_nid, auth_event_nids: authEntries.map((entry) => entry.event_nid), replaces_nid: replaced?.event_nid },
      ]),
    ])
    state_root = tree.root_id
    writes.state = tree.writes
    writes.auth_chains = chains
  }
  const relation = relationOf(content)
  const thread_root = relation && (await threadRootOf(sql, room, relation))
  const redaction =
    draft.redacts === undefined ? undefined : await redactionWrites(deps, room, draft.redacts, event_nid)

  const row = rowOf(room, { event_nid, pdu, content: built.content, relation, thread_root })
  if (replaced?.loaded) {
    row.replaces = { event_id: replaced.event_id, sender: replaced.sender, content: replaced.loaded.content }
  }
  if (draft.device_id !== undefined) row.device_id = draft.device_id
  if (draft.txn_id !== undefined) row.txn_id = draft.txn_id
  if (draft.delay_id !== undefined) row.delay_id = draft.delay_id

  const reading = deps.pushClasses.settled()
  if (reading) await reading
  const { push, deviations } = pushOutcome(deps, room, pdu)
  row.push = push
  if (draft.unnoticed && state_key !== undefined) row.deviations = withoutNotice(deviations, state_key)
  else if (deviations.length > 0) row.deviations = [...deviations]

  // From here on nothing waits and nothing fails: the room moves on.
  if (hashes) deps.referenceHashes.remember(rules, { ...built, event_id: pdu.event_id })
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
      sender,
      membership,
      loaded: { pdu, content: built.content },
    })
    summaryChanged = membership !== undefined || (state_key === '' && isSummaryType(type))
    if (summaryChanged && membership === undefined) summarise(room.summary, type, content)
  }
  redaction?.apply()
  room.depth = Math.max(room.depth, depth)
  room.state_root = state_root
  room.extremities = [
    { event_nid, event_id: pdu.event_id, depth, state_root },
    ...room.extremities.slice(prevEventsMax),
  ]
  rememberThread(room, pdu.event_id, thread_root || '')

  const event: { -readonly [K in keyof EventWrite]: EventWrite[K] } = {
    row,
    envelope: built.envelope,
    depth,
    state_root,
    flags: 0,
    visible: true,
    current_state: state_key !== undefined,
  }
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
  return { pdu, event_nid, writes }
}

/** The event as readers get it, without what its place in the room adds. */
export function rowOf(
  room: Room,
  event: {
    readonly event_nid: number
    readonly pdu: Pdu
    readonly content: string
    readonly relation: Relation | undefined
    readonly thread_root: EventId | undefined
  },
): MutableRow {
  const { event_nid, pdu, content, relation, thread_root } = event
  const row: MutableRow = {
    event_nid,
    event_id: pdu.event_id,
    room_nid: room.room_nid,
    room_id: room.room_id,
    type: pdu.type,
    sender: pdu.sender,
    origin_server_ts: pdu.origin_server_ts,
    content,
    push: 0,
  }
  if (pdu.state_key !== undefined) row.state_key = pdu.state_key
  if (pdu.redacts !== undefined) row.redacts = pdu.redacts
  if (relation) {
    row.relates_to = relation.event_id
    row.rel_type = relation.rel_type
  }
  if (thread_root) row.thread_root = thread_root
  return row
}

export function membershipIn(pdu: Pdu): string {
  const { membership } = pdu.content
  return typeof membership === 'string' ? membership : 'leave'
}

export function profileIn(pdu: Pdu): NonNullable<EventWrite['member_profile']> {
  const { displayname, avatar_url } = pdu.content
  return {
    display_name: typeof displayname === 'string' ? displayname : undefined,
    avatar_url: typeof avatar_url === 'string' ? avatar_url : undefined,
  }
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

export interface Relation {
  readonly event_id: EventId
  readonly rel_type: string
  readonly key?: string
}

/** The longest relation type that is looked at: others are no relation, and need no place in an index. */
const relTypeMax = 255

/** `m.relates_to` where it is a relation of events; a plain reply is none. */
export function relationOf(content: JsonObject): Relation | undefined {
  const relates = content['m.relates_to']
  if (!isJsonObject(relates)) return undefined
  const { event_id, rel_type, key } = relates
  if (!v.is(EventId, event_id) || typeof rel_type !== 'string' || rel_type.length > relTypeMax) return undefined
  return { event_id: event_id as EventId, rel_type, ...(typeof key === 'string' ? { key } : undefined) }
}

/** What relates to an event in a thread belongs to that thread.
 *  https://spec.matrix.org/v1.19/client-server-api/#threaded-read-receipts */
export async function threadRootOf(sql: MainSql, room: Room, relation: Relation): Promise<EventId | undefined> {
  if (relation.rel_type === 'm.thread') return relation.event_id
  const known = room.threads.get(relation.event_id)
  if (known !== undefined) return known || undefined
  const [target] = await sql<{ thread_root: EventId | null }[]>`
    select thread_root from events where event_id = ${relation.event_id} and room_nid = ${room.room_nid}`
  rememberThread(room, relation.event_id, target?.thread_root ?? '')
  return target?.thread_root ?? undefined
}
