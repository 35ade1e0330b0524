/** Where a room's history goes on at other servers. */
import type { EventId, ServerName } from '../matrix/ids.ts'
import type { ReadSql } from './sql.ts'

/** Gaps that are closed together. */
const gapsMax = 20
/** Servers that are asked, at most. */
const serversMax = 5

/** Events that may be asked for now; in no order. */
export async function backwardGaps(sql: ReadSql, room_nid: number, now: number): Promise<EventId[]> {
  const rows = await sql<{ event_id: EventId }[]>`
    select event_id from backward_gaps where room_nid = ${room_nid} and retry_ts <= ${now} limit ${gapsMax}`
  return rows.map((row) => row.event_id)
}

export async function hasBackwardGap(sql: ReadSql, room_nid: number, now: number): Promise<boolean> {
  const [row] = await sql`select from backward_gaps where room_nid = ${room_nid} and retry_ts <= ${now} limit 1`
  return row !== undefined
}

/** Servers in the room that are likely to answer, those with the longest stay and most members first. */
export async function serversToAsk(sql: ReadSql, room_nid: number, now: number): Promise<ServerName[]> {
  const rows = await sql<{ server_name: ServerName }[]>`
    select s.server_name from room_servers s left join destinations d using (server_name)
    where s.room_nid = ${room_nid} and s.until is null
    order by coalesce(d.retry_ts, 0) > ${now}, s.since, s.joined desc limit ${serversMax}`
  return rows.map((row) => row.server_name)
}
