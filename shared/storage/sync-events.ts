import type { ReadSql } from './sql.ts'

/** The two texts that make an event's JSON on the wire. */
export async function eventParts(
  sql: ReadSql,
  nids: readonly number[],
): Promise<{ event_nid: number; envelope: string; content: string }[]> {
  if (nids.length === 0) return []
  return sql<{ event_nid: number; envelope: string; content: string }[]>`
    select event_nid, envelope, content from events where event_nid = any(${sql.array([...nids], 20)}::bigint[])`
}
