import type { ReadSql } from './sql.ts'

/** Rooms of those of the events that others relate to. */
export async function roomsWithRelations(sql: ReadSql, event_ids: readonly string[]): Promise<Set<number>> {
  const rows = await sql<{ room_nid: number }[]>`
    select distinct room_nid from events where relates_to = any(${sql.array([...event_ids], 25)}::text[])`
  return new Set(rows.map((row) => row.room_nid))
}
