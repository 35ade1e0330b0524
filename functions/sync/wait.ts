/** Waiting for news: a waiting client costs one small object and a timer, and no query. */
import type { Clock } from '../../shared/clock.ts'
import { tallies } from '../../shared/metrics/tallies.ts'
import type { LiveUser } from './live-user.ts'

/** Resolves when something may have changed for the user, when the time is over, or when the client is gone. */
export function newsFor(user: LiveUser, timeoutMs: number, signal: AbortSignal, clock: Clock): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      if (!user.waiters.delete(waiter)) return
      tallies.waiting--
      signal.removeEventListener('abort', end)
      cancel()
      resolve()
    }
    const waiter = { wake: end }
    const cancel = clock.after(timeoutMs, end)
    user.waiters.add(waiter)
    tallies.waiting++
    signal.addEventListener('abort', end)
    if (signal.aborted) end()
  })
}
