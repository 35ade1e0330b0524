/** What a command wants written. Many commands' writes join one commit; `commit` resolves when that is durable and its
 *  rows are published. */
import type postgres from 'postgres'
import type { ServerName } from '../../../shared/matrix/ids.ts'
import type { WriteTx } from '../../../shared/storage/sql.ts'
import type { AccountDataRow } from '../../../shared/streams/account-data.ts'
import type { DeviceListRow } from '../../../shared/streams/device-lists.ts'
import type { EventRow } from '../../../shared/streams/events.ts'
import type { InvalidationRow } from '../../../shared/streams/invalidations.ts'
import type { KeyCountRow } from '../../../shared/streams/key-counts.ts'
import type { ReceiptRow } from '../../../shared/streams/receipts.ts'
import type { ThreadSubscriptionRow } from '../../../shared/streams/thread-subscriptions.ts'
import type { ToDeviceRow } from '../../../shared/streams/to-device.ts'

export type Unplaced<Row> = Omit<Row, 'position'>

/** One event with everything that is stored for it; the position comes from the commit. Written from `row` alone:
 *  events, push_deviations, and for visible events with `thread_root` and rel_type `m.thread` the thread's row. With
 *  `current_state` also current_state, and for a membership (`row.member`) memberships and, where local,
 *  membership_changes. */
export interface EventWrite {
  readonly row: Unplaced<EventRow>
  /** JSON of the PDU without `content`. */
  readonly envelope: string
  readonly depth: number
  readonly state_root: number
  /** 1 rejected, 2 soft-failed, 4 outlier. */
  readonly flags: number
  /** The event is stored already, as an outlier: its row gets a place, and what comes with one. */
  readonly placed?: boolean
  /** False: kept, but in no timeline (outlier, rejected, soft-failed). */
  readonly visible: boolean
  /** Set when this event becomes the current state for its (type, state_key). */
  readonly current_state: boolean
  /** nid of the state event it replaces. */
  readonly replaces_nid?: number
  /** It goes to the other servers that are in the room, and to this one; `row.outbound` says so too. */
  readonly outbound?: { readonly to?: ServerName | undefined }
  /** For `row.member`: what the member event says of the target. */
  readonly member_profile?: { readonly display_name?: string | undefined; readonly avatar_url?: string | undefined }
}

/** A message into the inbox of one device. Where the device is gone when the commit comes, it is dropped. */
export interface ToDeviceWrite extends Unplaced<ToDeviceRow> {
  readonly sender: string
  readonly type: string
  /** JSON text. */
  readonly content: string
}

/** A thread that a user follows from now on, or no longer does. */
export interface ThreadSubscriptionWrite extends Unplaced<ThreadSubscriptionRow> {
  /** In stream events: what came up to here subscribes nobody again. */
  readonly unsubscribed_at: number | null
}

/** A room's first appearance. */
export interface RoomWrite {
  readonly room_nid: number
  readonly room_id: string
  readonly room_version: string
  readonly creator: string
  readonly created_ts: number
  readonly published: boolean
}

/** The room after its newest event; of several in one batch the last one counts. */
export interface RoomHeadWrite {
  readonly room_nid: number
  readonly forward_extremities: readonly number[]
  readonly state_root: number
  readonly depth: number
}

/** The whole row: what is left out becomes null. Of several in one batch the last one counts. */
export interface RoomSummaryWrite {
  readonly room_nid: number
  readonly joined_members: number
  readonly invited_members: number
  readonly name?: string | undefined
  readonly topic?: string | undefined
  readonly canonical_alias?: string | undefined
  readonly avatar_url?: string | undefined
  readonly join_rule?: string | undefined
  readonly history_visibility?: string | undefined
  readonly guest_access?: string | undefined
  readonly room_type?: string | undefined
  readonly encryption?: string | undefined
}

/** The redacted form replaces the target's content; relation, thread and notification of the target go with it. */
export interface RedactionWrite {
  readonly event_nid: number
  readonly content: string
  readonly envelope: string
  readonly redacted_by_nid: number
}

/** A key of the current state that no event holds any more (state resolution may take one away). */
export interface CurrentStateRemoval {
  readonly room_nid: number
  readonly type: string
  readonly state_key: string
}

export interface StateNodeWrite {
  readonly node_id: Buffer
  readonly body: Buffer
}
export interface StateRootWrite {
  readonly root_id: number
  readonly room_nid: number
  readonly node_id?: Buffer | undefined
  readonly delta: Buffer
}
/** From `StateTrees.apply`; belongs in the commit of the events that refer to the root. */
export interface StateWrites {
  readonly nodes: readonly StateNodeWrite[]
  readonly roots: readonly StateRootWrite[]
}

