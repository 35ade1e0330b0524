/** The part of a commit that is about thread subscriptions: one call of the database function `commit_thread_subscriptions`
 *  (migration 0010). Batches without any do not call it. */
import type postgres from 'postgres'
import type { WriteTx } from '../../../shared/storage/sql.ts'
import type { Writes } from './writes.ts'

/** Where the positions of a commit have that of stream thread_subscriptions. */
export const threadSubscriptionsPlace = 7

const commitText = 'select commit_thread_subscriptions($1::text, $2::text::bigint, $3::text::jsonb) as position'

/** The statement, which returns the position of the stream after it; none where the batch has no subscriptions. Of rows that
 *  take each other's place the last one is stored. */
export function commitThreadSubscriptions(
  tx: WriteTx,
  writer: string,
  batch: readonly Writes[],
): readonly postgres.PendingQuery<{ position: number }[]>[] {
  const changes = batch.flatMap((writes) => writes.thread_subscriptions ?? [])
  if (changes.length === 0) return []
  const rows = new Map<string, object>()
  for (const [i, { room_id: _, ...change }] of changes.entries()) {
    rows.set(`${change.user_id}\0${change.room_nid}\0${change.root_event_id}`, { ...change, at: i + 1 })
  }
  const parameters = [writer, changes.length, JSON.stringify([...rows.values()])]
  return [tx.unsafe<{ position: number }[]>(commitText, parameters, { prepare: true })]
}
