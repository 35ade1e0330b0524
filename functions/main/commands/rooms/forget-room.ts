/** Forgetting a room that one is no longer in. https://spec.matrix.org/v1.19/client-server-api/#leaving-rooms */
import type { MainClient } from '../../../../shared/commands/registry.ts'
import type { UserId } from '../../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../../shared/matrix/matrix-error.ts'
import { answered } from '../../command-call.ts'
import type { Writes } from '../../persist/writes.ts'
import { membershipOf, type Room, stateEntry } from '../../rooms/room.ts'
import type { RoomCommandDeps } from './room-command-deps.ts'

export function forgetRoomHandler({ engine, sql, committer }: RoomCommandDeps): MainClient['forgetRoom'] {
  return async ({ room_id, user_id }) => {
    const isHere = await engine.tryRun(room_id, 'forget', async ({ room, write }) => {
      const known = stateEntry(room, 'm.room.member', user_id) !== undefined
      checkMayForget(known ? membershipOf(room, user_id) : undefined)
      write(forgotten(room, user_id))
      return true
    })
    if (isHere) return {}
    // What the user turned down, or knocked on in vain.
    const [outside] = await sql<{ room_nid: number; membership: string }[]>`
      select room_nid, membership from memberships join rooms using (room_nid)
      where room_id = ${room_id} and user_id = ${user_id}`
    checkMayForget(outside?.membership)
    if (outside) await committer.commit(forgotten({ room_id, room_nid: outside.room_nid }, user_id))
    return {}
  }
}

/** `membership`: absent where the user has never been there. */
function checkMayForget(membership: string | undefined): void {
  if (membership === undefined) throw new MatrixError('M_NOT_FOUND', 'You have never been in this room')
  if (membership === 'join' || membership === 'invite' || membership === 'knock') {
    throw new MatrixError('M_UNKNOWN', 'You must leave the room before you can forget it', { status: 400 })
  }
}

function forgotten({ room_id, room_nid }: Pick<Room, 'room_id' | 'room_nid'>, user_id: UserId): Writes {
  return {
    also: (tx) => [tx`update memberships set forgotten = true where user_id = ${user_id} and room_nid = ${room_nid}`],
    invalidations: [{ cache: 'room', key: room_id }],
    ...answered({}),
  }
}
