/** The timelines and the state of an answer's rooms: from the rooms' caches where they reach far enough, the rest in a few
 *  queries for all rooms together. https://spec.matrix.org/v1.19/client-server-api/#syncing */
import { historyVisibilityOf, visibleTo } from '../../shared/core/visibility.ts'
import { isJsonObject } from '../../shared/matrix/json-value.ts'
import { cacheTally } from '../../shared/metrics/tallies.ts'
import type { CacheSlot } from '../../shared/replication/shared-cache.ts'
import { contentBytes, pageBytesMax } from '../../shared/storage/page-bytes.ts'
import type { ReadSql } from '../../shared/storage/sql.ts'
import {
  newestEvents,
  type RoomRange,
  type StateRequest,
  type StateRow,
  stateBefore,
  stateBetween,
  type VisibilityChange,
  visibilityChanges,
} from '../../shared/storage/sync-rooms.ts'
import { erasedCopies } from '../../shared/timeline/erased-copies.ts'
import type { TimelineEvent } from '../../shared/timeline/timeline-event.ts'
import type { Live } from './live.ts'
import type { CachedEvent } from './live-room.ts'
import type { LiveUser } from './live-user.ts'
import type { TimelinePart } from './plan.ts'
import { lookForTimelines, shareTimeline, takeTimeline } from './shared-timelines.ts'
import type { Soon } from './soon.ts'
import type { SyncFilter } from './sync-filter.ts'

const cache = cacheTally('sync_timelines')
/** Of the timelines of all rooms that are read together. */
const readBytesMax = 16 * 1024 * 1024

/** An event to show; `body` where its JSON is kept ready. */
export interface ShownEvent {
  readonly event: TimelineEvent
  readonly body?: string
}

export type StateEvent = StateRow | (TimelineEvent & { readonly state_key: string })

export interface RoomSection {
  readonly part: TimelinePart
  events: readonly ShownEvent[]
  limited: boolean
  /** The timeline begins after this position. */
  start: number
  state: StateEvent[]
  /** Changes of the user's membership, where the timeline reaches back to before they came in. */
  changes: readonly VisibilityChange[] | undefined
  /** Everything in (part.after, part.upTo] was in memory. */
  cached: readonly CachedEvent[] | undefined
}

export interface SectionContext {
  readonly sql: ReadSql
  readonly live: Live
  readonly user: LiveUser
  readonly filter: SyncFilter
  /** State is asked for at the end of the timeline, not at its start. */
  readonly stateAfter: boolean
}

/** Sections of these rooms, in their order. Lazily loaded members are not among the state yet. */
export function readSections(context: SectionContext, parts: readonly TimelinePart[]): Soon<RoomSection[]> {
  const sections = parts.map((part): RoomSection => {
    const cached = cachedRange(context.live, part)
    return { part, events: [], limited: false, start: part.after, state: [], changes: undefined, cached }
  })
  const missing = readTimelinesFromMemory(context, sections)
  if (missing.length === 0 && !sections.some(reachesBeforeJoin) && readStateFromMemory(context, sections)) {
    return sections
  }
  return readMissing(context, sections, missing)
}

async function readMissing(
  context: SectionContext,
  sections: RoomSection[],
  missing: readonly RoomSection[],
): Promise<RoomSection[]> {
  if (missing.length > 0) {
    const parts = missing.map(({ part }) => part)
    const shared = await lookForTimelines(context.live, parts)
    const rest = shared ? missing.filter((section, i) => !takeShared(context, section, shared[i])) : missing
    if (rest.length > 0) await readTimelines(context, rest)
    if (shared) for (const [i, part] of parts.entries()) shareTimeline(part, shared[i])
  }
  const hidden = sections.filter(reachesBeforeJoin)
  if (hidden.length > 0) {
    await hideInvisible(context, hidden)
    await hideErased(context, hidden)
  }
  if (!readStateFromMemory(context, sections)) await readState(context, sections)
  return sections
}

