/** What has to be known of a room before events of other servers are looked at. */
import type { RoomId } from '../matrix/ids.ts'
import type { ReadSql } from './sql.ts'

export interface ReceivingRoom {
  readonly room_version: string
  /** A user of this server is in the room. */
  readonly joined: boolean
  /** JSON of the content of its m.room.server_acl; null: it has none. */
  readonly acl: string | null
}

/** Those of the rooms that are known here. */
export async function receivingRooms(sql: ReadSql, ids: readonly RoomId[]): Promise<Map<RoomId, ReceivingRoom>> {
  const rows = await sql<({ room_id: RoomId } & ReceivingRoom)[]>`
    select r.room_id, r.room_version, (
        select e.content from current_state c join events e using (event_nid)
        where c.room_nid = r.room_nid and c.type = 'm.room.server_acl' and c.state_key = ''
      ) as acl, exists (
        select from memberships m where m.room_nid = r.room_nid and m.membership = 'join' and m.local
      ) as joined
    from rooms r where r.room_id = any(${sql.array([...ids], 25)}::text[])`
  return new Map(rows.map(({ room_id, ...room }) => [room_id, room]))
}
