/** Unread counts. An event counts while it lies after the user's read position in its context (the main timeline or one
 *  thread): the farthest of their own receipts and of their own last event there.
 *  https://spec.matrix.org/v1.19/client-server-api/#receiving-notifications */
import type { UserId } from '../matrix/ids.ts'
import type { ReadSql } from './sql.ts'

export interface UnreadRow {
  readonly room_nid: number
  /** null: the main timeline. */
  readonly thread_root: string | null
  readonly notifications: number
  readonly highlights: number
}

export interface ReadPositionRow {
  readonly room_nid: number
  /** '' for receipts that cover every thread, 'main', or a thread's root. */
  readonly thread_id: string
  readonly position: number
}

/** Counts of events at positions up to `upTo`, by room and thread; contexts without unread events are left out.
 *  `joinedAt` is where the user came in: nothing before it counts. */
export async function unreadCounts(
  sql: ReadSql,
  user: { readonly user_id: UserId; readonly class_id: number },
  rooms: readonly { readonly room_nid: number; readonly joinedAt: number }[],
  upTo: number,
): Promise<UnreadRow[]> {
  if (rooms.length === 0) return []
  const nids = sql.array(
    rooms.map((room) => room.room_nid),
    20,
  )
  const floors = sql.array(
    rooms.map((room) => room.joinedAt),
    20,
  )
  return sql<UnreadRow[]>`
    with r as materialized (
      select q.room_nid, greatest(q.floor, coalesce(max(c.event_position), 0)) as read_to
      from unnest(${nids}::bigint[], ${floors}::bigint[]) as q(room_nid, floor)
      left join receipts c on c.user_id = ${user.user_id} and c.room_nid = q.room_nid and c.thread_id = ''
      group by q.room_nid, q.floor
    ), found as (
      select e.room_nid, e.position, e.push::integer as push, 2 as rank
      from r join events e on e.room_nid = r.room_nid and e.position > r.read_to and e.position <= ${upTo} and e.push <> 0
      union all
      select d.room_nid, d.position, d.push::integer, case when d.user_id = '' then 1 else 0 end
      from r join push_deviations d on d.room_nid = r.room_nid and d.position > r.read_to and d.position <= ${upTo}
      where d.user_id = ${user.user_id} or (d.user_id = '' and d.class_id = ${user.class_id})
    ), chosen as (
      select distinct on (room_nid, position) room_nid, position, push from found order by room_nid, position, rank
    ), unread as materialized (
      select e.room_nid, e.thread_root, e.position, c.push from chosen c join events e using (room_nid, position)
      where c.push <> 0 and e.sender <> ${user.user_id}
    ), own as (
      select o.room_nid, o.thread_root, max(o.position) as position
      from r join events o on o.sender = ${user.user_id} and o.device_id is not null and o.room_nid = r.room_nid
        and o.position > r.read_to
      where r.room_nid in (select room_nid from unread)
      group by o.room_nid, o.thread_root
    )
    select u.room_nid, u.thread_root, (count(*) filter (where u.push & 1 <> 0))::integer as notifications,
      (count(*) filter (where u.push & 2 <> 0))::integer as highlights
    from unread u
    left join own o on o.room_nid = u.room_nid and o.thread_root is not distinct from u.thread_root
    where u.position > coalesce(o.position, 0) and not exists (
      select from receipts c where c.user_id = ${user.user_id} and c.room_nid = u.room_nid
        and c.thread_id = coalesce(u.thread_root, 'main') and c.event_position >= u.position)
    group by u.room_nid, u.thread_root`
}
