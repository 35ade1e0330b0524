/** Waiting for news: a waiting client costs a few small objects and a timer, and no query. */
import type { Clock } from '../../shared/clock.ts'
import { tallies } from '../../shared/metrics/tallies.ts'
import type { LiveUser } from './live-user.ts'

export interface Wait {
  readonly user: LiveUser
  readonly timeoutMs: number
  /** Aborted when the client is gone. */
  readonly signal: AbortSignal
  readonly clock: Clock
  /** Has `wake` called for one more reason; the returned function ends that. */
  alsoFor(wake: () => void): () => void
}

/** Resolves when something may have changed for the user, when the time is over, or when the client is gone. */
export function newsFor({ user, timeoutMs, signal, clock, alsoFor }: Wait): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      if (!user.waiters.delete(waiter)) return
      tallies.waiting--
      signal.removeEventListener('abort', end)
      cancel()
      endAlso()
      resolve()
    }
    const waiter = { wake: end }
    const cancel = clock.after(timeoutMs, end)
    const endAlso = alsoFor(end)
    user.waiters.add(waiter)
    tallies.waiting++
    signal.addEventListener('abort', end)
    if (signal.aborted) end()
  })
}
