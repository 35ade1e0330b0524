/** What a command wants written. Many commands' writes join one commit; `commit` resolves when that is durable and its
 *  rows are published. */
import type postgres from 'postgres'
import type { WriteTx } from '../../../shared/storage/sql.ts'
import type { AccountDataRow } from '../../../shared/streams/account-data.ts'
import type { EventRow } from '../../../shared/streams/events.ts'
import type { InvalidationRow } from '../../../shared/streams/invalidations.ts'
import type { ReceiptRow } from '../../../shared/streams/receipts.ts'

type Unplaced<Row> = Omit<Row, 'position'>

/** One event with everything that is stored for it; the position comes from the commit. */
export interface EventWrite {
  readonly row: Unplaced<EventRow>
  /** JSON of the PDU without `content`. */
  readonly envelope: string
  readonly depth: number
  readonly state_root: number
  readonly flags: number
  /** False: kept, but in no timeline (outlier, rejected, soft-failed). */
  readonly visible: boolean
  /** Set when this event becomes the current state for its (type, state_key). */
  readonly current_state: boolean
  /** nid of the state event it replaces. */
  readonly replaces_nid?: number
}

export interface Writes {
  readonly events?: readonly EventWrite[]
  readonly receipts?: readonly Unplaced<ReceiptRow>[]
  readonly account_data?: readonly Unplaced<AccountDataRow>[]
  readonly invalidations?: readonly Unplaced<InvalidationRow>[]
  /** Recorded in the same commit; a repeat is answered from it. */
  readonly idempotency?: { readonly scope: string; readonly key: string; readonly response: string }
  /** Further statements, sent in one flight with the rest; none may depend on another's result. They may refer to
   *  positions as `(select position from streams where name = '…')`, which is the batch's last. */
  readonly also?: (tx: WriteTx) => readonly postgres.PendingQuery<postgres.Row[]>[]
}

export interface Committer {
  commit(writes: Writes): Promise<void>
}