function cachedRange(live: Live, part: TimelinePart): readonly CachedEvent[] | undefined {
  const { room } = part
  if (!room || room.timelineFrom > part.after) return undefined
  live.touch(room)
  const { timeline } = room
  let first = timeline.length
  while (first > 0 && (timeline[first - 1]?.event.position ?? 0) > part.after) first--
  let end = timeline.length
  while (end > first && (timeline[end - 1]?.event.position ?? 0) > part.upTo) end--
  return timeline.slice(first, end)
}

/** Returns the sections whose timeline has to be read from the database. */
function readTimelinesFromMemory(context: SectionContext, sections: readonly RoomSection[]): RoomSection[] {
  const missing: RoomSection[] = []
  for (const section of sections) {
    const events = section.cached ?? cachedTail(context, section.part)
    if (events) cache.hits++
    else cache.misses++
    if (events) setTimeline(context, section, select(context, section.part, events))
    else missing.push(section)
  }
  return missing
}

/** The cache's events where they alone fill a limited timeline. */
function cachedTail(context: SectionContext, part: TimelinePart): readonly CachedEvent[] | undefined {
  const { room } = part
  if (!room || !part.fresh || room.timeline.length <= context.filter.timelineLimit) return undefined
  const events = room.timeline.filter(({ event }) => event.position <= part.upTo)
  return select(context, part, events).length > context.filter.timelineLimit ? events : undefined
}

function select(context: SectionContext, part: TimelinePart, events: readonly CachedEvent[]): readonly ShownEvent[] {
  const { filter, user } = context
  if (filter.timeline.passesAll && user.ignored.size === 0 && !part.ownEventOnly) return events
  return events.filter(({ event }) => shows(context, part, event))
}

function shows({ filter, user }: SectionContext, part: TimelinePart, event: TimelineEvent): boolean {
  if (part.ownEventOnly && event.position !== part.membership.position) return false
  if (event.state_key === undefined && user.ignored.has(event.sender)) return false
  return filter.timeline.passesAll || filter.timeline.matches(event)
}

/** `events`: all that the timeline could show, or at least one more than its limit. */
function setTimeline({ filter }: SectionContext, section: RoomSection, events: readonly ShownEvent[]): void {
  const { part } = section
  const held = countHeld(events, filter.timelineLimit)
  const over = events.length > held
  section.events = over ? events.slice(events.length - held) : events
  section.limited = over || part.newly
  const first = section.events[0]
  if (over) section.start = first ? first.event.position - 1 : part.upTo
  else section.start = part.after
}

/** How many of the events, from the newest, a timeline holds: `limit`, or as many as make a page of bytes. */
function countHeld(events: readonly ShownEvent[], limit: number): number {
  let bytes = 0
  let held = 0
  while (held < events.length && held < limit && bytes < pageBytesMax) {
    held++
    bytes += events[events.length - held]?.event.content.length ?? 0
  }
  return held
}

/** True if the section's timeline could be made of what handlers share. */
function takeShared(context: SectionContext, section: RoomSection, slot: CacheSlot | undefined): boolean {
  if (!takeTimeline(context.live, section.part, slot)) return false
  section.cached = cachedRange(context.live, section.part)
  const events = section.cached ?? cachedTail(context, section.part)
  if (events) setTimeline(context, section, select(context, section.part, events))
  return events !== undefined
}

async function readTimelines(context: SectionContext, missing: readonly RoomSection[]): Promise<void> {
  const { filter, sql, live } = context
  const bytesMax = Math.min(pageBytesMax, Math.ceil(readBytesMax / missing.length))
  const ranges = missing.map(({ part }) => ({
    room_nid: part.membership.room_nid,
    after: part.ownEventOnly ? part.upTo - 1 : part.after,
    upTo: part.upTo,
  }))
  const found = filter.timeline.passesNone
    ? new Map<number, TimelineEvent[]>()
    : await newestEvents(sql, ranges, { limit: filter.timelineLimit + 1, bytesMax }, filter.timelineSql)
  for (const section of missing) {
    const { part } = section
    const events = found.get(part.membership.room_nid) ?? []
    const full = events.length > filter.timelineLimit || contentBytes(events) >= bytesMax
    keep(live, { filter, part, events, full })
    const shown = events.filter((event) => shows(context, part, event)).map((event) => ({ event }))
    setTimeline(context, section, shown)
    // The database held more than was shown here: what was left out lies before the oldest that was read.
    if (full && !section.limited) {
      section.limited = true
      section.start = (events[0]?.position ?? part.upTo + 1) - 1
    }
  }
}

