/** Finds objects that no row tells of: of a writer that was frozen for so long that its reservation was ended and its row was gone
 *  when it wrote on, or from before the database was set back. */
import type { MediaStore } from '../../../shared/media/store.ts'
import type { MainSql } from '../../../shared/storage/sql.ts'

/** Younger objects may be in the middle of something, whatever the clocks of this machine and of the store say; and who set the
 *  database back without being noticed has as long to notice it. */
const youngMs = 7 * 24 * 3_600_000

export async function compareStore(deps: {
  readonly sql: MainSql
  readonly store: MediaStore
  readonly now: number
  /** Objects of before this time are kept, whatever rows tell of. */
  readonly keptBefore: number
  readonly signal: AbortSignal
}): Promise<{ readonly deleted: number; readonly kept: number }> {
  const { sql, store, now, keptBefore, signal } = deps
  let deleted = 0
  let kept = 0
  for await (const objects of store.list(signal)) {
    // One question a page.
    const keys = objects.map((object) => object.key)
    const known = await sql<{ object_key: string }[]>`
      select object_key from media_objects where object_key = any(${sql.array(keys, 25)}::text[])`
    const knownKeys = new Set(known.map((row) => row.object_key))
    for (const { key, modifiedTs } of objects) {
      signal.throwIfAborted()
      if (knownKeys.has(key)) continue
      if (modifiedTs < keptBefore || modifiedTs >= now - youngMs) {
        kept++
        continue
      }
      await store.delete(key)
      deleted++
    }
  }
  return { deleted, kept }
}
