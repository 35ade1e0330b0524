/** The way of a local event: previous events, auth events, hash and signature, authorisation; then the room moves on by it. */
import { checkAuth } from '../../../shared/core/auth-rules.ts'
import { authEventKeys } from '../../../shared/core/auth-selection.ts'
import { buildEvent } from '../../../shared/matrix/event-format.ts'
import type { EventId, UserId } from '../../../shared/matrix/ids.ts'
import type { JsonObject } from '../../../shared/matrix/json-value.ts'
import { limits } from '../../../shared/matrix/limits.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import type { Pdu } from '../../../shared/matrix/pdu.ts'
import { stateMapKey } from '../persist/state-types.ts'
import type { Writes } from '../persist/writes.ts'
import { type AppendDeps, advance } from './advance.ts'
import { ensureLoaded } from './load-room.ts'
import { concernsOthers, outboundWrites } from './outbound.ts'
import { policyOf, recommended } from './policy-server.ts'
import { authStateOf, prevEventsMax, type Room, type StateEntry, type StateKey } from './room.ts'

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

/** Builds the room's next event. Throws M_FORBIDDEN where the authorisation rules refuse it, M_BAD_JSON and M_TOO_LARGE
 *  for what is no event; then nothing has changed. */
export async function appendEvent(deps: AppendDeps, room: Room, draft: Draft): Promise<Appended> {
  const { sql } = deps
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
  let built = buildEvent(
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
  const policy = policyOf(room, draft)
  if (policy) {
    const answer = await recommended(deps.policyServers, room, policy, built)
    if ('refusal' in answer) {
      throw (
        answer.refusal ??
        new MatrixError('M_FORBIDDEN', `The policy server ${policy.via} does not sign as the room asks`)
      )
    }
    built = answer.event
  }

  const outbound = concernsOthers(room, draft, deps.serverName)
  const next = deps.nids.next()
  const event_nid = typeof next === 'number' ? next : await next
  if (hashes) deps.referenceHashes.remember(rules, { ...built, event_id: pdu.event_id })
  const writes = await advance(deps, room, built, {
    event_nid,
    auth_event_nids: authEntries.map((entry) => entry.event_nid),
    redacts: draft.redacts,
    unnoticed: draft.unnoticed,
    device_id: draft.device_id,
    txn_id: draft.txn_id,
    delay_id: draft.delay_id,
    extremitiesLeft: room.extremities.slice(prevEventsMax),
  })
  return { pdu, event_nid, writes: outboundWrites(writes, outbound) }
}
