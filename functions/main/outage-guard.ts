/** Callers of commands wait no longer than this for a database that is away. What they asked for may still be written when
 *  it is back, if it was under way: its fate is not known before. The same request again then finds it done. */
import type { Clock } from '../../shared/clock.ts'
import type { MainClient } from '../../shared/commands/registry.ts'
import { MatrixError } from '../../shared/matrix/matrix-error.ts'

export const outageGraceMs = 5_000

export function unavailable(): MatrixError {
  return new MatrixError('M_UNAVAILABLE', 'The server cannot store anything at the moment', {
    extra: { retry_after_ms: 2_000 },
  })
}

/** So much is under way that what comes now would wait too long. */
export function overloaded(): MatrixError {
  return new MatrixError('M_UNAVAILABLE', 'The server has too much to do at the moment', {
    extra: { retry_after_ms: 1_000 },
  })
}

export interface OutageGuard {
  /** The same handlers; what they answer after they were given up on is dropped. */
  guard(commands: MainClient): MainClient
  /** What `run` gives, or M_UNAVAILABLE: at once where too many wait, later where the database is away. */
  wait<T>(run: () => Promise<T>): Promise<T>
  /** Callers that wait. */
  readonly waiting: number
  /** Called again and again while the database is away. */
  away(): void
}

interface Waiting {
  readonly sinceTs: number
  reject(error: unknown): void
}

/** `waitingMax`: callers beyond it are refused. */
export function createOutageGuard(clock: Clock, waitingMax = Number.POSITIVE_INFINITY): OutageGuard {
  // Oldest first.
  const waiting = new Set<Waiting>()

  function wait<T>(run: () => Promise<T>): Promise<T> {
    if (waiting.size >= waitingMax) return Promise.reject(overloaded())
    return new Promise<T>((resolve, reject) => {
      const mine = { sinceTs: clock.now(), reject }
      const answered = run()
      waiting.add(mine)
      answered.finally(() => waiting.delete(mine)).then(resolve, reject)
    })
  }

  return {
    guard(commands) {
      const entries = Object.entries(commands).map(([name, handle]) => {
        const run = handle as (request: unknown) => Promise<unknown>
        return [name, (request: unknown) => wait(() => run(request))]
      })
      return Object.fromEntries(entries) as MainClient
    },
    wait,
    get waiting() {
      return waiting.size
    },
    away() {
      const oldest = clock.now() - outageGraceMs
      for (const { sinceTs, reject } of waiting) {
        if (sinceTs > oldest) break
        reject(unavailable())
      }
    },
  }
}
