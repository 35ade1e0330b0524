/** Keeps the indexes up to date: soon after each commit, and in pauses what was there before the index. One main alone does
 *  so, the owner of a shard; the cursors in the database see to it that another that has not noticed yet writes nothing. */
import type { Clock } from '../../../shared/clock.ts'
import type { Replication } from '../../../shared/replication/replication.ts'
import type { MainSql } from '../../../shared/storage/sql.ts'
import { backfillMessages, followMessages } from './message-index.ts'
import { backfillUsers, followUsers } from './user-index.ts'

/** What comes within this time is taken in together. */
const gatherMs = 50
/** Between two steps of what was there before: others want the database too. */
const pauseMs = 20
const retryMs = 5_000
/** Where no commit was heard of, which a lost link to Redis may be the reason for. */
const lookMs = 5_000

const indexes = [
  { follow: followMessages, backfill: backfillMessages },
  { follow: followUsers, backfill: backfillUsers },
] as const

/** One round: everything that is waiting, and one step of what was there before. True where more of that is left. */
export async function indexOnce(sql: MainSql, stopped: () => boolean = () => false): Promise<boolean> {
  let left = false
  for (const { follow, backfill } of indexes) {
    while (!stopped() && (await follow(sql)));
    if (!stopped() && (await backfill(sql))) left = true
  }
  return left
}

/** Goes on until the returned function is called, which waits for the step under way. */
export function startIndexing(deps: {
  readonly sql: MainSql
  readonly clock: Clock
  readonly replication: Replication
  readonly onError: (error: unknown) => void
}): () => Promise<void> {
  const { sql, clock, replication, onError } = deps
  let stopped = false
  let running: Promise<void> | undefined
  /** Something was committed since the round under way began. */
  let heard = false
  let cancel = clock.after(0, run)
  let soon = true

  function later(delayMs: number): void {
    cancel()
    if (stopped) return
    soon = delayMs <= gatherMs
    cancel = clock.after(delayMs, run)
  }
  function run(): void {
    heard = false
    running = indexOnce(sql, () => stopped)
      .then(
        (left) => (left ? pauseMs : heard ? gatherMs : lookMs),
        (error: unknown) => {
          if (!stopped) onError(error)
          return retryMs
        },
      )
      .then((delayMs) => {
        running = undefined
        later(delayMs)
      })
  }
  const hear = () => {
    heard = true
    if (!running && !soon) later(gatherMs)
  }
  const unsubscribe = [replication.subscribe('events', hear), replication.subscribe('invalidations', hear)]
  return async () => {
    stopped = true
    cancel()
    for (const off of unsubscribe) off()
    await running
  }
}
