/** Turns a batch of writes into the parameters of the database function `commit_batch` (migration 0002). Arrays are put
 *  together here as Postgres literals: the driver's own serialiser costs several times as much. */
import type { AccountDataRow } from '../../../shared/streams/account-data.ts'
import type { ReceiptRow } from '../../../shared/streams/receipts.ts'
import { integers, storable, texts } from './array-literals.ts'
import { type EncodedKeys, encodeKeys } from './commit-keys.ts'
import type { EventWrite, RoomHeadWrite, RoomSummaryWrite, Unplaced, Writes } from './writes.ts'

/** The streams that a commit appends to, in the order in which it takes their locks;
 *  those of keys are `commit_keys`'s, that of messages to devices is `commit_to_device`'s, that of thread subscriptions
 *  `commit_thread_subscriptions`'s. */
export const committedStreams = [
  'events',
  'receipts',
  'account_data',
  'invalidations',
  'device_lists',
  'key_counts',
  'to_device',
  'thread_subscriptions',
] as const
export type CommittedStream = (typeof committedStreams)[number]
export type Counts = readonly [events: number, receipts: number, account_data: number, invalidations: number]

export interface EncodedBatch {
  readonly counts: Counts
  /** Parameters of `commit_batch` from `p_event_nid` on. */
  readonly parameters: readonly (string | number | null)[]
  readonly keys: EncodedKeys | undefined
}

/** Cannot occur in JSON text, which escapes control characters. */
export const separator = '\x01'

function eventParameters(all: readonly EventWrite[]): string[] {
  let at = 0
  let events = all
  let places = all.map((event) => (event.visible ? ++at : undefined))
  if (all.some((event) => event.placed)) {
    places = places.filter((_, i) => !all[i]?.placed)
    events = all.filter((event) => !event.placed)
  }
  if (events.length === 0) return noEvents
  const rows = events.map((event) => event.row)
  return [
    integers(rows.map((row) => row.event_nid)),
    texts(rows.map((row) => row.event_id)),
    integers(rows.map((row) => row.room_nid)),
    integers(places),
    integers(events.map((event) => event.depth)),
    texts(rows.map((row) => row.type)),
    texts(rows.map((row) => row.state_key)),
    texts(rows.map((row) => row.sender)),
    integers(rows.map((row) => row.origin_server_ts)),
    rows.map((row) => row.content).join(separator),
    events.map((event) => event.envelope).join(separator),
    integers(events.map((event) => event.state_root)),
    integers(events.map((event) => event.replaces_nid)),
    texts(rows.map((row) => row.redacts)),
    texts(rows.map((row) => row.relates_to)),
    texts(rows.map((row) => row.rel_type)),
    texts(rows.map((row) => row.thread_root)),
    integers(rows.map((row) => row.push)),
    integers(events.map((event) => event.flags)),
    texts(rows.map((row) => row.device_id)),
    texts(rows.map((row) => row.txn_id)),
  ]
}
const noEvents = Array.from({ length: 21 }, (_, i) => (i === 9 || i === 10 ? '' : '{}'))

function headParameters(heads: readonly RoomHeadWrite[]): string[] {
  if (heads.length === 0) return ['{}', '{}', '{}', '{}']
  const last = [...lastByKey(heads, (head) => head.room_nid)]
  return [
    integers(last.map((head) => head.room_nid)),
    texts(last.map((head) => integers(head.forward_extremities))),
    integers(last.map((head) => head.state_root)),
    integers(last.map((head) => head.depth)),
  ]
}

/** One statement cannot write a row twice: the last of a batch stands for all. */
function lastByKey<T>(values: readonly T[], key: (value: T) => string | number): Iterable<T> {
  const byKey = new Map<string | number, T>()
  for (const value of values) {
    const of = key(value)
    // Taken out first, so that the order is that of the last occurrence.
    byKey.delete(of)
    byKey.set(of, value)
  }
  return byKey.values()
}

type ThreadRow = { root_event_id: string; room_nid: number; latest_nid: number; at: number; replies: number }
type JsonRow = Record<string, string | number | boolean | undefined>

/** What the merged rows of `commit_rest` are gathered in; a table without rows is left out of the document. */
class Rest {
  readonly tables: Record<string, JsonRow[]> = {}
  add(table: string, row: JsonRow): void {
    for (const column in row) {
      const value = row[column]
      // JSON text stays as it is: it escapes what Postgres cannot hold, and readers take it as it is.
      if (typeof value === 'string' && column !== 'content') row[column] = storable(value)
    }
    const rows = this.tables[table]
    if (rows) rows.push(row)
    else this.tables[table] = [row]
  }
  text(): string | null {
    for (const _ in this.tables) return JSON.stringify(this.tables)
    return null
  }
}

