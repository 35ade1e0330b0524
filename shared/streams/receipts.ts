import * as v from 'valibot'
import { EventId, RoomId, UserId } from '../matrix/ids.ts'
import { missedReceipts } from '../storage/stream-gaps.ts'
import { defineStream, StreamPosition } from './define.ts'

export const ReceiptType = v.picklist(['m.read', 'm.read.private'])
export type ReceiptType = v.InferOutput<typeof ReceiptType>

export const ReceiptRow = v.object({
  position: StreamPosition,
  room_nid: v.number(),
  room_id: RoomId,
  user_id: UserId,
  receipt_type: ReceiptType,
  /** '' for an unthreaded receipt, 'main', or a thread root's event id. */
  thread_id: v.string(),
  event_id: EventId,
  event_position: v.number(),
  ts: v.number(),
})
export type ReceiptRow = v.InferOutput<typeof ReceiptRow>

export const receipts = defineStream({
  name: 'receipts',
  row: ReceiptRow,
  kept: 'postgres',
  missed: missedReceipts,
  // A private receipt wakes its owner only; a public one changes its owner's counts too.
  wakes: (row) => (row.receipt_type === 'm.read' ? [row.room_id, row.user_id] : [row.user_id]),
  spec: 'client-server-api/#receipts',
})
