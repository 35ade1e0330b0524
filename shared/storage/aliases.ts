/** Aliases of this server's rooms. https://spec.matrix.org/v1.19/client-server-api/#room-aliases */
import type { RoomAlias, RoomId } from '../matrix/ids.ts'
import { fromPgText, pgText, type ReadSql } from './sql.ts'

export async function roomOfAlias(sql: ReadSql, alias: RoomAlias): Promise<RoomId | undefined> {
  const [row] = await sql<{ room_id: RoomId }[]>`
    select r.room_id from room_aliases a join rooms r using (room_nid) where a.alias = ${pgText(alias)}`
  return row?.room_id
}

export async function aliasesOfRoom(sql: ReadSql, room_nid: number): Promise<string[]> {
  const rows = await sql<{ alias: string }[]>`
    select alias from room_aliases where room_nid = ${room_nid} order by alias`
  return rows.map((row) => fromPgText(row.alias))
}

/** undefined: no such room. */
export async function isPublished(sql: ReadSql, room_id: RoomId): Promise<boolean | undefined> {
  const [row] = await sql<{ published: boolean }[]>`select published from rooms where room_id = ${room_id}`
  return row?.published
}
