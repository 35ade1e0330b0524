import type { EventId, UserId } from '../matrix/ids.ts'
import type { ReceiptType } from '../streams/receipts.ts'
import type { ReadSql } from './sql.ts'

export interface StoredReceipt {
  readonly room_nid: number
  readonly user_id: UserId
  readonly receipt_type: ReceiptType
  readonly thread_id: string
  readonly event_id: EventId
  readonly ts: number
  readonly position: number
}

/** Receipts of `rooms` at positions in (after, upTo] that the user may see: all public ones and their own private ones. */
export async function receiptsBetween(
  sql: ReadSql,
  user: UserId,
  rooms: readonly number[],
  range: { readonly after: number; readonly upTo: number },
): Promise<StoredReceipt[]> {
  if (rooms.length === 0 || range.after >= range.upTo) return []
  return sql<StoredReceipt[]>`
    select room_nid, user_id, receipt_type, thread_id, event_id, ts, position from receipts
    where room_nid = any(${sql.array([...rooms], 20)}::bigint[])
      and position > ${range.after} and position <= ${range.upTo}
      and (receipt_type = 'm.read' or user_id = ${user})
    order by position`
}
