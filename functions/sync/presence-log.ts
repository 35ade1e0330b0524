/** Who is online, and what changed of late: kept from the stream of presence, with the rooms of those users, so that each
 *  is shown to those who share a room with them. https://spec.matrix.org/v1.19/client-server-api/#presence */
import type { UserId } from '../../shared/matrix/ids.ts'
import type { PresenceRow } from '../../shared/streams/presence.ts'

const usersMax = 100_000
const recentMax = 2_000

interface Placing {
  readonly users: readonly UserId[]
  /** Changes of membership that came while the rooms were read. */
  readonly changes: { user_id: UserId; room_nid: number; joined: boolean }[]
}

export class PresenceLog {
  /** The last row of each user, in the order of positions. */
  private readonly rows = new Map<UserId, PresenceRow>()
  private readonly rooms = new Map<UserId, Set<number>>()
  private readonly unplacedUsers = new Set<UserId>()
  /** The newest rows, oldest first: all after position `recentFrom`. */
  private recent: PresenceRow[] = []
  private recentFrom = 0
  private readonly placings = new Set<Placing>()
  private last = 0

  add(row: PresenceRow): void {
    this.rows.delete(row.user_id)
    this.rows.set(row.user_id, row)
    this.last = row.position
    if (!this.rooms.has(row.user_id)) this.unplacedUsers.add(row.user_id)
    this.recent.push(row)
    if (this.recent.length > recentMax) {
      const dropped = this.recent.splice(0, recentMax / 2)
      this.recentFrom = dropped.at(-1)?.position ?? this.recentFrom
    }
    if (this.rows.size > usersMax) {
      const [oldest] = this.rows.keys()
      if (oldest === undefined) return
      this.rows.delete(oldest)
      this.rooms.delete(oldest)
      this.unplacedUsers.delete(oldest)
    }
  }

  /** Position of the newest row; 0 if there was none. */
  get position(): number {
    return this.last
  }

  get(user: UserId): PresenceRow | undefined {
    return this.rows.get(user)
  }

  /** The last row of each user with one at a position in (after, upTo], in no order. */
  between(after: number, upTo: number): PresenceRow[] {
    if (this.last <= after) return []
    if (after < this.recentFrom) {
      return [...this.rows.values()].filter((row) => row.position > after && row.position <= upTo)
    }
    const found = new Map<UserId, PresenceRow>()
    for (let i = this.recent.length - 1; i >= 0; i--) {
      const row = this.recent[i]
      if (!row || row.position <= after) break
      if (row.position <= upTo && !found.has(row.user_id)) found.set(row.user_id, row)
    }
    return [...found.values()]
  }

  roomsOf(user: UserId): ReadonlySet<number> | undefined {
    return this.rooms.get(user)
  }

  setRooms(user: UserId, rooms: Set<number>): void {
    this.rooms.set(user, rooms)
    this.unplacedUsers.delete(user)
  }

  /** Users whose rooms are not known. */
  unplaced(): ReadonlySet<UserId> {
    return this.unplacedUsers
  }

  startPlacing(users: readonly UserId[]): Placing {
    const placing = { users, changes: [] }
    this.placings.add(placing)
    return placing
  }

  /** Takes the rooms that were read, with what changed meanwhile; returns those that are new. */
  finishPlacing(placing: Placing, rooms: ReadonlyMap<string, readonly number[]>): Map<UserId, ReadonlySet<number>> {
    this.placings.delete(placing)
    const placed = new Map<UserId, ReadonlySet<number>>()
    for (const user of placing.users) {
      if (this.rooms.has(user) || !this.rows.has(user)) continue
      const joined = new Set(rooms.get(user))
      for (const change of placing.changes) {
        if (change.user_id !== user) continue
        if (change.joined) joined.add(change.room_nid)
        else joined.delete(change.room_nid)
      }
      this.setRooms(user, joined)
      placed.set(user, joined)
    }
    return placed
  }

  memberChanged(member: { user_id: UserId; membership: string }, room_nid: number): void {
    const joined = member.membership === 'join'
    for (const placing of this.placings) placing.changes.push({ user_id: member.user_id, room_nid, joined })
    const rooms = this.rooms.get(member.user_id)
    if (!rooms) return
    if (joined) rooms.add(room_nid)
    else rooms.delete(room_nid)
  }
}
