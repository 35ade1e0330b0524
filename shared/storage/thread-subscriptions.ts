/** Which threads users follow. https://github.com/matrix-org/matrix-spec-proposals/pull/4306 */
import type { EventId, RoomId, UserId } from '../matrix/ids.ts'
import type { ThreadSubscriptionRow } from '../streams/thread-subscriptions.ts'
import type { ReadSql } from './sql.ts'
import type { GapRange } from './stream-gaps.ts'

/** How the user follows the thread; undefined where they do not. */
export async function threadSubscription(
  sql: ReadSql,
  of: { readonly user_id: UserId; readonly room_nid: number; readonly root_event_id: string },
): Promise<{ readonly automatic: boolean } | undefined> {
  const [row] = await sql<{ automatic: boolean }[]>`
    select automatic from thread_subscriptions
    where user_id = ${of.user_id} and room_nid = ${of.room_nid} and root_event_id = ${of.root_event_id} and subscribed`
  return row
}

export interface ChangedSubscription {
  readonly room_id: RoomId
  readonly root_event_id: EventId
  readonly position: number
  readonly subscribed: boolean
  readonly automatic: boolean
}

/** The user's subscriptions, and the ends of such, that came at positions in (after, upTo]: the newest `limit`, newest
 *  first. */
export async function changedThreadSubscriptions(
  sql: ReadSql,
  user: UserId,
  { after, upTo, limit }: GapRange & { readonly limit: number },
): Promise<ChangedSubscription[]> {
  const rows = await sql<ChangedSubscription[]>`
    select r.room_id, t.root_event_id, t.position, t.subscribed, t.automatic
    from thread_subscriptions t join rooms r using (room_nid)
    where t.user_id = ${user} and t.position > ${after} and t.position <= ${upTo}
    order by t.position desc limit ${limit}`
  return [...rows]
}

export async function missedThreadSubscriptions(
  sql: ReadSql,
  { after, upTo }: GapRange,
  limit: number,
): Promise<ThreadSubscriptionRow[]> {
  const rows = await sql<ThreadSubscriptionRow[]>`
    select t.position, t.user_id, t.room_nid, r.room_id, t.root_event_id, t.subscribed, t.automatic
    from thread_subscriptions t join rooms r using (room_nid)
    where t.position > ${after} and t.position <= ${upTo} order by t.position limit ${limit}`
  return [...rows]
}
