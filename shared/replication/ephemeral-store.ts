/** What is typed and who is online now: the last row of each key of the streams kept in memory. In one process a map;
 *  a Redis hash where roles run apart. Main writes it before it publishes the row. */
import { LRUCache } from 'lru-cache'
import { entriesUpTo } from '../lru-bound.ts'
import type { RoomId, UserId } from '../matrix/ids.ts'
import type { PresenceRow } from '../streams/presence.ts'

export type Presence = Omit<PresenceRow, 'position'>

export interface EphemeralStore {
  /** Known states of these users; users never seen since the start are left out. */
  presenceOf(users: readonly UserId[]): Promise<ReadonlyMap<UserId, Presence>>
  /** Who types in the room, in the order they began. */
  typingIn(room: RoomId): Promise<readonly UserId[]>
}

export interface WritableEphemeralStore extends EphemeralStore {
  setPresence(presence: Presence): void
  setTyping(room: RoomId, users: readonly UserId[]): void
  /** Where several mains take turns: this one keeps typing and presence from now on. Returns what the one before it left. */
  take?(): Promise<EphemeralState>
  /** Another one does. */
  leave?(): void
}

export interface EphemeralState {
  readonly typing: ReadonlyMap<RoomId, readonly UserId[]>
  readonly presence: readonly Presence[]
}

/** Bounded: the users seen longest ago are forgotten first, and are then as good as offline. */
export function createMemoryEphemeralStore(usersMax = 200_000): WritableEphemeralStore {
  const presence = new LRUCache<UserId, Presence>({ ...entriesUpTo(usersMax) })
  // Bounded by expiry: a room with nobody typing has no entry.
  const typing = new Map<RoomId, readonly UserId[]>()
  return {
    async presenceOf(users) {
      const found = new Map<UserId, Presence>()
      for (const user of users) {
        const state = presence.get(user)
        if (state) found.set(user, state)
      }
      return found
    },
    async typingIn(room) {
      return typing.get(room) ?? []
    },
    setPresence(state) {
      presence.set(state.user_id, state)
    },
    setTyping(room, users) {
      if (users.length === 0) typing.delete(room)
      else typing.set(room, users)
    },
  }
}
