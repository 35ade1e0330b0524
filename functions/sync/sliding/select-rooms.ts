/** Which rooms a request is about: those in the ranges of its lists, and those it subscribes to, each with what it asks of
 *  them. https://github.com/matrix-org/matrix-spec-proposals/blob/main/proposals/4186-simplified-sliding-sync.md#lists-and-subscriptions */
import type { LiveUser, UserRoom } from '../live-user.ts'
import type { ConnectionState } from './connection-state.ts'
import { factsOf, type ListFacts } from './list-facts.ts'
import type { ListFilters, RoomConfig, SlidingRequest } from './request.ts'
import { combinedRequired } from './required-state.ts'
import { roomsByActivity } from './room-order.ts'

export interface SelectedRoom {
  readonly membership: UserRoom
  readonly config: RoomConfig
  /** Names of the lists that it is in the range of. */
  readonly lists: readonly string[]
  readonly subscribed: boolean
}

export interface Selection {
  /** How many rooms pass the filters of each list. */
  readonly counts: ReadonlyMap<string, number>
  /** By room; in the order of the lists, then of the subscriptions. */
  readonly rooms: ReadonlyMap<number, SelectedRoom>
}

interface Making {
  readonly membership: UserRoom
  readonly configs: RoomConfig[]
  readonly lists: string[]
  subscribed: boolean
}

/** At position `at` of stream events, which has to be the present one. `told`: where the connection is in stream events. */
export function selectRooms(
  user: LiveUser,
  request: SlidingRequest,
  state: ConnectionState,
  facts: ListFacts,
  { at, told }: { readonly at: number; readonly told: number },
): Selection {
  const making = new Map<number, Making>()
  const counts = new Map<string, number>()
  const { rooms, outside } = roomsByActivity(user, at)
  const listed = outside.length === 0 ? rooms : rooms.filter((room) => isListed(user, room, state, facts, told))
  const roomOf = (membership: UserRoom) => {
    const known = making.get(membership.room_nid)
    if (known) return known
    const made: Making = { membership, configs: [], lists: [], subscribed: false }
    making.set(membership.room_nid, made)
    return made
  }
  for (const list of request.lists) {
    const { filters, ranges, name } = list
    const passing = filters ? listed.filter((room) => passes(room, filters, facts)) : listed
    counts.set(name, passing.length)
    for (const [first, last] of ranges ?? [[0, passing.length - 1] as const]) {
      for (let i = first; i <= last && i < passing.length; i++) {
        const membership = passing[i]
        if (!membership) continue
        const room = roomOf(membership)
        if (room.lists.at(-1) === name) continue
        room.lists.push(name)
        room.configs.push(list)
      }
    }
  }
  addSubscriptions(user, request, facts, roomOf)
  return { counts, rooms: finished(making) }
}

function addSubscriptions(
  user: LiveUser,
  { subscriptions }: SlidingRequest,
  facts: ListFacts,
  roomOf: (membership: UserRoom) => Making,
): void {
  if (subscriptions.size === 0) return
  for (const membership of user.rooms.values()) {
    const config = subscriptions.get(membership.room_id)
    if (!config || !maySubscribe(user, membership, facts)) continue
    const room = roomOf(membership)
    room.configs.push(config)
    room.subscribed = true
  }
}

function finished(making: ReadonlyMap<number, Making>): Map<number, SelectedRoom> {
  const rooms = new Map<number, SelectedRoom>()
  const combined = new Map<RoomConfig, Map<RoomConfig, RoomConfig>>()
  for (const [nid, { membership, configs, lists, subscribed }] of making) {
    const config = configs.reduce((a, b) => combine(combined, a, b))
    rooms.set(nid, { membership, config, lists, subscribed })
  }
  return rooms
}

/** Each pair of configs is put together once. */
function combine(known: Map<RoomConfig, Map<RoomConfig, RoomConfig>>, a: RoomConfig, b: RoomConfig): RoomConfig {
  let others = known.get(a)
  if (!others) {
    others = new Map()
    known.set(a, others)
  }
  let both = others.get(b)
  if (!both) {
    both = { limit: Math.max(a.limit, b.limit), required: combinedRequired([a.required, b.required]) }
    others.set(b, both)
  }
  return both
}

/** Rooms that the user left are there until the connection has told so; rooms that somebody put them out of stay. */
function isListed(user: LiveUser, room: UserRoom, state: ConnectionState, facts: ListFacts, told: number): boolean {
  switch (room.membership) {
    case 'join':
    case 'knock':
      return true
    case 'invite':
      return user.showsInvite(room.sender)
    case 'leave':
    case 'ban': {
      const sent = state.rooms.get(room.room_nid)
      if (sent && (sent.events ?? told) < room.position) return true
      return room.sender !== user.user_id && room.leftAt > 0 && !facts.forgotten.has(room.room_nid)
    }
  }
}

function maySubscribe(user: LiveUser, room: UserRoom, facts: ListFacts): boolean {
  switch (room.membership) {
    case 'join':
    case 'knock':
      return true
    case 'invite':
      return user.showsInvite(room.sender)
    case 'leave':
    case 'ban':
      return room.leftAt > 0 && !facts.forgotten.has(room.room_nid)
  }
}

function passes(membership: UserRoom, filters: ListFilters, { labels, children }: ListFacts): boolean {
  const { room_id, room_nid } = membership
  const { is_dm, spaces, is_encrypted, room_types, not_room_types, tags, not_tags, room_name_like } = filters
  const invited = filters.is_invite ?? filters.is_invited
  if (invited != null && (membership.membership === 'invite') !== invited) return false
  if (is_dm != null && labels.direct.has(room_id) !== is_dm) return false
  if (spaces && !spaces.some((space) => children.get(space)?.has(room_id))) return false
  if (tags || not_tags) {
    const own = labels.tags.get(room_nid) ?? []
    if (not_tags && own.some((tag) => not_tags.includes(tag))) return false
    if (tags && !own.some((tag) => tags.includes(tag))) return false
  }
  const facts = factsOf(membership)
  if (is_encrypted != null && (facts?.encrypted ?? false) !== is_encrypted) return false
  const type = facts?.room_type ?? null
  if (not_room_types?.includes(type)) return false
  if (room_types && !room_types.includes(type)) return false
  if (room_name_like == null) return true
  return (facts?.name ?? '').toLowerCase().includes(room_name_like.toLowerCase())
}
