/** Media whose mxc:// URI is known and whose bytes are not there yet: whoever asks for one waits for a while.
 *  https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1mediadownloadservernamemediaid */
import type { Clock } from '../../shared/clock.ts'
import type { MediaName } from '../../shared/commands/media.ts'
import { MatrixError } from '../../shared/matrix/matrix-error.ts'
import type { Replication } from '../../shared/replication/replication.ts'
import { type AwaitedMedium, isAwaited, mediumOf, type StoredMedium } from '../../shared/storage/media.ts'
import type { ReadSql } from '../../shared/storage/sql.ts'

export interface ArrivingMedia {
  /** The medium, when its bytes are there; undefined where there is no such medium. Throws M_NOT_YET_UPLOADED after
   *  `timeoutMs`. */
  find(
    name: MediaName,
    options: { readonly timeoutMs: number; readonly signal: AbortSignal },
  ): Promise<StoredMedium | undefined>
  close(): void
}

/** Those who wait for one medium; each is called once. */
type Waiting = Map<string, Set<() => void>>

/** Waiting costs little; still, nobody is to make a server hold everything. */
const waitingMax = 5_000

export function createArrivingMedia(deps: {
  readonly sql: ReadSql
  readonly replication: Pick<Replication, 'subscribe'>
  readonly clock: Clock
}): ArrivingMedia {
  const { sql, replication, clock } = deps
  const waiting: Waiting = new Map()
  let waiters = 0
  const unsubscribe = replication.subscribe('invalidations', ({ rows }) => {
    for (const { cache, key } of rows) if (cache === 'media') for (const wake of waiting.get(key) ?? []) wake()
  })

  /** Resolves when something is said of the medium, when the time is over, or when nobody waits any more. */
  function change(key: string, timeoutMs: number, signal: AbortSignal) {
    const { promise, resolve } = Promise.withResolvers<void>()
    const cancel = clock.after(timeoutMs, resolve)
    const wakes = waiting.get(key) ?? new Set()
    waiting.set(key, wakes)
    wakes.add(resolve)
    signal.addEventListener('abort', () => resolve())
    waiters++
    const over = () => {
      cancel()
      waiters--
      wakes.delete(resolve)
      if (wakes.size === 0 && waiting.get(key) === wakes) waiting.delete(key)
    }
    return { promise, over }
  }

  return {
    async find(name, { timeoutMs, signal }) {
      const found = await mediumOf(sql, name)
      if (!found || !isAwaited(found)) return found
      if (isOver(found, clock)) return undefined
      if (timeoutMs === 0 || waiters >= waitingMax) throw notYetUploaded()
      const { promise, over } = change(`${name.origin}/${name.media_id}`, timeoutMs, signal)
      try {
        // It may have come between the look above and now.
        const meanwhile = await mediumOf(sql, name)
        if (meanwhile && !isAwaited(meanwhile)) return meanwhile
        await promise
      } finally {
        over()
      }
      const now = await mediumOf(sql, name)
      if (now && isAwaited(now)) throw notYetUploaded()
      return now
    },
    close() {
      unsubscribe()
      for (const wakes of waiting.values()) for (const wake of wakes) wake()
    },
  }
}

function isOver(medium: AwaitedMedium, clock: Clock): boolean {
  return medium.expires_ts <= clock.now()
}

function notYetUploaded(): MatrixError {
  return new MatrixError('M_NOT_YET_UPLOADED', 'This medium has not been uploaded yet')
}
