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

export interface OutageGuard {
  /** The same handlers; what they answer after they were given up on is dropped. */
  guard(commands: MainClient): MainClient
  /** Called again and again while the database is away. */
  away(): void
}

interface Waiting {
  readonly sinceTs: number
  reject(error: unknown): void
}

export function createOutageGuard(clock: Clock): OutageGuard {
  // Oldest first.
  const waiting = new Set<Waiting>()

  function guarded<Request, Response>(handle: (request: Request) => Promise<Response>) {
    return (request: Request) =>
      new Promise<Response>((resolve, reject) => {
        const mine = { sinceTs: clock.now(), reject }
        const answered = handle(request)
        waiting.add(mine)
        answered.finally(() => waiting.delete(mine)).then(resolve, reject)
      })
  }

  return {
    guard(commands) {
      const entries = Object.entries(commands).map(([name, handle]) => [name, guarded(handle as never)])
      return Object.fromEntries(entries) as MainClient
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
