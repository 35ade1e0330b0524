/** Finds objects that no row tells of: of a writer that was frozen for so long that its reservation was ended and its row was gone
 *  when it wrote on, or from before the database was set back. */
import type { MediaStore } from '../../../shared/media/store.ts'
import type { MainSql } from '../../../shared/storage/sql.ts'

/** Younger objects may be in the middle of something, whatever the clocks of this machine and of the store say. */
const youngMs = 24 * 3_600_000

export async function compareStore(deps: {
  readonly sql: MainSql
  readonly store: MediaStore
  readonly now: number
  readonly signal: AbortSignal
}): Promise<{ readonly deleted: number }> {
  const { sql, store, now, signal } = deps
  let deleted = 0
  for await (const objects of store.list(signal)) {
    const old = objects.filter((object) => object.modifiedTs < now - youngMs).map((object) => object.key)
    // One question a page.
    const known = await sql<{ object_key: string }[]>`
      select object_key from media_objects where object_key = any(${sql.array(old, 25)}::text[])`
    const knownKeys = new Set(known.map((row) => row.object_key))
    for (const key of old) {
      signal.throwIfAborted()
      if (knownKeys.has(key)) continue
      await store.delete(key)
      deleted++
    }
  }
  return { deleted }
}
