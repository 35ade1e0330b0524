/** The part of a commit that is about messages to devices: one call of the database function `commit_to_device`
 *  (migration 0007). Batches without messages do not call it. */
import type postgres from 'postgres'
import type { WriteTx } from '../../../shared/storage/sql.ts'
import { texts } from './array-literals.ts'
import { separator } from './commit-batch.ts'
import type { Writes } from './writes.ts'

/** Where the positions of a commit have that of stream to_device. */
export const toDevicePlace = 6

const commitText =
  'select commit_to_device($1::text, $2::text::text[], $3::text::text[], $4::text::text[], $5::text::text[], $6::text) as position'

/** The statement, which returns the position of the stream after it; none where the batch has no messages. */
export function commitToDevice(
  tx: WriteTx,
  writer: string,
  batch: readonly Writes[],
): readonly postgres.PendingQuery<{ position: number }[]>[] {
  const messages = batch.flatMap((writes) => writes.to_device ?? [])
  if (messages.length === 0) return []
  const parameters = [
    writer,
    texts(messages.map((message) => message.user_id)),
    texts(messages.map((message) => message.device_id)),
    texts(messages.map((message) => message.sender)),
    texts(messages.map((message) => message.type)),
    messages.map((message) => message.content).join(separator),
  ]
  return [tx.unsafe<{ position: number }[]>(commitText, parameters, { prepare: true })]
}