function addEvents(rest: Rest, events: readonly EventWrite[]): void {
  let at = 0
  const threads = new Map<string, ThreadRow>()
  const state: EventWrite[] = []
  const members: { event: EventWrite; at: number }[] = []
  for (const event of events) {
    const { row } = event
    if (event.visible) at++
    if (event.visible && row.thread_root !== undefined && row.rel_type === 'm.thread') {
      const { thread_root: root_event_id, room_nid, event_nid: latest_nid } = row
      const name = `${room_nid} ${root_event_id}`
      const replies = (threads.get(name)?.replies ?? 0) + 1
      threads.set(name, { root_event_id, room_nid, latest_nid, at, replies })
    }
    if (event.placed)
      rest.add('placed', {
        event_nid: row.event_nid,
        at: event.visible ? at : undefined,
        depth: event.depth,
        state_root: event.state_root,
        replaces_nid: event.replaces_nid,
        thread_root: row.thread_root,
        push: row.push,
        flags: event.flags,
      })
    if (event.visible && row.deviations)
      for (const { user_id, class_id, push } of row.deviations)
        rest.add('deviations', { room_nid: row.room_nid, at, user_id, class_id, push })
    if (event.current_state && row.state_key !== undefined) {
      state.push(event)
      if (row.member) members.push({ event, at })
    }
  }
  for (const thread of threads.values()) rest.add('threads', thread)
  for (const { row } of lastByKey(state, ({ row }) => `${row.room_nid} ${row.type}\0${row.state_key}`))
    rest.add('current_state', {
      room_nid: row.room_nid,
      type: row.type,
      state_key: row.state_key,
      event_nid: row.event_nid,
    })
  for (const { event, at } of members) {
    const { member, room_nid, event_nid } = event.row
    if (!member?.local || !event.visible) continue
    const { user_id, membership, prev_membership } = member
    rest.add('member_changes', { user_id, at, room_nid, event_nid, membership, prev_membership })
  }
  for (const { event, at } of lastByKey(members, ({ event }) => `${event.row.room_nid} ${event.row.state_key}`)) {
    const { member, room_nid, event_nid, sender } = event.row
    if (!member) continue
    const { user_id, membership, local } = member
    const { display_name, avatar_url } = event.member_profile ?? {}
    rest.add('members', { user_id, room_nid, membership, event_nid, at, sender, display_name, avatar_url, local })
  }
}

function addReceipts(rest: Rest, receipts: readonly Unplaced<ReceiptRow>[]): void {
  const placed = receipts.map((receipt, i) => ({ receipt, at: i + 1 }))
  for (const { receipt, at } of lastByKey(
    placed,
    ({ receipt }) => `${receipt.room_nid} ${receipt.receipt_type} ${receipt.user_id}\0${receipt.thread_id}`,
  )) {
    const { room_nid, user_id, receipt_type, thread_id, event_id, event_position, ts } = receipt
    rest.add('receipts', { room_nid, user_id, receipt_type, thread_id, event_id, event_position, ts, at })
  }
}

function addAccountData(rest: Rest, accountData: readonly Unplaced<AccountDataRow>[]): void {
  const placed = accountData.map((row, i) => ({ row, at: i + 1 }))
  for (const { row, at } of lastByKey(placed, ({ row }) => `${row.room_nid} ${row.user_id}\0${row.type}`))
    rest.add('account_data', {
      user_id: row.user_id,
      room_nid: row.room_nid,
      type: row.type,
      content: row.content,
      at,
    })
}

function addSummaries(rest: Rest, summaries: readonly RoomSummaryWrite[]): void {
  for (const summary of lastByKey(summaries, (summary) => summary.room_nid)) rest.add('summaries', { ...summary })
}

export function encodeBatch(batch: readonly Writes[], now: number): EncodedBatch {
  const all = <T>(of: (writes: Writes) => readonly T[] | undefined): T[] => {
    const joined: T[] = []
    for (const writes of batch) {
      const part = of(writes)
      if (part) for (const row of part) joined.push(row)
    }
    return joined
  }
  const events = all((writes) => writes.events)
  const receipts = all((writes) => writes.receipts)
  const accountData = all((writes) => writes.account_data)
  const invalidations = all((writes) => writes.invalidations)
  const keys = batch.flatMap((writes) => (writes.idempotency ? [writes.idempotency] : []))

  const rest = new Rest()
  for (const room of all((writes) => writes.rooms)) rest.add('rooms', { ...room })
  for (const { state, auth_chains } of batch) {
    // Nodes are named by their content, so the same one may come from two rooms: `on conflict do nothing` takes both.
    for (const { node_id, body } of state?.nodes ?? [])
      rest.add('nodes', { node_id: node_id.toString('hex'), body: body.toString('hex') })
    for (const { root_id, room_nid, node_id, delta } of state?.roots ?? [])
      rest.add('roots', { root_id, room_nid, node_id: node_id?.toString('hex'), delta: delta.toString('hex') })
    for (const chain of auth_chains?.chains ?? []) rest.add('chains', { ...chain })
    for (const link of auth_chains?.links ?? []) rest.add('links', { ...link })
  }
  for (const removal of all((writes) => writes.current_state_removals)) rest.add('removals', { ...removal })
  addEvents(rest, events)
  addSummaries(
    rest,
    all((writes) => writes.summaries),
  )
  for (const redaction of lastByKey(
    all((writes) => writes.redactions),
    (redaction) => redaction.event_nid,
  ))
    rest.add('redactions', { ...redaction })
  addReceipts(rest, receipts)
  addAccountData(rest, accountData)
  for (const [i, { cache, key }] of invalidations.entries()) rest.add('invalidations', { cache, key, at: i + 1 })

  let visible = 0
  for (const event of events) if (event.visible) visible++
  return {
    counts: [visible, receipts.length, accountData.length, invalidations.length],
    parameters: [
      ...eventParameters(events),
      ...headParameters(all((writes) => writes.heads)),
      texts(keys.map((entry) => entry.scope)),
      texts(keys.map((entry) => entry.key)),
      keys.map((entry) => entry.response).join(separator),
      now,
      rest.text(),
    ],
    keys: encodeKeys(batch, now),
  }
}
