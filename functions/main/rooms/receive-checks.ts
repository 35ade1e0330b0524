/** Checks 4 to 7 on receipt of an event: by its auth events, by the state before it, by the room's current state, and by
 *  its policy server.
 *  https://spec.matrix.org/v1.19/server-server-api/#checks-performed-on-receipt-of-a-pdu */
import { authStateOf as authStateOfEvents, checkAuth, checkAuthEvents } from '../../../shared/core/auth-rules.ts'
import { authEventKeys } from '../../../shared/core/auth-selection.ts'
import type { AuthVerdict } from '../../../shared/core/auth-verdict.ts'
import type { RoomRules } from '../../../shared/core/room-versions.ts'
import type { StoredEvent } from '../../../shared/matrix/event-format.ts'
import type { EventId, RoomId } from '../../../shared/matrix/ids.ts'
import type { Pdu } from '../../../shared/matrix/pdu.ts'
import type { MainSql } from '../../../shared/storage/sql.ts'
import { stateMapKey } from '../persist/state-types.ts'
import { ensureLoaded, loadEvents } from './load-room.ts'
import { type PolicyServers, policyOf, recommended } from './policy-server.ts'
import { type NamedState, rejectedFlag, softFailedFlag } from './resolve-room.ts'
import { authStateOf, type Room, type StateKey } from './room.ts'

/** Of `events.flags`; with 0 there is no reason. */
export interface Verdict {
  readonly flags: number
  readonly reason: string
}

const accepted: Verdict = { flags: 0, reason: '' }
const rejected = (verdict: AuthVerdict & { allowed: false }): Verdict => ({
  flags: rejectedFlag,
  reason: verdict.reason,
})

/** The create event that an event of a room has for an auth event without naming it. */
export function impliedCreate(rules: RoomRules, room_id: RoomId): EventId | undefined {
  return rules.roomIdIsCreateHash ? (`$${room_id.slice(1)}` as EventId) : undefined
}

/** Check 4. `authEvents`: all that the event names, and the one that is implied. */
export function checkByAuthEvents(rules: RoomRules, pdu: Pdu, authEvents: readonly Pdu[]): Verdict {
  const implied = impliedCreate(rules, pdu.room_id)
  const byShape = checkAuthEvents(
    rules,
    pdu,
    authEvents.filter((event) => event.event_id !== implied),
  )
  if (!byShape.allowed) return rejected(byShape)
  const byAuthEvents = checkAuth(rules, pdu, authStateOfEvents(authEvents))
  return byAuthEvents.allowed ? accepted : rejected(byAuthEvents)
}

/** Checks 4 to 6. `before`: the state before the event; absent where that is the current state. */
export async function checkReceived(
  sql: MainSql,
  room: Room,
  pdu: Pdu,
  by: { readonly authEvents: readonly Pdu[]; readonly before?: NamedState | undefined },
): Promise<Verdict> {
  const { rules } = room
  const verdict = checkByAuthEvents(rules, pdu, by.authEvents)
  if (verdict.flags !== 0) return verdict
  const keys: StateKey[] = [...authEventKeys(rules, pdu), ['m.room.create', ''], ['m.room.power_levels', '']]
  const { before } = by
  if (before) {
    const nids = keys.flatMap(([type, state_key]) => before.get(stateMapKey(type, state_key))?.event_nid ?? [])
    const events = await loadEvents(sql, room, nids)
    const byState = checkAuth(rules, pdu, authStateOfEvents(Array.from(events.values(), (event) => event.pdu)))
    if (!byState.allowed) return rejected(byState)
  }
  const loading = ensureLoaded(sql, room, keys)
  if (loading) await loading
  const byCurrent = checkAuth(rules, pdu, authStateOf(room))
  if (byCurrent.allowed) return accepted
  return before ? { flags: softFailedFlag, reason: byCurrent.reason } : rejected(byCurrent)
}

/** Check 7: the event with the signature of the room's policy server, where it has one, and what that means for it. */
export async function checkByPolicy(
  servers: PolicyServers,
  room: Room,
  event: StoredEvent,
): Promise<{ readonly event: StoredEvent; readonly verdict: Verdict }> {
  const policy = policyOf(room, event.pdu)
  if (!policy) return { event, verdict: accepted }
  const answer = await recommended(servers, room, policy, event)
  if ('event' in answer) return { event: answer.event, verdict: accepted }
  const reason = answer.refusal?.message ?? `${policy.via} does not recommend it`
  return { event, verdict: { flags: softFailedFlag, reason } }
}
