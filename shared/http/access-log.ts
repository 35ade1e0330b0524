/** Around every request: its id, its span where requests are traced, and one line in the log when its answer is out or its
 *  client gone. The query is left out of both: it may hold a token. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Logger } from '../logging.ts'
import { requestContext } from '../request-context.ts'
import type { Span, Tracer } from '../tracing/tracer.ts'
import type { Fetch } from './listeners.ts'
import { requestIdsBehind } from './request-id.ts'
import type { ClientAddress } from './request-info.ts'

export interface AccessLogDeps {
  readonly log: Logger
  readonly clientAddress: ClientAddress
  /** Addresses and ranges whose `x-request-id` and `traceparent` are believed. */
  readonly trustedProxies: readonly string[]
  readonly tracer?: Tracer | undefined
}

/** What is noted in the environment of a request for those who see it from outside or inside. */
export interface RequestNotes {
  /** Set here, for the log of errors. */
  request_id?: string
  /** Set by `mount`. */
  user_id?: string
  /** Set by `mount`: the declared path. */
  route?: string
}

/** Probes come every few seconds and say nothing. */
const unlogged = new Set(['/health', '/live', '/ready'])

/** What opens something to whoever knows it: ids of delayed events, and tokens of registrations. */
const secretSegment = /(\/(?:delayed_events|registration_tokens)\/)(?!new(?:\/|$))[^/]+/

export function withAccessLog(fetch: Fetch, deps: AccessLogDeps): Fetch {
  const { log, clientAddress, tracer } = deps
  const requestIdOf = requestIdsBehind(deps.trustedProxies)
  const logs = log.isLevelEnabled('info')
  return (request, env) => {
    const incoming = env.incoming as IncomingMessage
    const outgoing = env.outgoing as ServerResponse
    const path = pathOf(incoming.url ?? '')
    if (unlogged.has(path)) return fetch(request, env)
    const startedAt = performance.now()
    const { requestId, trusted } = requestIdOf(incoming)
    const notes = env as RequestNotes
    notes.request_id = requestId
    const span = tracer?.startServerSpan(incoming.headers, trusted)
    if (logs || span) {
      outgoing.once('close', () => {
        if (span) endSpan(span, incoming, outgoing, notes)
        if (!logs) return
        const { user_id: user } = notes
        const agent = incoming.headers['user-agent']
        log.info(
          {
            method: incoming.method,
            path: path.replace(secretSegment, '$1…'),
            status: outgoing.statusCode,
            ms: Math.round((performance.now() - startedAt) * 10) / 10,
            ip: clientAddress(incoming, one(incoming.headers['x-forwarded-for'])),
            ...(user === undefined ? {} : { user }),
            ...(outgoing.writableFinished ? {} : { client_left: true }),
            ...(agent === undefined ? {} : { agent }),
            request_id: requestId,
          },
          'request',
        )
      })
    }
    return requestContext.run(span ? { requestId, span } : { requestId }, fetch, request, env)
  }
}

function endSpan(span: Span, incoming: IncomingMessage, outgoing: ServerResponse, notes: RequestNotes): void {
  span.name = `${incoming.method} ${notes.route ?? '*'}`
  span.set('http.request.method', incoming.method ?? '')
  span.set('http.response.status_code', outgoing.statusCode)
  if (notes.route !== undefined) span.set('http.route', notes.route)
  if (notes.request_id !== undefined) span.set('ganglion.request_id', notes.request_id)
  span.end(outgoing.statusCode >= 500 ? 'error' : 'ok')
}

function pathOf(url: string): string {
  const query = url.indexOf('?')
  return query < 0 ? url : url.slice(0, query)
}

function one(header: string | string[] | undefined): string | null {
  return header === undefined ? null : Array.isArray(header) ? header.join(',') : header
}
