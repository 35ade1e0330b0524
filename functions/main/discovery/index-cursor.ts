/** Where an index stands. Whoever writes the index does so only while the cursor is where it was read: of two mains that
 *  both think that it is theirs, one finds it moved and writes nothing. */
import type { MainSql } from '../../../shared/storage/sql.ts'

export type IndexName = 'messages' | 'users'

export interface IndexCursor {
  readonly name: IndexName
  readonly events_position: number
  readonly invalidations_position: number
  readonly backfill: string | null
}

/** The cursor, and where the streams stand that it follows. */
export interface IndexState {
  readonly cursor: IndexCursor
  readonly events: number
  readonly invalidations: number
}

export async function indexState(sql: MainSql, name: IndexName): Promise<IndexState> {
  const [row] = await sql<(IndexCursor & { events: number; invalidations: number })[]>`
    select c.name, c.events_position, c.invalidations_position, c.backfill, e.position as events,
      i.position as invalidations
    from index_cursors c, streams e, streams i
    where c.name = ${name} and e.name = 'events' and i.name = 'invalidations'`
  if (!row) throw new Error(`index ${name} has no cursor`)
  const { events, invalidations, ...cursor } = row
  return { cursor, events, invalidations }
}

/** Condition on table index_cursors: the cursor is where it was read. */
export function isAt(sql: MainSql, { name, events_position, invalidations_position, backfill }: IndexCursor) {
  return sql`name = ${name} and events_position = ${events_position}
    and invalidations_position = ${invalidations_position} and backfill is not distinct from ${backfill}`
}

/** The transaction is committed without waiting for the disk: what a crash takes is taken in again, from where the cursor
 *  then is. */
export const unsynced = (sql: MainSql) => sql`set_config('synchronous_commit', 'off', true)`

/** An `update` that takes the cursor on, and returns a row where it was where it was read. */
export function moving(sql: MainSql, from: IndexCursor, to: Omit<IndexCursor, 'name'>) {
  return sql`update index_cursors set events_position = ${to.events_position},
      invalidations_position = ${to.invalidations_position}, backfill = ${to.backfill}
    where ${isAt(sql, from)} returning ${unsynced(sql)}`
}
