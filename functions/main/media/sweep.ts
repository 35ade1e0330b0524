/** Keeps store and rows of media at one: what was begun and never ended, what nothing refers to any more, what nobody has fetched
 *  for too long, and what there is no room for. Runs on one main alone, again and again. */
import type { Clock } from '../../../shared/clock.ts'
import type { Config } from '../../../shared/config/schema.ts'
import type { Logger } from '../../../shared/logging.ts'
import type { MediaStore, ObjectKey } from '../../../shared/media/store.ts'
import type { MainSql } from '../../../shared/storage/sql.ts'
import { compareStore } from './compare-store.ts'
import type { StoreOwnership } from './store-ownership.ts'

export interface MediaSweepDeps {
  readonly sql: MainSql
  readonly clock: Clock
  readonly config: Pick<Config, 'media'>
  readonly store: MediaStore
  readonly ownership: Pick<StoreOwnership, 'renew'>
  readonly log: Pick<Logger, 'error'> & Partial<Pick<Logger, 'info'>>
}

export interface MediaSweep {
  /** From now on by itself; what it returns ends that, and waits for what is under way. */
  start(): () => Promise<void>
  /** There is something to delete. */
  soon(): void
  /** Whether `bytes` more fit into the disk budget, after what may be dropped was. */
  makeRoom(bytes: number): Promise<boolean>
}

const everyMs = 15_000
const dayMs = 24 * 3_600_000
/** How often the store is compared with the rows, which finds what no row tells of. */
const comparedMs = dayMs
/** A backup that is younger may be taken back unnoticed: see `store-ownership.ts`. */
const renewedMs = 10 * 60_000
const dropsKeptMs = 90 * dayMs
/** Short statements: none holds the lock of media for long. */
const rowsPerStatement = 500
const deletedAtOnce = 8

type Reason = 'budget' | 'retention'
interface Dropped {
  readonly media: number
  readonly bytes: number
}

