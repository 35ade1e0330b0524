/** Who sees what, worked out from a room's whole history in the simplest way: a specification to hold the server to. */
import type { JsonValue } from '../../shared/matrix/json-value.ts'

export interface ModelEvent {
  readonly event_id: string
  readonly type: string
  readonly state_key?: string
  readonly sender: string
  readonly content: Readonly<Record<string, JsonValue>>
  readonly unsigned?: {
    readonly 'm.relations'?: {
      readonly 'm.reference'?: { readonly chunk: readonly { readonly event_id: string }[] }
      readonly 'm.replace'?: { readonly event_id: string }
      readonly 'm.thread'?: { readonly latest_event: { readonly event_id: string } }
    }
  }
}
type History = readonly ModelEvent[]

/** In the state after the first `length` events. */
function visibilityAfter(history: History, length: number): JsonValue {
  const set = history.slice(0, length).findLast((event) => event.type === 'm.room.history_visibility')
  return set?.content.history_visibility ?? 'shared'
}
function membershipAfter(history: History, length: number, user: string): JsonValue | undefined {
  return history.slice(0, length).findLast((event) => isMemberOf(event, user))?.content.membership
}
const isMemberOf = (event: ModelEvent, user: string) => event.type === 'm.room.member' && event.state_key === user

/** The five rules, for the event at index `at`. */
export function visibleAt(history: History, at: number, user: string): boolean {
  const event = history[at]
  if (!event) return false
  const joinedLater = history
    .slice(at + 1)
    .some((later) => isMemberOf(later, user) && later.content.membership === 'join')
  const nowJoined = membershipAfter(history, history.length, user) === 'join'
  const rules = (length: number) => {
    const visibility = visibilityAfter(history, length)
    const membership = membershipAfter(history, length, user)
    if (visibility === 'world_readable' || membership === 'join') return true
    if (visibility === 'shared' && (joinedLater || nowJoined)) return true
    return visibility === 'invited' && membership === 'invite'
  }
  const twice = event.type === 'm.room.history_visibility' || isMemberOf(event, user)
  return rules(at) || (twice && rules(at + 1))
}

/** Index of the event that ended the user's last stay; undefined: never joined, or joined now. */
export function endOfStay(history: History, user: string): number | undefined {
  const lastJoin = history.findLastIndex((event) => isMemberOf(event, user) && event.content.membership === 'join')
  if (lastJoin < 0) return undefined
  const end = history.findIndex((event, at) => at > lastJoin && isMemberOf(event, user))
  return end < 0 ? undefined : end
}

/** Members, who were members and have not forgotten it, and everybody where all the world may read. */
export function mayOpen(history: History, user: string, forgotten: boolean): boolean {
  if (membershipAfter(history, history.length, user) === 'join') return true
  if (visibilityAfter(history, history.length) === 'world_readable') return true
  return endOfStay(history, user) !== undefined && !forgotten
}

/** What of the history is to be shown: for who left, up to the end of the stay, unless the world may read the room. */
export function shownTo(history: History, user: string, forgotten: boolean): ModelEvent[] {
  const end = forgotten ? undefined : endOfStay(history, user)
  const whole = end === undefined || visibilityAfter(history, history.length) === 'world_readable'
  return history.filter((_, at) => (whole || at <= end) && visibleAt(history, at, user))
}

/** The state to be shown: that at the end of the stay, or the present one. */
export function stateFor(history: History, user: string, forgotten: boolean): ModelEvent[] {
  const end = forgotten ? undefined : endOfStay(history, user)
  const state = new Map<string, ModelEvent>()
  for (const event of end === undefined ? history : history.slice(0, end + 1)) {
    if (event.state_key !== undefined) state.set(`${event.type}\0${event.state_key}`, event)
  }
  return [...state.values()]
}
