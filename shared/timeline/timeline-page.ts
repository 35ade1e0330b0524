/** One page of a room's timeline for one viewer: what is filtered out, hidden or ignored takes no place in it. */
import type { CompiledEventFilter } from '../core/filter.ts'
import {
  type Direction,
  type TimelineConditions,
  type TimelineRange,
  timelineBetween,
  timelineMeeting,
} from '../storage/events.ts'
import { contentBytes, pageBytesMax } from '../storage/page-bytes.ts'
import type { ReadSql } from '../storage/sql.ts'
import type { RoomReader, RoomView, SeenEvent } from './room-reader.ts'
import type { TimelineEvent } from './timeline-event.ts'

export interface PageFilter {
  readonly conditions: TimelineConditions
  readonly compiled: CompiledEventFilter
}

export interface PageRequest {
  readonly range: TimelineRange
  readonly direction: Direction
  readonly limit: number
  readonly filter?: PageFilter | undefined
}

export interface TimelinePage {
  readonly seen: SeenEvent[]
  /** Between which positions the page ends; undefined: nothing comes after it. */
  readonly end: number | undefined
}

/** A page ends early, and says where, after this many reads: a filter that nothing passes must not walk a whole room. */
const readsMax = 8
const scanMax = 2000
const readMore = 100

export async function timelinePage(
  sql: ReadSql,
  reader: RoomReader,
  view: RoomView,
  { range, direction, limit, filter }: PageRequest,
): Promise<TimelinePage> {
  const seen: SeenEvent[] = []
  let bytes = 0
  let fitting = 0
  const upTo = Math.min(range.upTo, view.upTo)
  let rest: TimelineRange | undefined = { after: range.after, upTo }
  if (limit === 0 || filter?.compiled.passesNone) return { seen, end: undefined }
  const ignored = await reader.ignoredUsers(view.user_id)
  for (
    let reads = 0;
    rest && rest.after < rest.upTo && seen.length <= limit && bytes < pageBytesMax && reads < readsMax;
    reads++
  ) {
    // One more than the page holds tells whether there is a next page.
    const wanted = limit + 1 - seen.length
    const read: Read = await readSome(
      sql,
      view,
      rest,
      reads === 0 ? wanted : Math.max(wanted, readMore),
      direction,
      filter,
    )
    rest = read.rest
    for (const one of await reader.seen(view, read.events)) {
      if (!isIgnored(one.event, ignored) && (!filter || filter.compiled.matches(one.event))) {
        // The event that fills the page is its last.
        if (bytes < pageBytesMax) fitting++
        bytes += Buffer.byteLength(one.event.content)
        seen.push(one)
      }
    }
  }
  const held = Math.min(limit, fitting)
  if (seen.length > held) {
    const last = seen[held - 1]?.event.position ?? 0
    return { seen: seen.slice(0, held), end: direction === 'f' ? last : last - 1 }
  }
  if (!rest || rest.after >= rest.upTo) {
    // What a filter left out of a page is there all the same: the next page, which has nothing, says that it is over.
    const last = filter && !filter.compiled.passesAll && direction === 'b' ? seen.at(-1) : undefined
    return { seen, end: last && last.event.position - 1 }
  }
  return { seen, end: direction === 'f' ? rest.after : rest.upTo }
}

interface Read {
  readonly events: readonly TimelineEvent[]
  readonly rest: TimelineRange | undefined
}

async function readSome(
  sql: ReadSql,
  view: RoomView,
  range: TimelineRange,
  limit: number,
  direction: Direction,
  filter: PageFilter | undefined,
): Promise<Read> {
  if (filter) {
    return timelineMeeting(sql, view, range, limit, direction, filter.conditions, scanMax)
  }
  const events = await timelineBetween(sql, view, range, limit, direction)
  const last = events.length === limit || contentBytes(events) >= pageBytesMax ? events.at(-1) : undefined
  if (!last) return { events, rest: undefined }
  const rest =
    direction === 'f' ? { after: last.position, upTo: range.upTo } : { after: range.after, upTo: last.position - 1 }
  return { events, rest }
}

/** Messages of ignored users are left out, their state events are not.
 *  https://spec.matrix.org/v1.19/client-server-api/#ignoring-users */
export function isIgnored(event: TimelineEvent, ignored: ReadonlySet<string>): boolean {
  return event.state_key === undefined && ignored.has(event.sender)
}
