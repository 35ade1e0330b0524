/** What belongs to the request that is being answered, wherever in the program its work is. Handlers and mains that run
 *  apart set it; one process with all roles does without, as its logs need it in one place only. */
import { AsyncLocalStorage } from 'node:async_hooks'

export interface RequestContext {
  /** One from edge to main: `[\w.:-]{1,64}`. */
  readonly requestId: string
}

export const requestContext = new AsyncLocalStorage<RequestContext>()

export const requestIdHeader = 'x-request-id'

/** A request id that came over the wire, where it has the form of one: it goes to logs as it is. */
export function requestIdFrom(header: string | string[] | null | undefined): string | undefined {
  return typeof header === 'string' && /^[\w.:-]{1,64}$/.test(header) ? header : undefined
}
