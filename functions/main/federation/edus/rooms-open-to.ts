/** Which rooms a server may speak in. https://spec.matrix.org/v1.19/server-server-api/#server-access-control-lists */
import { serverAcl } from '../../../../shared/core/server-acl.ts'
import type { RoomId, ServerName } from '../../../../shared/matrix/ids.ts'
import { parseJsonObject } from '../../../../shared/matrix/parse-json.ts'
import { receivingRooms } from '../../../../shared/storage/receiving-rooms.ts'
import type { MainSql } from '../../../../shared/storage/sql.ts'

/** Those of the rooms that users of ours are in and that do not keep the server out. */
export async function roomsOpenTo(sql: MainSql, rooms: readonly RoomId[], origin: ServerName): Promise<Set<RoomId>> {
  const found = await receivingRooms(sql, [...new Set(rooms)])
  const isOpen = ({ joined, acl }: { joined: boolean; acl: string | null }) =>
    joined && (acl === null || serverAcl(parseJsonObject(acl)).allows(origin))
  return new Set([...found].flatMap(([room_id, room]) => (isOpen(room) ? [room_id] : [])))
}
