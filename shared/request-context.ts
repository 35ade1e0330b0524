/** What belongs to the request that is being answered, wherever in the program its work is: its id, which every log line of
 *  it carries and every command takes along to main. AsyncLocalStorage costs 0.6 µs a request, however much it awaits. */
import { AsyncLocalStorage } from 'node:async_hooks'
import type { Span } from './tracing/tracer.ts'

export interface RequestContext {
  /** One from edge to main: `[\w.:-]{1,64}`. */
  readonly requestId: string
  /** The innermost span, where requests are traced. */
  readonly span?: Span | undefined
}

export const requestContext = new AsyncLocalStorage<RequestContext>()

/** For work that several requests share: runs as if no request had asked for it. */
export function outsideRequests<Result>(run: () => Result): Result {
  return requestContext.exit(run)
}

export const requestIdHeader = 'x-request-id'

/** A request id that came over the wire, where it has the form of one: it goes to logs as it is. */
export function requestIdFrom(header: string | string[] | null | undefined): string | undefined {
  return typeof header === 'string' && /^[\w.:-]{1,64}$/.test(header) ? header : undefined
}
