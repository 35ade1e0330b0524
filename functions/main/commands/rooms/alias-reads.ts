/** Aliases of this server's rooms, as the commands need them. */
import type { RoomAlias, RoomId, UserId } from '../../../../shared/matrix/ids.ts'
import { type MainSql, pgText } from '../../../../shared/storage/sql.ts'

export interface StoredAlias {
  readonly room_id: RoomId
  readonly room_nid: number
  readonly creator: UserId
}

export async function aliasTarget(sql: MainSql, alias: RoomAlias): Promise<StoredAlias | undefined> {
  const [row] = await sql<StoredAlias[]>`
    select r.room_id, r.room_nid, a.creator from room_aliases a join rooms r using (room_nid)
    where a.alias = ${pgText(alias)}`
  return row
}

export async function isAliasTaken(sql: MainSql, alias: RoomAlias): Promise<boolean> {
  return (await aliasTarget(sql, alias)) !== undefined
}
