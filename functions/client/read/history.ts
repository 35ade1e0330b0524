/** Pages that run on into history that other servers have. */
import { hasBackwardGap } from '../../../shared/storage/backward-gaps.ts'
import { timelineBeginning } from '../../../shared/streams/token.ts'
import type { RoomView } from '../../../shared/timeline/room-reader.ts'
import { type PageRequest, type TimelinePage, timelinePage } from '../../../shared/timeline/timeline-page.ts'
import type { ClientDeps } from '../deps.ts'
import { readerOf } from './rendering.ts'

/** Times that history is fetched for one page: what comes may be hidden, or filtered out. */
const fetchesMax = 3
/** More than a page, as the next one is likely to be asked for. */
const eventsPerFetch = 100

/** As `timelinePage`; where a page to the room's beginning ends too early, other servers are asked for more. */
export async function pageWithHistory(deps: ClientDeps, view: RoomView, request: PageRequest): Promise<TimelinePage> {
  const { sql, main, clock } = deps
  const { range, direction, limit } = request
  let page = await timelinePage(sql, readerOf(deps), view, request)
  if (direction !== 'b' || range.after !== timelineBeginning || view.membership !== 'join' || limit === 0) return page
  for (let fetches = 0; page.end === undefined && fetches < fetchesMax; fetches++) {
    if (!(await hasBackwardGap(sql, view.room_nid, clock.now()))) return page
    const { placed } = await main.backfillRoom({ room_id: view.room_id, limit: eventsPerFetch })
    if (placed === 0) break
    page = await timelinePage(sql, readerOf(deps), view, request)
  }
  if (page.end !== undefined || !(await hasBackwardGap(sql, view.room_nid, clock.now()))) return page
  // There is more, for who asks again.
  const last = page.seen.at(-1)?.event.position
  return last === undefined ? page : { ...page, end: last - 1 }
}
