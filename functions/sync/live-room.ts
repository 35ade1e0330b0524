/** What the sync role holds of a room that one of its users is joined to: the newest events, ready to be sent, and where
 *  each stream last touched the room. Fed by streams alone. */
import type { RoomId, UserId } from '../../shared/matrix/ids.ts'
import type { RoomSummary, StateRow } from '../../shared/storage/sync-rooms.ts'
import { bumpTypes, type RoomFacts } from '../../shared/storage/sync-sliding.ts'
import type { ReceiptRow } from '../../shared/streams/receipts.ts'
import { eventBody } from '../../shared/timeline/client-json.ts'
import type { TimelineEvent } from '../../shared/timeline/timeline-event.ts'
import type { LiveUser } from './live-user.ts'

export interface CachedEvent {
  readonly event: TimelineEvent
  /** The part of its client JSON that is the same for everyone. */
  readonly body: string
}

const summaryTypes: ReadonlySet<string> = new Set(['m.room.member', 'm.room.name', 'm.room.canonical_alias'])
const factTypes: ReadonlySet<string> = new Set(['m.room.create', 'm.room.name', 'm.room.encryption'])
const eventsMax = 60
const receiptsMax = 200
const membersMax = 100
/** What an event's fields weigh beside its JSON, in bytes. */
const eventOverhead = 600
const receiptBytes = 400

export class LiveRoom {
  readonly room_nid: number
  readonly room_id: RoomId
  /** Position of the room's last event, last public receipt and last change of who types. */
  events: number
  receipts: number
  typing = 0
  typists: readonly UserId[] = []
  /** Users with a live entry who are joined. */
  readonly users = new Set<LiveUser>()
  /** Every event of the room after position `timelineFrom`, oldest first. */
  timeline: CachedEvent[] = []
  timelineFrom: number
  /** What timeline, receipts and members weigh. */
  bytes = 0
  /** Events after this position came by the stream, so they are complete in what the database would have to be asked. */
  streamedFrom: number
  /** Every public receipt after position `receiptsFrom`, oldest first. */
  recentReceipts: ReceiptRow[] = []
  receiptsFrom: number
  /** Current member events that were asked for lately. */
  readonly members = new Map<string, StateRow>()
  /** Joined members, as far as is known: to tell small rooms from large ones. */
  joinedMembers: number
  /** Counts and possible heroes as they are now; undefined until somebody asks. */
  summary: Promise<RoomSummary | undefined> | undefined
  /** What lists are filtered by, as it is now; undefined until somebody asks. */
  facts: RoomFacts | undefined
  /** Position of the last event that moves the room up; undefined until it is known. */
  bump: number | undefined
  /** Rises when counts that were made from older events are no longer right. */
  unreadEpoch = 0

  constructor(
    room: { room_nid: number; room_id: RoomId },
    last: { event: number; receipt: number; joinedMembers: number },
  ) {
    this.joinedMembers = last.joinedMembers
    this.room_nid = room.room_nid
    this.room_id = room.room_id
    this.events = last.event
    this.receipts = last.receipt
    this.timelineFrom = last.event
    this.streamedFrom = last.event
    this.receiptsFrom = last.receipt
  }

  append(event: TimelineEvent): void {
    if (event.position > this.events) this.events = event.position
    if (event.member) this.joinedMembers = event.member.joined_members
    if (event.type === 'm.room.member' && event.state_key !== undefined) this.forgetMember(event.state_key)
    if (summaryTypes.has(event.type)) this.summary = undefined
    if (factTypes.has(event.type)) this.facts = undefined
    if (bumpTypes.has(event.type) && event.position > (this.bump ?? 0)) this.bump = event.position
    if (event.redacts !== undefined) {
      this.unreadEpoch++
      this.forgetEvent(event.redacts)
    }
    if (event.position <= this.timelineFrom || event.position <= (this.timeline.at(-1)?.event.position ?? 0)) return
    const cached = { event, body: eventBody(event) }
    this.timeline.push(cached)
    this.bytes += weight(cached)
    if (this.timeline.length > eventsMax) this.dropOldest(this.timeline.length - eventsMax)
  }

  /** Takes over what was read from the database: every event of the room after `from`, up to its newest. */
  prepend(events: readonly TimelineEvent[], from: number): void {
    if (from >= this.timelineFrom || (this.timeline[0]?.event.position ?? this.events + 1) <= from) return
    const before = this.timelineFrom
    const older = events.filter((event) => event.position <= before).map((event) => ({ event, body: eventBody(event) }))
    this.timeline = [...older, ...this.timeline]
    this.timelineFrom = from
    for (const cached of older) this.bytes += weight(cached)
    if (this.timeline.length > eventsMax) this.dropOldest(this.timeline.length - eventsMax)
  }

  addReceipt(row: ReceiptRow): void {
    if (row.position > this.receipts) this.receipts = row.position
    if (row.position <= this.receiptsFrom) return
    this.recentReceipts.push(row)
    this.bytes += receiptBytes
    if (this.recentReceipts.length > receiptsMax) {
      const dropped = this.recentReceipts.splice(0, this.recentReceipts.length - receiptsMax / 2)
      this.bytes -= dropped.length * receiptBytes
      this.receiptsFrom = dropped.at(-1)?.position ?? this.receiptsFrom
    }
  }

  rememberMember(row: StateRow): void {
    this.forgetMember(row.state_key)
    const [oldest] = this.members.keys()
    if (this.members.size >= membersMax && oldest !== undefined) this.forgetMember(oldest)
    this.members.set(row.state_key, row)
    this.bytes += row.content.length + eventOverhead
  }

  private forgetMember(user: string): void {
    const known = this.members.get(user)
    if (!known) return
    this.members.delete(user)
    this.bytes -= known.content.length + eventOverhead
  }

  /** An event was changed in the database: it and what is older is read from there again. */
  forgetEvent(event_id: string): boolean {
    const at = this.timeline.findIndex(({ event }) => event.event_id === event_id)
    if (at < 0) return false
    this.unreadEpoch++
    this.dropOldest(at + 1)
    return true
  }

  /** Gives back all memory that can be read again. */
  forget(): void {
    this.timeline = []
    this.timelineFrom = this.events
    this.streamedFrom = this.events
    this.recentReceipts = []
    this.receiptsFrom = this.receipts
    this.members.clear()
    this.summary = undefined
    this.facts = undefined
    this.bytes = 0
  }

  private dropOldest(count: number): void {
    const dropped = this.timeline.splice(0, count)
    for (const cached of dropped) this.bytes -= weight(cached)
    this.timelineFrom = dropped.at(-1)?.event.position ?? this.timelineFrom
    this.streamedFrom = Math.max(this.streamedFrom, this.timelineFrom)
  }
}

function weight({ event, body }: CachedEvent): number {
  return event.content.length + body.length + eventOverhead
}
