/** A user's rooms, the one with the newest event first. Kept between requests, where few rooms move.
 *  https://github.com/matrix-org/matrix-spec-proposals/blob/main/proposals/4186-simplified-sliding-sync.md#activity-ordering */
import type { LiveUser, UserRoom } from '../live-user.ts'

export interface RoomOrder {
  readonly rooms: readonly UserRoom[]
  /** Those among them that the user is neither in nor waits to be let into. */
  readonly outside: readonly UserRoom[]
  /** In stream events. */
  readonly at: number
}

const orders = new WeakMap<LiveUser, RoomOrder>()

/** Where the room last changed for the user: its last event, or that of their membership where they are not joined. */
export function activityOf({ room, position }: UserRoom): number {
  return room ? room.events : position
}

/** As of position `at` of stream events, which has to be the present one. */
export function roomsByActivity(user: LiveUser, at: number): RoomOrder {
  const known = orders.get(user)
  if (known?.at === at && known.rooms.length === user.rooms.size) return known
  const rooms: UserRoom[] = []
  if (known) {
    for (const room of known.rooms) {
      const now = user.rooms.get(room.room_nid)
      if (now) rooms.push(now)
    }
  }
  if (rooms.length !== user.rooms.size) {
    const there = new Set(rooms)
    for (const room of user.rooms.values()) if (!there.has(room)) rooms.push(room)
  }
  // Sorting what is nearly in order takes little more than a look at each.
  rooms.sort((a, b) => activityOf(b) - activityOf(a))
  const outside = rooms.filter(({ membership }) => membership !== 'join' && membership !== 'knock')
  const order = { rooms, outside, at }
  orders.set(user, order)
  return order
}
