/** Notes where a room's history goes on at other servers. */
import type { EventId } from '../../../shared/matrix/ids.ts'
import type { Writes } from '../persist/writes.ts'

/** For whoever stores an event: those of the events before it that have no place here are gaps from now on. */
export function gapWrites(room_nid: number, prev_events: readonly EventId[]): Writes {
  if (prev_events.length === 0) return {}
  return {
    also: (tx) => [
      tx`insert into backward_gaps (room_nid, event_id)
        select ${room_nid}, x.event_id from unnest(${tx.array([...prev_events], 25)}::text[]) as x(event_id)
        where not exists (
          select from events e where e.event_id = x.event_id collate "C" and (e.position is not null or e.flags & 3 <> 0))
        on conflict do nothing`,
    ],
  }
}
