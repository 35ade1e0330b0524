/** An event that somebody else will complete: on the room as it is, without hashes and signatures.
 *  https://spec.matrix.org/v1.19/server-server-api/#joining-rooms */
import { checkAuth } from '../../../shared/core/auth-rules.ts'
import { authEventKeys } from '../../../shared/core/auth-selection.ts'
import { wireReferences } from '../../../shared/matrix/event-format.ts'
import type { EventId, UserId } from '../../../shared/matrix/ids.ts'
import type { JsonObject } from '../../../shared/matrix/json-value.ts'
import { limits } from '../../../shared/matrix/limits.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { stateMapKey } from '../persist/state-types.ts'
import type { AppendDeps } from './advance.ts'
import { ensureLoaded } from './load-room.ts'
import { authStateOf, prevEventsMax, type Room, type StateKey } from './room.ts'

/** Throws M_FORBIDDEN where the rules would not allow it. */
export async function eventTemplate(
  deps: Pick<AppendDeps, 'sql' | 'clock' | 'referenceHashes'>,
  room: Room,
  wish: { readonly type: string; readonly state_key: string; readonly sender: UserId; readonly content: JsonObject },
): Promise<JsonObject> {
  const { rules } = room
  const selected: readonly StateKey[] = authEventKeys(rules, wish)
  const loading = ensureLoaded(deps.sql, room, selected)
  if (loading) await loading
  const auth_events = selected.flatMap((key) => room.state.get(stateMapKey(...key))?.event_id ?? [])
  const previous = room.extremities.slice(0, prevEventsMax)
  const prev_events = previous.map((extremity) => extremity.event_id)
  const depth = Math.min(Math.max(...previous.map((extremity) => extremity.depth)) + 1, limits.eventDepth)
  const event = { ...wish, room_id: room.room_id, depth, origin_server_ts: deps.clock.now() }
  const pdu = { ...event, event_id: '$template' as EventId, prev_events, auth_events }
  const verdict = checkAuth(rules, pdu, authStateOf(room))
  if (!verdict.allowed) throw new MatrixError('M_FORBIDDEN', verdict.reason)
  const hashes = rules.eventReferencesHaveHashes
    ? await deps.referenceHashes.of(rules, [...prev_events, ...auth_events])
    : new Map<EventId, string>()
  return {
    ...event,
    prev_events: wireReferences(rules, prev_events, hashes),
    auth_events: wireReferences(rules, auth_events, hashes),
  }
}
