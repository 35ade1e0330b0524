/** How many requests are under way, to each host and in all; the others wait in line, and not too many of them. */
import { EgressError } from './egress-error.ts'

interface Waiting {
  readonly host: string
  readonly begin: () => void
}

export interface Slots {
  /** Resolves to what gives the slot back, which may be called again without effect. Rejects at once where too many wait, and
   *  with the signal's reason when it is aborted. */
  take(host: string, signal: AbortSignal): Promise<() => void>
}

export function createSlots(limits: {
  readonly perHost: number
  readonly inAll: number
  readonly waiting: number
}): Slots {
  const underWay = new Map<string, number>()
  const line = new Set<Waiting>()
  let count = 0

  const isFree = (host: string) => count < limits.inAll && (underWay.get(host) ?? 0) < limits.perHost
  const begin = (host: string): (() => void) => {
    count += 1
    underWay.set(host, (underWay.get(host) ?? 0) + 1)
    let held = true
    return () => {
      if (!held) return
      held = false
      count -= 1
      const left = (underWay.get(host) ?? 1) - 1
      if (left > 0) underWay.set(host, left)
      else underWay.delete(host)
      next()
    }
  }
  /** The first in line whose host has room: who waits for a busy host holds up nobody behind it. */
  const next = () => {
    if (count >= limits.inAll) return
    for (const waiting of line) {
      if (!isFree(waiting.host)) continue
      line.delete(waiting)
      waiting.begin()
      return
    }
  }

  return {
    async take(host, signal) {
      signal.throwIfAborted()
      if (isFree(host)) return begin(host)
      if (line.size >= limits.waiting) throw new EgressError('busy', `Too many requests wait; the last one for ${host}`)
      const turn = Promise.withResolvers<() => void>()
      const waiting = { host, begin: () => turn.resolve(begin(host)) }
      line.add(waiting)
      const giveUp = () => {
        if (line.delete(waiting)) turn.reject(signal.reason)
      }
      signal.addEventListener('abort', giveUp, { once: true })
      try {
        return await turn.promise
      } finally {
        signal.removeEventListener('abort', giveUp)
      }
    },
  }
}
