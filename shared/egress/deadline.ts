/** The times that a request may take, as one signal: the whole of it, and each wait within it. */
import type { Clock } from '../clock.ts'
import { EgressError } from './egress-error.ts'

export interface Deadline {
  /** Aborted with an EgressError as its reason. */
  readonly signal: AbortSignal
  /** Begins a wait of which this is the longest; a wait before it is over. */
  wait(limitMs: number, forWhat: string): void
  /** What was waited for is there; only the time for the whole goes on. */
  arrived(): void
  /** Nothing is aborted any more. */
  end(): void
}

export function createDeadline(options: {
  readonly clock: Clock
  readonly totalMs: number
  readonly host: string
  /** The caller's. */
  readonly signal: AbortSignal | undefined
}): Deadline {
  const { clock, totalMs, host, signal } = options
  const controller = new AbortController()
  const abort = (reason: 'timeout' | 'aborted', message: string) => {
    end()
    controller.abort(new EgressError(reason, message))
  }
  const giveUp = () => abort('aborted', `The request to ${host} was given up`)
  const stopTotal = clock.after(totalMs, () => abort('timeout', `${host} took longer than ${totalMs} ms in all`))
  let stopWait: (() => void) | undefined
  const arrived = () => {
    stopWait?.()
    stopWait = undefined
  }
  const end = () => {
    arrived()
    stopTotal()
    signal?.removeEventListener('abort', giveUp)
  }
  if (signal?.aborted) giveUp()
  else signal?.addEventListener('abort', giveUp, { once: true })
  return {
    signal: controller.signal,
    wait(limitMs, forWhat) {
      arrived()
      if (controller.signal.aborted) return
      stopWait = clock.after(limitMs, () => abort('timeout', `${host} gave no ${forWhat} within ${limitMs} ms`))
    },
    arrived,
    end,
  }
}
