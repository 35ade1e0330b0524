/** Unread counts of a live user's rooms: read once for all rooms, then moved on by the events that the rooms' caches hold.
 *  https://spec.matrix.org/v1.19/client-server-api/#receiving-notifications */
import type { ReadSql } from '../../shared/storage/sql.ts'
import { unreadCounts } from '../../shared/storage/unread.ts'
import type { EventRow } from '../../shared/streams/events.ts'
import type { ReceiptRow } from '../../shared/streams/receipts.ts'
import type { LiveRoom } from './live-room.ts'
import type { LiveUser, UserRoom } from './live-user.ts'
import type { Soon } from './soon.ts'

export interface Counts {
  notifications: number
  highlights: number
}

export interface RoomUnread {
  /** The counts hold for events up to here. */
  countedTo: number
  epoch: number
  main: Counts
  readonly threads: Map<string, Counts>
}

/** Makes the counts of these joined rooms right up to now; one query for those that the caches cannot tell. */
export function refreshUnread(sql: ReadSql, user: LiveUser, rooms: readonly CountedRoom[], upTo: number): Soon<void> {
  // Events that follow a change of the rules are not counted by the old ones.
  if (user.pushClassRead) return user.pushClassRead.then(() => refreshUnread(sql, user, rooms, upTo))
  const missing = rooms.filter(({ room }) => !advance(user, room))
  return missing.length === 0 ? undefined : readUnread(sql, user, missing, upTo)
}

interface CountedRoom {
  readonly membership: UserRoom
  readonly room: LiveRoom
}

async function readUnread(sql: ReadSql, user: LiveUser, missing: readonly CountedRoom[], upTo: number): Promise<void> {
  const receiptsSeen = user.ownReceipts
  const classSeen = user.pushClass
  const epochs = missing.map(({ room }) => room.unreadEpoch)
  const rows = await unreadCounts(
    sql,
    { user_id: user.user_id, class_id: classSeen },
    missing.map(({ membership, room }) => ({ room_nid: room.room_nid, joinedAt: membership.joinedAt })),
    upTo,
  )
  const holds = receiptsSeen === user.ownReceipts && classSeen === user.pushClass && !user.pushClassRead
  for (const [i, { room }] of missing.entries()) {
    user.unread.set(room.room_nid, {
      countedTo: upTo,
      // A receipt or rule that came meanwhile may not be in the answer: then the next to ask reads again.
      epoch: holds ? (epochs[i] ?? 0) : -1,
      main: { notifications: 0, highlights: 0 },
      threads: new Map(),
    })
  }
  for (const { room_nid, thread_root, notifications, highlights } of rows) {
    const unread = user.unread.get(room_nid)
    if (!unread) continue
    if (thread_root === null) unread.main = { notifications, highlights }
    else if (notifications > 0 || highlights > 0) unread.threads.set(thread_root, { notifications, highlights })
  }
}

/** Counts what the cache holds beyond what was counted; false if the cache does not reach that far back. */
function advance(user: LiveUser, room: LiveRoom): boolean {
  const unread = user.unread.get(room.room_nid)
  if (!unread || unread.epoch !== room.unreadEpoch) return false
  if (unread.countedTo >= room.events) return true
  if (unread.countedTo < room.streamedFrom) return false
  const { timeline } = room
  let first = timeline.length
  while (first > 0 && (timeline[first - 1]?.event.position ?? 0) > unread.countedTo) first--
  for (let i = first; i < timeline.length; i++) {
    const event = timeline[i]?.event
    if (event) count(user, unread, event)
  }
  unread.countedTo = room.events
  return true
}

function count(user: LiveUser, unread: RoomUnread, event: EventRow): void {
  const { thread_root } = event
  if (event.sender === user.user_id) {
    // Who speaks has read what was said there before.
    if (thread_root === undefined) unread.main = { notifications: 0, highlights: 0 }
    else unread.threads.delete(thread_root)
    return
  }
  const push = pushFor(user, event)
  if (push === 0) return
  let counts = unread.main
  if (thread_root !== undefined) {
    counts = unread.threads.get(thread_root) ?? { notifications: 0, highlights: 0 }
    unread.threads.set(thread_root, counts)
  }
  if (push & 1) counts.notifications++
  if (push & 2) counts.highlights++
}

/** The user's own deviation beats that of their class, which beats the default ruleset's outcome. */
function pushFor(user: LiveUser, event: EventRow): number {
  let push = event.push
  for (const deviation of event.deviations ?? []) {
    if (deviation.user_id === user.user_id) return deviation.push
    if (deviation.user_id === '' && deviation.class_id === user.pushClass) push = deviation.push
  }
  return push
}

/** One of the user's own receipts moved. Where it reads everything the counts are known; else they are read anew. */
export function applyOwnReceipt(user: LiveUser, room: LiveRoom | undefined, receipt: ReceiptRow): void {
  user.ownReceipts++
  const unread = user.unread.get(receipt.room_nid)
  if (!unread) return
  if (room && receipt.thread_id === '' && receipt.event_position >= room.events) {
    unread.main = { notifications: 0, highlights: 0 }
    unread.threads.clear()
    unread.countedTo = room.events
    unread.epoch = room.unreadEpoch
  } else user.unread.delete(receipt.room_nid)
}
