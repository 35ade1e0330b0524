/** Who may see an event. https://spec.matrix.org/v1.19/client-server-api/#room-history-visibility */
import type { JsonValue } from '../matrix/json-value.ts'

export type HistoryVisibility = 'world_readable' | 'shared' | 'invited' | 'joined'

/** `content.history_visibility`; what is absent or not understood counts as `shared`. */
export function historyVisibilityOf(value: JsonValue | undefined): HistoryVisibility {
  switch (value) {
    case 'world_readable':
    case 'shared':
    case 'invited':
    case 'joined':
      return value
    default:
      return 'shared'
  }
}

export interface VisibilityQuestion {
  /** In the state before the event. */
  readonly visibility: HistoryVisibility
  /** In the state after the event: given for `m.room.history_visibility` events, else the same as before. */
  readonly visibilityAfter?: HistoryVisibility
  /** The user's membership in the state before the event; undefined: none. */
  readonly membership: string | undefined
  /** In the state after the event: given for the user's own `m.room.member` events, else the same as before. */
  readonly membershipAfter?: string
  /** The user was joined at any point after the event was sent, now included. */
  readonly joinedLater: boolean
}

/** True if the user may see the event. Forgetting, ignoring and erasure are other questions. */
export function visibleTo(question: VisibilityQuestion): boolean {
  const { visibility, membership, joinedLater } = question
  if (allows(visibility, membership, joinedLater)) return true
  const visibilityAfter = question.visibilityAfter ?? visibility
  const membershipAfter = question.membershipAfter ?? membership
  if (visibilityAfter === visibility && membershipAfter === membership) return false
  return allows(visibilityAfter, membershipAfter, joinedLater)
}

function allows(visibility: HistoryVisibility, membership: string | undefined, joinedLater: boolean): boolean {
  // 1. If the history_visibility was set to world_readable, allow.
  if (visibility === 'world_readable') return true
  // 2. If the user's membership was join, allow.
  if (membership === 'join') return true
  // 3. If history_visibility was set to shared, and the user joined the room at any point after the event was sent, allow.
  if (visibility === 'shared') return joinedLater
  // 4. If the user's membership was invite, and the history_visibility was set to invited, allow. 5. Otherwise, deny.
  return visibility === 'invited' && membership === 'invite'
}