/** Keeps what was read for the next who asks. */
function keep(
  live: Live,
  read: {
    readonly filter: SyncFilter
    readonly part: TimelinePart
    readonly events: readonly TimelineEvent[]
    /** There may be older ones in the range. */
    readonly full: boolean
  },
): void {
  const { filter, part, events, full } = read
  const { room } = part
  const last = events.at(-1)
  if (!room || !last || !filter.timeline.passesAll || last.position !== room.events || room.timeline.length > 0) return
  const before = room.bytes
  room.prepend(events, full ? (events[0]?.position ?? last.position) - 1 : part.after)
  live.touch(room, before)
}

function reachesBeforeJoin({ part, events }: RoomSection): boolean {
  const first = events[0]
  return first !== undefined && !part.ownEventOnly && first.event.position < part.membership.joinedAt
}

/** Leaves out what the history visibility keeps from those who were not there. */
async function hideInvisible(context: SectionContext, sections: readonly RoomSection[]): Promise<void> {
  const { sql, user } = context
  const byRoom = await visibilityChanges(
    sql,
    user.user_id,
    sections.map(({ part }) => part.membership.room_nid),
  )
  for (const section of sections) {
    const changes = byRoom.get(section.part.membership.room_nid) ?? []
    section.changes = changes
    const visible = section.events.filter(({ event }) => isVisible(changes, event.position))
    if (visible.length === section.events.length) continue
    section.events = visible
    section.limited = true
    const first = visible[0]
    section.start = first ? first.event.position - 1 : section.part.upTo
  }
}

/** Puts redacted copies in the place of what erased users wrote while the user was not there. */
async function hideErased({ sql }: SectionContext, sections: readonly RoomSection[]): Promise<void> {
  const before = sections.flatMap((section) =>
    section.events.map(({ event }) => event).filter((event) => membershipAt(section, event) !== 'join'),
  )
  const copies = before.length > 0 ? await erasedCopies(sql, before) : new Map<number, TimelineEvent>()
  if (copies.size === 0) return
  for (const section of sections) {
    section.events = section.events.map((shown) => {
      const copy = copies.get(shown.event.event_nid)
      return copy ? { event: copy } : shown
    })
  }
}

/** Whether the user sees the event at this position of a room with these changes. */
export function isVisible(changes: readonly VisibilityChange[], position: number): boolean {
  const before = glimpse(changes, position - 1)
  const after = glimpse(changes, position)
  const lastJoin = changes.findLast((change) => change.type === 'm.room.member' && membershipIn(change) === 'join')
  return visibleTo({
    visibility: before.visibility,
    visibilityAfter: after.visibility,
    membership: before.membership,
    ...(after.membership === undefined ? {} : { membershipAfter: after.membership }),
    joinedLater: lastJoin !== undefined && lastJoin.position >= position,
  })
}

function glimpse(changes: readonly VisibilityChange[], position: number) {
  let visibility = historyVisibilityOf(undefined)
  let membership: string | undefined
  for (const change of changes) {
    if (change.position > position) break
    if (change.type === 'm.room.member') membership = membershipIn(change)
    else visibility = historyVisibilityOf(field(change, 'history_visibility'))
  }
  return { visibility, membership }
}

function membershipIn(change: VisibilityChange): string | undefined {
  const membership = field(change, 'membership')
  return typeof membership === 'string' ? membership : undefined
}

function field(change: VisibilityChange, key: string) {
  const content: unknown = JSON.parse(change.content)
  return isJsonObject(content) ? content[key] : undefined
}