export function createMediaSweep(deps: MediaSweepDeps): MediaSweep {
  const { sql, clock, store, ownership, log } = deps
  const { media: settings } = deps.config
  let stopped: AbortController | undefined
  let running: Promise<void> | undefined
  let again = false
  let renewedTs = 0
  let cancel = () => {}
  /** One at a time makes room: two would drop twice as much as is needed. */
  let making: Promise<unknown> = Promise.resolve()

  async function run(signal: AbortSignal): Promise<void> {
    try {
      do {
        again = false
        await endReservations()
        await deleteUnused()
        await dropOld(signal)
        await deleteDoomed(signal)
        await compareDaily(signal)
        await sql`delete from media_drops where dropped_ts < ${clock.now() - dropsKeptMs}`
      } while (again && !signal.aborted)
    } catch (err) {
      if (!signal.aborted) log.error({ err }, 'media could not be swept; it is tried again')
    }
  }

  function tick(): void {
    const signal = stopped?.signal
    if (!signal || signal.aborted || running) {
      again = true
      return
    }
    cancel()
    running = run(signal).then(() => {
      running = undefined
      if (!signal.aborted) cancel = clock.after(again ? 0 : everyMs, tick)
    })
  }

  /** Whoever wrote them is dead, or has been silent for as long. */
  async function endReservations(): Promise<void> {
    const now = clock.now()
    await sql`
      update media_objects set doomed_ts = ${now}
      where sha256 is null and doomed_ts is null and reserved_until < ${now}`
  }

  async function deleteUnused(): Promise<void> {
    await sql`delete from media where object_key is null and expires_ts < ${clock.now()}`
  }

  async function dropOld(signal: AbortSignal): Promise<void> {
    const { local, remote } = settings.retention
    const now = clock.now()
    if (local !== undefined) await untilNone(signal, () => drop('retention', ['upload'], { before: now - local }))
    if (remote !== undefined) {
      await untilNone(signal, () => drop('retention', ['remote', 'preview'], { before: now - remote }))
    }
  }

  async function untilNone(signal: AbortSignal, step: () => Promise<Dropped>): Promise<void> {
    for (;;) {
      signal.throwIfAborted()
      if ((await step()).media === 0) return
    }
  }

  /** Deletes media of these kinds, those that nobody has fetched for longest first, until as many bytes are free. */
  async function drop(
    reason: Reason,
    kinds: readonly string[],
    which: { readonly before?: number; readonly bytes?: number },
  ): Promise<Dropped> {
    const { before = Number.MAX_SAFE_INTEGER, bytes = Number.MAX_SAFE_INTEGER } = which
    const [row] = await sql<Dropped[]>`
      with oldest as (
        select origin, media_id, size, sum(size) over (order by last_access_ts, origin, media_id) - size as before_it
        from (
          select origin, media_id, size, last_access_ts from media
          where kind = any(${sql.array([...kinds], 25)}::text[]) and object_key is not null and not protected
            and last_access_ts < ${before}
          order by last_access_ts, origin, media_id limit ${rowsPerStatement}) as candidates),
      chosen as (
        select array_agg(origin) as origins, array_agg(media_id) as ids from oldest where before_it < ${bytes})
      select count(*)::integer as media, coalesce(sum(gone.size), 0)::bigint as bytes
      from chosen, media_delete(chosen.origins, chosen.ids, ${reason}, ${clock.now()}) as gone`
    const dropped = row ?? { media: 0, bytes: 0 }
    if (dropped.media > 0) log.info?.({ ...dropped, reason, kinds }, 'dropped media')
    return dropped
  }

  /** Bytes first, then the row: what ends between the two is done again. */
  async function deleteDoomed(signal: AbortSignal): Promise<void> {
    let after = ''
    for (;;) {
      signal.throwIfAborted()
      const rows = await sql<{ object_key: ObjectKey }[]>`
        select object_key from media_objects where doomed_ts is not null and object_key > ${after}
        order by object_key limit ${rowsPerStatement}`
      const last = rows.at(-1)
      if (!last) return
      after = last.object_key
      const gone: ObjectKey[] = []
      try {
        for (let i = 0; i < rows.length; i += deletedAtOnce) {
          signal.throwIfAborted()
          const some = rows.slice(i, i + deletedAtOnce).map((row) => row.object_key)
          await Promise.all(some.map((key) => store.delete(key)))
          gone.push(...some)
        }
      } finally {
        if (gone.length > 0) await sql`select media_forget(${sql.array(gone, 25)}::text[])`
      }
    }
  }

  async function compareDaily(signal: AbortSignal): Promise<void> {
    const now = clock.now()
    const [totals] = await sql<{ compared_ts: number }[]>`select compared_ts from media_totals`
    const due = totals !== undefined && totals.compared_ts <= now - comparedMs
    if (!due && renewedTs > now - renewedMs) return
    const owned = await ownership.renew()
    renewedTs = now
    if (!due || !owned) return
    const found = await compareStore({ sql, store, now, keptBefore: owned.keptBefore, signal })
    if (found.deleted > 0) log.error(found, 'the store held objects that no row tells of; they were deleted')
    else if (found.kept > 0) log.info?.(found, 'the store holds objects that no row tells of; they are kept')
    await sql`update media_totals set compared_ts = ${now}`
  }

  async function room(bytes: number): Promise<boolean> {
    const { disk_budget: budget, disk_budget_drops_local: local } = settings
    if (budget === undefined) return true
    const signal = new AbortController().signal
    for (;;) {
      await deleteDoomed(signal)
      const [totals] = await sql<{ bytes: number }[]>`select bytes from media_totals`
      const missing = (totals?.bytes ?? 0) + bytes - budget
      if (missing <= 0) return true
      if (bytes > budget) return false
      const { media } = await drop('budget', ['remote', 'preview'], { bytes: missing })
      if (media > 0) continue
      if (!local || (await drop('budget', ['upload'], { bytes: missing })).media === 0) return false
    }
  }

  return {
    start() {
      stopped = new AbortController()
      cancel = clock.after(0, tick)
      const mine = stopped
      return async () => {
        mine.abort()
        cancel()
        await running
      }
    },
    soon: tick,
    makeRoom(bytes) {
      const made = making.then(() => room(bytes))
      making = made.catch(() => undefined)
      return made
    },
  }
}
