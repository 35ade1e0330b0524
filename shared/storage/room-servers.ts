/** Reads of which servers are in a room. */
import type { RoomId, ServerName } from '../matrix/ids.ts'
import type { ReadSql } from './sql.ts'

/** Servers with a joined member, at most so many, in no order. */
export async function serversInRoom(sql: ReadSql, room_id: RoomId, most: number): Promise<ServerName[]> {
  const rows = await sql<{ server_name: ServerName }[]>`
    select distinct server_of(user_id) as server_name from memberships
    where room_nid = (select room_nid from rooms where room_id = ${room_id}) and membership = 'join'
    limit ${most}`
  return rows.map((row) => row.server_name)
}

/** Whether a member of the server is joined to the room; false where there is no such room. */
export async function isServerInRoom(sql: ReadSql, room_id: RoomId, server: ServerName): Promise<boolean> {
  const [row] = await sql<{ there: boolean }[]>`
    select exists (
      select from memberships
      where room_nid = (select room_nid from rooms where room_id = ${room_id}) and membership = 'join'
        and server_of(user_id) = ${server}
    ) as there`
  return row?.there === true
}
