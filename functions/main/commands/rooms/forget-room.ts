/** Forgetting a room that one is no longer in. https://spec.matrix.org/v1.19/client-server-api/#leaving-rooms */
import type { MainClient } from '../../../../shared/commands/registry.ts'
import { MatrixError } from '../../../../shared/matrix/matrix-error.ts'
import { answered } from '../../command-call.ts'
import { membershipOf, stateEntry } from '../../rooms/room.ts'
import type { RoomCommandDeps } from './room-command-deps.ts'

export function forgetRoomHandler({ engine }: RoomCommandDeps): MainClient['forgetRoom'] {
  return async ({ room_id, user_id }) => {
    await engine.run(room_id, 'forget', async ({ room, write }) => {
      const membership = membershipOf(room, user_id)
      if (membership === 'join' || membership === 'invite' || membership === 'knock') {
        throw new MatrixError('M_UNKNOWN', 'You must leave the room before you can forget it', { status: 400 })
      }
      if (!stateEntry(room, 'm.room.member', user_id)) {
        throw new MatrixError('M_NOT_FOUND', 'You have never been in this room')
      }
      write({
        also: (tx) => [
          tx`update memberships set forgotten = true where user_id = ${user_id} and room_nid = ${room.room_nid}`,
        ],
        invalidations: [{ cache: 'room', key: room_id }],
        ...answered({}),
      })
    })
    return {}
  }
}
