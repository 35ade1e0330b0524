/** What the connection has told once an answer is with the client. What is out of sight stays where it was told last; only
 *  what changed there meanwhile has to be noted. */
import type { Live } from '../live.ts'
import type { LiveUser, UserRoom } from '../live-user.ts'
import {
  type ConnectionState,
  connectionState,
  membersPerRoom,
  type SentApart,
  type SentRoom,
} from './connection-state.ts'
import { hasPrivateReceipt, hasRead, type Span, toldUpTo } from './plan-rooms.ts'
import type { ReadRoom } from './read-rooms.ts'
import { activityOf } from './room-order.ts'
import type { SelectedRoom, Selection } from './select-rooms.ts'

/** Of a timeline that was told from its beginning: no limit asks for more. */
const wholeTimeline = 1_000_000_000

/** What is kept of a room that was read. */
export interface ToldRoom {
  readonly limit: number
  readonly members: readonly string[]
  readonly dm: boolean
}

export function toldRoom({ part, section, members }: ReadRoom): ToldRoom {
  const { config } = part.selected
  const before = part.sent?.limit ?? 0
  let limit: number
  if (!section || !part.timeline || part.timeline.ownEventOnly) limit = config.limit
  else if (part.initial || part.expanded) limit = section.limited ? config.limit : wholeTimeline
  else limit = section.limited ? config.limit : Math.max(before, config.limit)
  return { limit, members: members.slice(-membersPerRoom), dm: part.dm }
}

/** Which rooms each extension tells of. */
export interface Scopes {
  accountData(room: SelectedRoom): boolean
  receipts(room: SelectedRoom): boolean
  typing(room: SelectedRoom): boolean
  /** What is not told room by room. */
  readonly apart: SentApart
}

export interface Transition extends Span {
  readonly live: Live
  readonly user: LiveUser
  readonly selection: Selection
  readonly told: ReadonlyMap<number, ToldRoom>
  readonly scopes: Scopes
  /** Rooms whose account data the user changed; undefined: not known which. */
  readonly labelled: ReadonlySet<number> | undefined
}

/** The same state where it says the same. */
export function nextState(state: ConnectionState, transition: Transition): ConnectionState {
  const { selection, user } = transition
  const changes = new Map<number, SentRoom | undefined>()
  const moved = hasMoved(transition)
  for (const [nid, selected] of selection.rooms) {
    const sent = state.rooms.get(nid)
    if (sent && isSettled(sent, selected, transition, moved)) continue
    const next = nextSelected(sent, selected, transition)
    if (next !== sent) changes.set(nid, next)
  }
  if (moved) {
    for (const [nid, sent] of state.rooms) {
      if (selection.rooms.has(nid)) continue
      const membership = user.rooms.get(nid)
      const next = membership && outOfSight(sent, membership, transition)
      if (next !== sent) changes.set(nid, next)
    }
  }
  const { apart } = transition.scopes
  if (changes.size === 0 && isSameApart(apart, state)) return state
  const rooms = new Map(state.rooms)
  for (const [nid, sent] of changes) {
    if (sent) rooms.set(nid, sent)
    else rooms.delete(nid)
  }
  return connectionState(rooms, apart)
}

function isSameApart(a: SentApart, b: SentApart): boolean {
  return a.globalAccountData === b.globalAccountData && a.threadSubscriptions === b.threadSubscriptions
}

function hasMoved({ since, upTo }: Span): boolean {
  return (
    since !== undefined &&
    (since.events !== upTo.events ||
      since.receipts !== upTo.receipts ||
      since.account_data !== upTo.account_data ||
      since.typing !== upTo.typing)
  )
}

/** Nothing was told of the room, and nothing has to be noted: nearly every room of nearly every answer. */
function isSettled(sent: SentRoom, selected: SelectedRoom, { told, scopes }: Transition, moved: boolean): boolean {
  const { membership, config } = selected
  return (
    membership.room !== undefined &&
    !told.has(membership.room_nid) &&
    sent.events === undefined &&
    !sent.staleCounts &&
    (sent.required === config.required || sent.required.text === config.required.text) &&
    (scopes.receipts(selected) ? sent.receipts === 'live' : !moved || sent.receipts !== 'live') &&
    (scopes.accountData(selected) ? sent.accountData : !moved || !sent.accountData) &&
    (scopes.typing(selected) ? !sent.staleTyping : !moved || sent.staleTyping)
  )
}

const untold = { events: undefined, receipts: 'never', accountData: false, staleTyping: true, members: [] } as const

function nextSelected(
  sent: SentRoom | undefined,
  selected: SelectedRoom,
  transition: Transition,
): SentRoom | undefined {
  const { told, scopes } = transition
  const { membership, config, subscribed } = selected
  const read = told.get(membership.room_nid)
  // What was not planned had nothing to tell; without anything told before there is nothing to keep either.
  if (!sent && !read) return undefined
  const here = sent ? unseen(sent, membership, transition) : { ...untold }
  const joined = membership.room !== undefined
  const next: SentRoom = {
    required: sent && sent.required.text === config.required.text ? sent.required : config.required,
    limit: read?.limit ?? sent?.limit ?? 0,
    events: undefined,
    receipts: joined && scopes.receipts(selected) ? 'live' : here.receipts,
    accountData: scopes.accountData(selected) || here.accountData,
    dm: read ? read.dm : (sent?.dm ?? false),
    staleTyping: !scopes.typing(selected) && here.staleTyping,
    staleCounts: false,
    members: config.required.lazyMembers ? (read ? read.members : (sent?.members ?? [])) : [],
  }
  // Of a room that the user has left there is nothing more to tell.
  if (membership.membership === 'leave' && membership.sender === transition.user.user_id && !subscribed)
    return undefined
  return sent && isSame(sent, next) ? sent : next
}

/** What changed of the room that no extension told of. */
function unseen(sent: SentRoom, membership: UserRoom, { live, user, since, labelled }: Transition) {
  const { room, room_nid } = membership
  const changed = since !== undefined && room !== undefined
  const receipts =
    changed &&
    sent.receipts === 'live' &&
    (room.receipts > since.receipts || hasPrivateReceipt(user, room, since.receipts))
      ? since.receipts
      : sent.receipts
  const accountData =
    sent.accountData &&
    !(since !== undefined && user.accountData > since.account_data && (labelled?.has(room_nid) ?? true))
  const typed =
    changed && (room.typing > since.typing || (since.typing < live.startedAt.typing && room.typists.length > 0))
  return { receipts, accountData, staleTyping: sent.staleTyping || typed }
}

function outOfSight(sent: SentRoom, membership: UserRoom, transition: Transition): SentRoom | undefined {
  const { since, user } = transition
  const { room } = membership
  const behind = activityOf(membership) > toldUpTo(sent, since)
  const next: SentRoom = {
    ...sent,
    ...unseen(sent, membership, transition),
    events: sent.events ?? (behind ? since?.events : undefined),
    staleCounts: sent.staleCounts || (since !== undefined && room !== undefined && hasRead(user, room, since)),
  }
  return isSame(sent, next) ? sent : next
}

function isSame(a: SentRoom, b: SentRoom): boolean {
  return (
    a.required === b.required &&
    a.limit === b.limit &&
    a.events === b.events &&
    a.receipts === b.receipts &&
    a.accountData === b.accountData &&
    a.dm === b.dm &&
    a.staleTyping === b.staleTyping &&
    a.staleCounts === b.staleCounts &&
    (a.members === b.members ||
      (a.members.length === b.members.length && a.members.every((m, i) => m === b.members[i])))
  )
}