/** From `AuthChains.assign`; belongs in the commit of the events it is about. */
export interface AuthChainWrites {
  readonly chains: readonly { readonly event_nid: number; readonly chain_id: number; readonly sequence: number }[]
  readonly links: readonly {
    readonly from_chain: number
    readonly from_sequence: number
    readonly to_chain: number
    readonly to_sequence: number
  }[]
}

/** A one-time key that is given out: it moves from one_time_keys to claimed_keys. Where it is not there any more the write
 *  fails, with GN002, and what was to be answered must not be. */
export interface KeyClaimWrite {
  readonly user_id: string
  readonly device_id: string
  readonly algorithm: string
  readonly key_id: string
}

export interface Writes {
  readonly events?: readonly EventWrite[]
  readonly rooms?: readonly RoomWrite[]
  /** A write that fails takes those queued behind it with the same room's head down with it: they build on it. */
  readonly heads?: readonly RoomHeadWrite[]
  readonly summaries?: readonly RoomSummaryWrite[]
  readonly state?: StateWrites
  readonly auth_chains?: AuthChainWrites
  readonly redactions?: readonly RedactionWrite[]
  readonly current_state_removals?: readonly CurrentStateRemoval[]
  readonly receipts?: readonly Unplaced<ReceiptRow>[]
  readonly account_data?: readonly Unplaced<AccountDataRow>[]
  readonly invalidations?: readonly Unplaced<InvalidationRow>[]
  readonly device_lists?: readonly Unplaced<DeviceListRow>[]
  readonly key_counts?: readonly Unplaced<KeyCountRow>[]
  readonly key_claims?: readonly KeyClaimWrite[]
  readonly to_device?: readonly ToDeviceWrite[]
  readonly thread_subscriptions?: readonly ThreadSubscriptionWrite[]
  /** Recorded in the same commit; a repeat is answered from it. A key that is there already fails this write. */
  readonly idempotency?: { readonly scope: string; readonly key: string; readonly response: string }
  /** Further statements, sent in one flight with the rest; none may depend on another's result. They may refer to
   *  positions as `(select position from streams where name = '…')`, which is the batch's last. */
  readonly also?: (tx: WriteTx) => readonly postgres.PendingQuery<postgres.Row[]>[]
}

export interface Committer {
  /** Rejects with MatrixError M_UNAVAILABLE when too much is queued or the database is away. */
  commit(writes: Writes): Promise<void>
  /** Waits for what is queued, then lets the connection go. */
  close(): Promise<void>
}

/** One commit's worth of writes from several parts, in order. At most one of them has an idempotency key. */
export function joinWrites(...parts: readonly Writes[]): Writes {
  const also = parts.flatMap((part) => (part.also ? [part.also] : []))
  const idempotency = parts.find((part) => part.idempotency)?.idempotency
  return {
    events: parts.flatMap((part) => part.events ?? []),
    rooms: parts.flatMap((part) => part.rooms ?? []),
    heads: parts.flatMap((part) => part.heads ?? []),
    summaries: parts.flatMap((part) => part.summaries ?? []),
    state: {
      nodes: parts.flatMap((part) => part.state?.nodes ?? []),
      roots: parts.flatMap((part) => part.state?.roots ?? []),
    },
    auth_chains: {
      chains: parts.flatMap((part) => part.auth_chains?.chains ?? []),
      links: parts.flatMap((part) => part.auth_chains?.links ?? []),
    },
    redactions: parts.flatMap((part) => part.redactions ?? []),
    current_state_removals: parts.flatMap((part) => part.current_state_removals ?? []),
    receipts: parts.flatMap((part) => part.receipts ?? []),
    account_data: parts.flatMap((part) => part.account_data ?? []),
    invalidations: parts.flatMap((part) => part.invalidations ?? []),
    device_lists: parts.flatMap((part) => part.device_lists ?? []),
    key_counts: parts.flatMap((part) => part.key_counts ?? []),
    key_claims: parts.flatMap((part) => part.key_claims ?? []),
    to_device: parts.flatMap((part) => part.to_device ?? []),
    thread_subscriptions: parts.flatMap((part) => part.thread_subscriptions ?? []),
    ...(idempotency ? { idempotency } : {}),
    ...(also.length ? { also: (tx: WriteTx) => also.flatMap((statements) => statements(tx)) } : {}),
  }
}
