import type { RoomId, UserId } from '../matrix/ids.ts'
import { pgText, type ReadSql } from './sql.ts'

/** JSON text of one entry, global or of a room; undefined if it was never set. */
export async function accountDataOf(
  sql: ReadSql,
  entry: { user_id: UserId; room_id?: RoomId; type: string },
): Promise<string | undefined> {
  const [row] = entry.room_id
    ? await sql<{ content: string }[]>`
        select a.content from account_data a join rooms r on r.room_nid = a.room_nid
        where a.user_id = ${entry.user_id} and r.room_id = ${entry.room_id} and a.type = ${pgText(entry.type)}`
    : await sql<{ content: string }[]>`
        select content from account_data
        where user_id = ${entry.user_id} and room_nid = 0 and type = ${pgText(entry.type)}`
  return row?.content
}
