import type { RoomId, UserId } from '../matrix/ids.ts'
import { pgText, type ReadSql } from './sql.ts'

/** Rooms that both are joined to, after a place in their order, and how many there are in all. */
export async function mutualRooms(
  sql: ReadSql,
  users: readonly [UserId, UserId],
  page: { readonly after: number; readonly limit: number },
): Promise<{ readonly rooms: { readonly room_nid: number; readonly room_id: RoomId }[]; readonly count: number }> {
  const [one, other] = users
  const rows = await sql<{ room_nid: number; room_id: RoomId; count: number }[]>`
    with mutual as materialized (
      select a.room_nid from memberships a join memberships b on b.room_nid = a.room_nid and b.user_id = ${pgText(other)}
      where a.user_id = ${one} and a.membership = 'join' and b.membership = 'join'
    )
    select r.room_nid, r.room_id, (select count(*) from mutual)::integer as count
    from mutual join rooms r using (room_nid) where r.room_nid > ${page.after} order by r.room_nid limit ${page.limit}`
  return { rooms: rows.map(({ room_nid, room_id }) => ({ room_nid, room_id })), count: rows[0]?.count ?? 0 }
}
