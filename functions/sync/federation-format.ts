/** `event_format: federation`: events as servers exchange them. https://spec.matrix.org/v1.19/client-server-api/#filtering */
import { wireFromParts } from '../../shared/matrix/event-format.ts'
import type { ReadSql } from '../../shared/storage/sql.ts'
import { eventParts } from '../../shared/storage/sync-events.ts'
import type { RoomSection } from './timelines.ts'

/** JSON of the sections' events, by surrogate. */
export async function federationFormat(
  sql: ReadSql,
  sections: readonly RoomSection[],
): Promise<ReadonlyMap<number, string>> {
  const nids = sections.flatMap(({ events, state }) => [
    ...events.map(({ event }) => event.event_nid),
    ...state.map((event) => event.event_nid),
  ])
  const parts = await eventParts(sql, nids)
  return new Map(parts.map(({ event_nid, envelope, content }) => [event_nid, wireFromParts(envelope, content)]))
}
