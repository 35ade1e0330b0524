/** The part of a commit that is about events which go to other servers: their places are noted in outbound_events. Batches
 *  without any cost nothing. */
import type postgres from 'postgres'
import type { WriteTx } from '../../../shared/storage/sql.ts'
import { texts } from './array-literals.ts'
import type { Writes } from './writes.ts'

/** A server that was never sent to has all that came before. */
const commitText = `with placed as (
    insert into outbound_events (position, room_nid, event_nid, origin, also_to)
    select e.position, e.room_nid, e.event_nid, server_of(e.sender), x.also_to
    from (select unnest($1::text::bigint[]) as event_nid, unnest($2::text::text[]) as also_to) x
    join events e using (event_nid) where e.position is not null
    returning position, also_to
  )
  insert into destinations (server_name, shard, cursor)
  select also_to, shard_of(also_to), min(position) - 1 from placed where also_to is not null group by also_to
  on conflict do nothing`

export function commitOutbound(
  tx: WriteTx,
  batch: readonly Writes[],
): readonly postgres.PendingQuery<postgres.Row[]>[] {
  const events = batch.flatMap(({ events = [] }) => events.filter((event) => event.visible && event.outbound))
  if (events.length === 0) return []
  const nids = `{${events.map(({ row }) => row.event_nid).join(',')}}`
  return [tx.unsafe(commitText, [nids, texts(events.map(({ outbound }) => outbound?.to))], { prepare: true })]
}
