/** Makes sure that this installation and no other one deletes from its store, and that it notices when its database was set back.
 *
 *  The marker has a word that changes every few minutes, here first and then there. A word that this database does not know was
 *  written after the backup that the database was made from, or by a copy of it that runs somewhere else. Then objects that are in
 *  the store and that no row tells of may be media of after the backup, or of the copy: none of them is deleted any more. */
import { randomUUID } from 'node:crypto'
import type { Clock } from '../../../shared/clock.ts'
import type { Logger } from '../../../shared/logging.ts'
import type { MediaStore } from '../../../shared/media/store.ts'
import { ForeignStoreError, markerName, requireOwn } from '../../../shared/media/store-marker.ts'
import type { MainSql } from '../../../shared/storage/sql.ts'

export interface StoreOwnership {
  /** At the start: marks a store that is new. Throws ForeignStoreError where the store isn't this installation's. */
  claim(): Promise<void>
  /** For the one main that sweeps: looks for the marker and writes its next word. Objects of before `keptBefore` are to be kept;
   *  undefined where there was no marker, so that nothing is to be compared. Throws ForeignStoreError. */
  renew(): Promise<{ readonly keptBefore: number } | undefined>
}

/** Among so many, a database that goes with the store knows one. */
const lookedAtObjects = 1_000

interface Row {
  readonly installation_id: string
  readonly token: string
  readonly next_token: string | null
  readonly kept_before_ts: number | null
}

export function createStoreOwnership(deps: {
  readonly sql: MainSql
  readonly store: MediaStore
  readonly clock: Clock
  readonly log: Pick<Logger, 'error'>
}): StoreOwnership {
  const { sql, store, clock, log } = deps

  async function own(): Promise<Row> {
    const [row] = await sql<Row[]>`
      select installation_id::text, token::text, next_token::text, kept_before_ts from media_store`
    if (!row) throw new Error('the row of media_store is gone')
    return row
  }

  /** One that is new, or whose objects this database knows: of a marker that was lost, or of before there were any. */
  async function mark({ installation_id, token }: Row): Promise<void> {
    const keys = await someObjects()
    if (keys.length > 0) {
      const [known] = await sql`
        select from media_objects where object_key = any(${sql.array(keys, 25)}::text[]) limit 1`
      if (!known) {
        throw new ForeignStoreError(
          `the store of media holds objects that this database knows nothing of, and no ${markerName} that says whose they are. ` +
            'Give this installation a media.folder, or a bucket or prefix in media.s3, of its own',
        )
      }
      await keepAll()
    }
    await store.writeMarker({ installation_id, token })
  }

  async function someObjects(): Promise<string[]> {
    const keys: string[] = []
    for await (const objects of store.list(new AbortController().signal)) {
      for (const { key } of objects) keys.push(key)
      if (keys.length >= lookedAtObjects) break
    }
    return keys
  }

  async function keepAll(): Promise<void> {
    await sql`update media_store set kept_before_ts = greatest(kept_before_ts, ${clock.now()})`
  }

  return {
    async claim() {
      await store.check()
      const [row, marker] = await Promise.all([own(), store.readMarker()])
      if (marker) requireOwn(marker, row.installation_id)
      else await mark(row)
    },

    async renew() {
      const row = await own()
      const marker = await store.readMarker()
      if (!marker) {
        await mark(row)
        log.error({}, `${markerName} was missing in the store of media; it was written again, and nothing was compared`)
        return undefined
      }
      requireOwn(marker, row.installation_id)
      if (marker.token !== row.token && marker.token !== row.next_token) {
        await keepAll()
        log.error(
          {},
          'the database was set back, or a copy of it writes to the same store of media: objects that are there now and that no row tells of are kept',
        )
      }
      const next = randomUUID()
      await sql`update media_store set next_token = ${next}, token = ${marker.token}`
      await store.writeMarker({ installation_id: row.installation_id, token: next })
      await sql`update media_store set token = ${next}, next_token = null`
      return { keptBefore: (await own()).kept_before_ts ?? 0 }
    },
  }
}
