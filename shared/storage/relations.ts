/** Events that relate to another. https://spec.matrix.org/v1.19/client-server-api/#forming-relationships-between-events */
import type { TimelineEvent } from '../timeline/timeline-event.ts'
import {
  type Direction,
  eventColumns,
  type RoomRef,
  type StoredEvent,
  type TimelineRange,
  timelineEvents,
} from './events.ts'
import { contentBytes, pageBytesMax } from './page-bytes.ts'
import { pgText, type ReadSql } from './sql.ts'

/** How far `recurse` follows relations of relations. */
export const recursionDepth = 3

export interface ChildrenQuestion {
  readonly parent: string
  readonly rel_type?: string | undefined
  readonly type?: string | undefined
  /** Also children of children, to `recursionDepth` levels. */
  readonly recurse: boolean
  readonly range: TimelineRange
  readonly limit: number
  readonly direction: Direction
}

export interface Children {
  readonly events: TimelineEvent[]
  /** There may be more of them: `limit` was reached, or `pageBytesMax`. */
  readonly more: boolean
}

/** Events that relate to `parent`, in the order of the timeline. With `recurse`, type and rel_type choose among all that
 *  were reached; they do not cut the way there. */
export async function childEvents(sql: ReadSql, room: RoomRef, question: ChildrenQuestion): Promise<Children> {
  const { parent, rel_type, type, recurse, range, limit, direction } = question
  const ordered = sql`order by e.position ${direction === 'f' ? sql`` : sql`desc`}`
  const chosen = sql`
    and e.room_nid = ${room.room_nid} and e.position > ${range.after} and e.position <= ${range.upTo}
    ${rel_type === undefined ? sql`and e.rel_type is not null` : sql`and e.rel_type = ${pgText(rel_type)}`}
    ${type === undefined ? sql`` : sql`and e.type = ${pgText(type)}`}
    ${ordered} limit ${limit + 1}`
  const sized = sql`e.*, sum(octet_length(e.content)) over (${ordered} rows unbounded preceding)
    - octet_length(e.content) as bytes_before`
  const fitting = sql`where e.bytes_before < ${pageBytesMax} ${ordered}`
  const rows = recurse
    ? await sql<StoredEvent[]>`
        with recursive reached as (
          select ${parent}::text collate "C" as event_id, 0 as depth
          union
          select e.event_id, r.depth + 1 from reached r join events e on e.relates_to = r.event_id
          where r.depth < ${recursionDepth} and e.room_nid = ${room.room_nid} and e.rel_type is not null
            and e.position is not null
        ), ids as (select distinct event_id from reached where depth > 0)
        select ${eventColumns(sql)} from (
          select ${sized} from ids join events e using (event_id) where true ${chosen}
        ) e ${fitting}`
    : await sql<StoredEvent[]>`
        select ${eventColumns(sql)} from (
          select ${sized} from events e where e.relates_to = ${parent} ${chosen}
        ) e ${fitting}`
  const page = rows.slice(0, limit)
  const more = rows.length > limit || contentBytes(page) >= pageBytesMax
  return { events: await timelineEvents(sql, page, room), more }
}

/** A child that its parent's bundled aggregations are made from. */
export interface BundleChild {
  readonly parent: string
  readonly rel_type: 'm.replace' | 'm.reference' | 'm.thread'
  readonly event_nid: number
  readonly event_id: string
  readonly position: number
  readonly sender: string
  readonly origin_server_ts: number
  /** Of threads alone: how many replies there are. */
  readonly replies: number
}

/** What `parents` may have bundled, of positions up to `upTo`: their edits (newest first, those that could be valid),
 *  their references (in the order of the timeline), and their threads as the newest reply. */
export async function bundleChildren(
  sql: ReadSql,
  room: RoomRef,
  parents: readonly string[],
  upTo: number,
): Promise<BundleChild[]> {
  return sql<BundleChild[]>`
    with parents as materialized (select id from unnest(${sql.array([...parents], 25)}::text[]) as id)
    select e.relates_to as parent, e.rel_type, e.event_nid, e.event_id, e.position, e.sender, e.origin_server_ts,
      0 as replies
    from parents q join events e on e.relates_to = q.id collate "C" join events p on p.event_id = q.id collate "C"
    where e.rel_type = 'm.replace' and e.room_nid = ${room.room_nid} and e.position <= ${upTo} and e.state_key is null
      and p.sender = e.sender and p.type = e.type and p.state_key is null and p.redacted_by_nid is null
      and p.rel_type is distinct from 'm.replace'
      and (e.type = 'm.room.encrypted' or e.content like '%"m.new_content"%')
    union all
    select e.relates_to, e.rel_type, e.event_nid, e.event_id, e.position, e.sender, e.origin_server_ts, 0
    from parents q join events e on e.relates_to = q.id collate "C"
    where e.rel_type = 'm.reference' and e.room_nid = ${room.room_nid} and e.position <= ${upTo}
    union all
    select t.root_event_id, 'm.thread', t.latest_nid, '', t.latest_position, '', 0, t.replies
    from parents q join threads t on t.root_event_id = q.id collate "C" where t.room_nid = ${room.room_nid}`
}
