/** A user's rooms, the one with the newest event first. Kept between requests, where few rooms move.
 *  https://github.com/matrix-org/matrix-spec-proposals/blob/main/proposals/4186-simplified-sliding-sync.md#activity-ordering */
import type { LiveUser, UserRoom } from '../live-user.ts'

interface Order {
  rooms: readonly UserRoom[]
  /** In stream events. */
  at: number
}

const orders = new WeakMap<LiveUser, Order>()

/** Where the room last changed for the user: its last event, or that of their membership where they are not joined. */
export function activityOf({ room, position }: UserRoom): number {
  return room ? room.events : position
}

/** As of position `at` of stream events, which has to be the present one. */
export function roomsByActivity(user: LiveUser, at: number): readonly UserRoom[] {
  const known = orders.get(user)
  if (known?.at === at && known.rooms.length === user.rooms.size) return known.rooms
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
  orders.set(user, { rooms, at })
  return rooms
}