/** The user's membership at an event, its own effect included; undefined where there is nothing to tell. */
export function membershipAt(section: RoomSection, event: TimelineEvent): string | undefined {
  const { part, changes } = section
  const { membership, position, joinedAt } = part.membership
  if (event.position >= position) return membership
  if (event.position >= joinedAt && joinedAt > 0) return 'join'
  return changes ? (glimpse(changes, event.position).membership ?? 'leave') : 'leave'
}

/** True if no section needs a query for its state. */
function readStateFromMemory(context: SectionContext, sections: readonly RoomSection[]): boolean {
  let complete = true
  for (const section of sections) {
    if (section.part.ownEventOnly) {
      if (section.events.length === 0) complete = false
      else if (context.stateAfter) section.state = shownState(context, section)
    } else if (section.part.fullState || !section.cached) complete = false
    else section.state = stateFromCache(context, section, section.cached)
  }
  return complete
}

function stateFromCache(context: SectionContext, section: RoomSection, cached: readonly CachedEvent[]): StateEvent[] {
  const shown = new Set<TimelineEvent>()
  if (!context.stateAfter) for (const { event } of section.events) shown.add(event)
  const byKey = new Map<string, StateEvent>()
  for (const { event } of cached) {
    if (!isState(event) || shown.has(event)) continue
    byKey.set(`${event.type}\0${event.state_key}`, event)
  }
  return [...byKey.values()].filter((event) => context.filter.state.matches(event))
}

function shownState({ filter }: SectionContext, section: RoomSection): StateEvent[] {
  const events = section.events.map(({ event }) => event)
  return events.filter(isState).filter((event) => filter.state.matches(event))
}

function isState(event: TimelineEvent): event is TimelineEvent & { state_key: string } {
  return event.state_key !== undefined
}

async function readState(context: SectionContext, sections: readonly RoomSection[]): Promise<void> {
  const { sql, filter, stateAfter } = context
  const full: RoomSection[] = []
  const between: RoomRange[] = []
  const dropped: RoomRange[] = []
  for (const section of sections) {
    const { part, start } = section
    const { room_nid } = part.membership
    if (hasItsState(section)) continue
    if (part.ownEventOnly) between.push({ room_nid, after: part.upTo - 1, upTo: part.upTo })
    else if (part.fullState) full.push(section)
    else if (stateAfter) between.push({ room_nid, after: part.after, upTo: part.upTo })
    else if (start > part.after) between.push({ room_nid, after: part.after, upTo: start })
    if (!part.ownEventOnly && !stateAfter && !filter.timeline.passesAll && start < part.upTo) {
      dropped.push({ room_nid, after: start, upTo: part.upTo })
    }
  }
  if (filter.state.passesNone) return
  const [whole, delta, hidden] = await Promise.all([
    stateBefore(
      sql,
      full.map((section) => stateRequest(context, section)),
    ),
    stateBetween(sql, between),
    stateBetween(sql, dropped),
  ])
  for (const section of sections) {
    const { room_nid } = section.part.membership
    if (hasItsState(section)) continue
    const byKey = new Map<string, StateRow>()
    const shown = new Set(section.events.map(({ event }) => event.event_nid))
    for (const rows of [section.part.fullState ? whole : delta, hidden]) {
      for (const row of rows.get(room_nid) ?? []) {
        if (!stateAfter && shown.has(row.event_nid)) continue
        if (filter.state.matches({ ...row, room_id: section.part.membership.room_id })) {
          byKey.set(`${row.type}\0${row.state_key}`, row)
        }
      }
    }
    section.state = [...byKey.values()]
  }
}

/** Whether readStateFromMemory found it. */
function hasItsState({ part, events, cached }: RoomSection): boolean {
  return part.ownEventOnly ? events.length > 0 : cached !== undefined && !part.fullState
}

/** Members are left to lazy loading where that was asked for. */
function stateRequest({ filter, stateAfter }: SectionContext, { part, start }: RoomSection): StateRequest {
  const members = filter.lazyMembers ? [] : 'all'
  return { room_nid: part.membership.room_nid, before: (stateAfter ? part.upTo : start) + 1, members, rest: true }
}
