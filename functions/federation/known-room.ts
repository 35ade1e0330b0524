/** A room that another server asks about: this server is in it, and the other one is not shut out. */
import { type RoomRules, rulesOf } from '../../shared/core/room-versions.ts'
import { serverAcl } from '../../shared/core/server-acl.ts'
import type { RoomId, ServerName } from '../../shared/matrix/ids.ts'
import { MatrixError } from '../../shared/matrix/matrix-error.ts'
import { parseJsonObject } from '../../shared/matrix/parse-json.ts'
import { receivingRooms } from '../../shared/storage/receiving-rooms.ts'
import type { ReadSql } from '../../shared/storage/sql.ts'

/** Throws M_NOT_FOUND, and M_FORBIDDEN by the room's server ACL.
 *  https://spec.matrix.org/v1.19/server-server-api/#server-access-control-lists-acls */
export async function knownRoom(sql: ReadSql, room_id: RoomId, origin: ServerName): Promise<RoomRules> {
  const room = (await receivingRooms(sql, [room_id])).get(room_id)
  if (!room?.joined) throw new MatrixError('M_NOT_FOUND', 'This server is not in the room')
  if (room.acl !== null && !serverAcl(parseJsonObject(room.acl)).allows(origin)) {
    throw new MatrixError('M_FORBIDDEN', 'Your server is banned from the room')
  }
  const rules = rulesOf(room.room_version)
  if (!rules) throw new Error(`room ${room_id} has version ${room.room_version}, which this server does not know`)
  return rules
}
