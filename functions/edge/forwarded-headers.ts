/** Headers on their way through. What belongs to one connection stays on it; what tells of the client is written by the
 *  edge alone, so that nobody can pass for somebody else. */
import { hopByHopHeaders } from '../../shared/http/headers.ts'

/** What the edge says itself, or what only its own processes may say. */
const writtenByTheEdge = new Set([
  'forwarded',
  'x-forwarded-for',
  'x-forwarded-host',
  'x-forwarded-port',
  'x-forwarded-proto',
  'x-forwarded-server',
  'x-real-ip',
  'x-request-id',
])
const ownPrefix = 'x-ganglion-'
/** Traces are continued for trusted proxies alone: anybody could have one request in a thousand traced otherwise. */
const ofTraces = new Set(['traceparent', 'tracestate', 'baggage'])

export interface ClientFacts {
  /** After trusted proxies. */
  readonly address: string
  readonly proto: 'http' | 'https'
  readonly host: string | undefined
  readonly requestId: string
  /** The peer is a trusted proxy: its traces are continued. */
  readonly trusted: boolean
  /** Of the edge's own span, where this request is traced. */
  readonly traceparent?: string | undefined
}

/** True for a request's header that goes on to a handler; `name` in lower case, `connection` the header of that name. */
export function requestHeaderGoesOn(
  name: string,
  connection: string | undefined,
  { trusted, traceparent }: Pick<ClientFacts, 'trusted' | 'traceparent'>,
): boolean {
  if (hopByHopHeaders.has(name) || writtenByTheEdge.has(name) || name.startsWith(ownPrefix)) return false
  // Answered to the client by the edge, which has the body read in any case.
  if (name === 'expect') return false
  if (ofTraces.has(name) && (!trusted || (name === 'traceparent' && traceparent !== undefined))) return false
  return connection === undefined || !namedBy(connection, name)
}

/** True for an answer's header that goes on to the client. */
export function answerHeaderGoesOn(name: string, connection: string | undefined): boolean {
  return (
    !hopByHopHeaders.has(name) &&
    !name.startsWith(ownPrefix) &&
    (connection === undefined || !namedBy(connection, name))
  )
}

/** In the shape of node's raw headers: name, value, name, value. */
export function forwardedHeaders({ address, proto, host, requestId, traceparent }: ClientFacts): string[] {
  const headers = ['X-Forwarded-For', address, 'X-Forwarded-Proto', proto, 'X-Request-Id', requestId]
  if (host !== undefined) headers.push('X-Forwarded-Host', host)
  if (traceparent !== undefined) headers.push('traceparent', traceparent)
  return headers
}

function namedBy(connection: string, name: string): boolean {
  if (connection === 'keep-alive' || connection === 'close') return false
  // What frames the body is not the connection's to take away.
  if (name === 'host' || name === 'content-length' || name === 'authorization') return false
  return connection
    .toLowerCase()
    .split(',')
    .some((part) => part.trim() === name)
}
