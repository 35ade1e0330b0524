/** Threads of a room. https://spec.matrix.org/v1.19/client-server-api/#threading */

import type { TimelineEvent } from '../timeline/timeline-event.ts'
import type { RoomRef } from './events.ts'
import { eventColumns, type StoredEvent, timelineEvents } from './events.ts'
import type { ReadSql } from './sql.ts'

export interface ThreadsQuestion {
  /** Threads whose newest reply is at this position or before. */
  readonly upTo: number
  readonly limit: number
  /** Only threads that this user wrote in, or started. */
  readonly participant?: string
}

export interface ThreadRoot {
  readonly root: TimelineEvent
  readonly latest_position: number
}

/** Roots of threads, the one with the newest reply first. */
export async function threadRoots(sql: ReadSql, room: RoomRef, question: ThreadsQuestion): Promise<ThreadRoot[]> {
  const { upTo, limit, participant } = question
  const rows = await sql<(StoredEvent & { latest_position: number })[]>`
    select ${eventColumns(sql)}, t.latest_position
    from threads t join events e on e.event_id = t.root_event_id
    where t.room_nid = ${room.room_nid} and t.latest_position <= ${upTo} and e.room_nid = t.room_nid
      and e.position is not null
      ${
        participant === undefined
          ? sql``
          : sql`and (e.sender = ${participant} or exists (
              select from events c where c.thread_root = t.root_event_id and c.room_nid = t.room_nid and c.sender = ${participant}
                and c.rel_type = 'm.thread' and c.position is not null))`
      }
    order by t.latest_position desc limit ${limit}`
  const roots = await timelineEvents(sql, rows, room)
  return roots.map((root, i) => ({ root, latest_position: rows[i]?.latest_position ?? 0 }))
}

/** Which of the threads `user` has written in; who started one is not looked at. */
export async function threadsWrittenIn(
  sql: ReadSql,
  room: RoomRef,
  roots: readonly string[],
  user: string,
): Promise<ReadonlySet<string>> {
  const rows = await sql<{ root: string }[]>`
    select root from unnest(${sql.array([...roots], 25)}::text[]) as t(root) where exists (
      select from events e where e.thread_root = t.root collate "C" and e.sender = ${user} and e.rel_type = 'm.thread'
        and e.room_nid = ${room.room_nid} and e.position is not null)`
  return new Set(rows.map((row) => row.root))
}

export interface ThreadCount {
  readonly root: string
  readonly replies: number
  readonly latest_nid: number | null
}

/** Threads counted reply by reply: for viewers who see no more of them than up to `upTo`, or who ignore some users. */
export async function countThreads(
  sql: ReadSql,
  room: RoomRef,
  roots: readonly string[],
  upTo: number,
  ignored: readonly string[],
): Promise<ThreadCount[]> {
  return sql<ThreadCount[]>`
    select t.root, c.replies, c.latest_nid
    from unnest(${sql.array([...roots], 25)}::text[]) as t(root)
    cross join lateral (
      select count(*)::int as replies, (array_agg(e.event_nid order by e.position desc))[1] as latest_nid
      from events e
      where e.thread_root = t.root collate "C" and e.rel_type = 'm.thread' and e.position <= ${upTo}
        and e.room_nid = ${room.room_nid} and e.sender <> all(${sql.array([...ignored], 25)}::text[])
    ) c`
}
