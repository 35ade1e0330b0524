/** Events that notified a user, over all their rooms, by the outcomes that were stored with the events.
 *  https://spec.matrix.org/v1.19/client-server-api/#listing-notifications */
import type { RoomId, UserId } from '../matrix/ids.ts'
import type { TimelineEvent } from '../timeline/timeline-event.ts'
import { eventColumns, type StoredEvent, timelineEvents } from './events.ts'
import type { ReadSql } from './sql.ts'

export interface Notification {
  readonly event: TimelineEvent
  readonly highlight: boolean
  /** A receipt of the user's covers it, or they wrote there since. */
  readonly read: boolean
}

export interface NotificationPage {
  /** Newest first. */
  readonly notifications: Notification[]
  /** Everything above this position was looked at; undefined: everything was. */
  readonly lookedTo: number | undefined
}

/** Of events at positions up to `upTo` in the rooms that the user is joined to, since they joined. `limit` outcomes of a
 *  room are looked at, so there may be fewer, and more below. */
export async function notificationsBelow(
  sql: ReadSql,
  user: { readonly user_id: UserId; readonly class_id: number },
  page: { readonly upTo: number; readonly highlightsOnly: boolean; readonly limit: number },
): Promise<NotificationPage> {
  const { upTo, highlightsOnly, limit } = page
  const { user_id, class_id } = user
  const mask = highlightsOnly ? 2 : 3
  const outcomes = await sql<{ room_nid: number; position: number; push: number; floor: number }[]>`
    with rooms as materialized (
      select room_nid, position as joined_at from memberships where user_id = ${user_id} and membership = 'join'
    ), found as materialized (
      select r.room_nid, x.position, x.push, x.rank, x.source from rooms r cross join lateral (
        (select e.position, e.push::integer as push, 2 as rank, 1 as source from events e
          where e.room_nid = r.room_nid and e.position > r.joined_at and e.position <= ${upTo} and e.push <> 0
            and e.push & ${mask} <> 0 order by e.position desc limit ${limit})
        union all
        (select d.position, d.push::integer, case when d.user_id = '' then 1 else 0 end, 2 from push_deviations d
          where d.room_nid = r.room_nid and d.position > r.joined_at and d.position <= ${upTo}
            and (d.user_id = ${user_id} or (d.user_id = '' and d.class_id = ${class_id}))
          order by d.position desc limit ${limit})
      ) x
    ), edge as (
      -- Where a list was cut, what is below its end is not known.
      select coalesce(max(lowest), 0) as floor from (
        select min(position) as lowest from found group by room_nid, source having count(*) >= ${limit}
      ) cut
    ), chosen as (
      select distinct on (room_nid, position) room_nid, position, push from found, edge
      where position >= edge.floor order by room_nid, position, rank
    )
    select c.room_nid, c.position, c.push, edge.floor from edge left join lateral (
      select * from chosen where push & ${mask} <> 0 order by position desc limit ${limit + 1}
    ) c on true order by c.position desc nulls last`
  const floor = outcomes[0]?.floor ?? 0
  const all = outcomes.filter((row) => row.position !== null)
  const chosen = all.slice(0, limit)
  const lookedTo = all.length > limit ? (chosen.at(-1)?.position ?? 1) - 1 : floor > 0 ? floor - 1 : undefined
  return { notifications: await withEvents(sql, user_id, chosen), lookedTo }
}

async function withEvents(
  sql: ReadSql,
  user_id: UserId,
  outcomes: readonly { readonly room_nid: number; readonly position: number; readonly push: number }[],
): Promise<Notification[]> {
  if (outcomes.length === 0) return []
  const nids = sql.array(
    outcomes.map((row) => row.room_nid),
    20,
  )
  const positions = sql.array(
    outcomes.map((row) => row.position),
    20,
  )
  const rows = await sql<(StoredEvent & { room_id: RoomId; read: boolean })[]>`
    select ${eventColumns(sql)}, r.room_id, exists (
        select from receipts c where c.user_id = ${user_id} and c.room_nid = e.room_nid
          and c.thread_id in ('', coalesce(e.thread_root, 'main')) and c.event_position >= e.position
      ) or exists (
        select from events o where o.sender = ${user_id} and o.device_id is not null and o.room_nid = e.room_nid
          and o.position > e.position and o.thread_root is not distinct from e.thread_root
      ) as read
    from unnest(${nids}::bigint[], ${positions}::bigint[]) as q(room_nid, position)
    join events e using (room_nid, position) join rooms r using (room_nid)
    where e.sender <> ${user_id}
    order by e.position desc`
  const push = new Map(outcomes.map((row) => [row.position, row.push]))
  const events = await timelineEvents(sql, rows)
  return events.map((event, i) => ({
    event,
    highlight: ((push.get(event.position) ?? 0) & 2) !== 0,
    read: rows[i]?.read === true,
  }))
}
