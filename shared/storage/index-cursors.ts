/** How far the indexes of messages and users are. */
import type { ReadSql } from './sql.ts'

export async function indexPositions(
  sql: ReadSql,
  name: 'messages' | 'users',
): Promise<{ readonly events: number; readonly invalidations: number }> {
  const [row] = await sql<{ events: number; invalidations: number }[]>`
    select events_position as events, invalidations_position as invalidations from index_cursors where name = ${name}`
  if (!row) throw new Error(`index ${name} has no cursor`)
  return row
}
