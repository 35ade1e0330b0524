/** Who types where: in memory, published as a whole list a room each time it changes.
 *  https://spec.matrix.org/v1.19/client-server-api/#typing-notifications */
import type { Clock } from '../../../shared/clock.ts'
import type { RoomId, UserId } from '../../../shared/matrix/ids.ts'
import type { WritableEphemeralStore } from '../../../shared/replication/ephemeral-store.ts'
import type { Publisher } from '../../../shared/replication/replication.ts'

const timeoutMaxMs = 120_000
/** What clients ask for, as a rule. */
const adoptedTimeoutMs = 30_000

export interface Typing {
  set(room: RoomId, user: UserId, typing: boolean, timeoutMs: number): void
  /** The user left the room, or sent what was typed. */
  stop(room: RoomId, user: UserId): void
  /** What another process had begun goes on here. When it ends is not known: soon, unless clients say otherwise. */
  adopt(typing: ReadonlyMap<RoomId, readonly UserId[]>): void
  /** Another process goes on with it. */
  abandon(): void
}

interface Typist {
  readonly cancel: () => void
}

export function createTyping(deps: { publisher: Publisher; store: WritableEphemeralStore; clock: Clock }): Typing {
  const rooms = new Map<RoomId, Map<UserId, Typist>>()

  function publish(room: RoomId): void {
    const user_ids = [...(rooms.get(room)?.keys() ?? [])]
    if (user_ids.length === 0) rooms.delete(room)
    deps.store.setTyping(room, user_ids)
    deps.publisher.publishEphemeral('typing', [{ room_id: room, user_ids }])
  }

  function stop(room: RoomId, user: UserId): void {
    const typist = rooms.get(room)?.get(user)
    if (!typist) return
    typist.cancel()
    rooms.get(room)?.delete(user)
    publish(room)
  }

  function hold(room: RoomId, user: UserId, timeoutMs: number): boolean {
    const typists = rooms.get(room) ?? new Map<UserId, Typist>()
    rooms.set(room, typists)
    const known = typists.get(user)
    known?.cancel()
    typists.set(user, { cancel: deps.clock.after(timeoutMs, () => stop(room, user)) })
    return known === undefined
  }

  return {
    set(room, user, typing, timeoutMs) {
      if (!typing) return stop(room, user)
      // A prolonged timeout changes nothing that others see.
      if (hold(room, user, Math.min(Math.max(timeoutMs, 1), timeoutMaxMs))) publish(room)
    },
    stop,
    adopt(found) {
      for (const [room_id, users] of found) {
        for (const user of users) if (!rooms.get(room_id)?.has(user)) hold(room_id, user, adoptedTimeoutMs)
      }
    },
    abandon() {
      for (const typists of rooms.values()) for (const typist of typists.values()) typist.cancel()
      rooms.clear()
    },
  }
}
