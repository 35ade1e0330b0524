/** Passes a request that another role serves on to one of its handlers, once. So a wrong route is slower, never wrong. Bodies
 *  stream both ways as they are, and a client that leaves takes its request along. */
import { type ClientRequest, Agent as HttpAgent, type IncomingMessage, request, type ServerResponse } from 'node:http'
import { Agent as HttpsAgent, request as secureRequest } from 'node:https'
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response'
import type { Context } from 'hono'
import { matrixErrorResponse } from '../http/error-response.ts'
import { hopByHopHeaders } from '../http/headers.ts'
import type { Role } from '../http/route.ts'
import { roleOf } from '../http/route-table.ts'
import type { Logger } from '../logging.ts'
import { MatrixError } from '../matrix/matrix-error.ts'
import { tallies } from '../metrics/tallies.ts'
import { requestContext, requestIdHeader } from '../request-context.ts'
import { traceparentHeader } from '../tracing/tracer.ts'
import type { HandlerDirectory } from './handler-registry.ts'

/** Set on what was forwarded: it is not forwarded again. */
export const forwardedHeader = 'x-ganglion-forwarded'

/** The answer of another role, or undefined where this one is the right one, or the request came from another already. */
export type Forwarder = (c: Context, path: string) => Promise<Response> | undefined

const connectTimeoutMs = 2_000
/** Below the time after which a handler closes an idle connection. */
const idleConnectionMs = 30_000
const handlersTried = 3
const retryAfterMs = 1_000

export function createForwarder(options: {
  readonly role: Role
  readonly handlers: HandlerDirectory
  readonly log: Pick<Logger, 'warn'>
}): Forwarder & { close(): void } {
  const { role, handlers, log } = options
  const agents = {
    'http:': new HttpAgent({ keepAlive: true, timeout: idleConnectionMs, maxFreeSockets: 64 }),
    'https:': new HttpsAgent({ keepAlive: true, timeout: idleConnectionMs, maxFreeSockets: 64 }),
  }

  const forward = async (incoming: IncomingMessage, outgoing: ServerResponse, to: Role): Promise<Response> => {
    let urls: readonly string[]
    try {
      urls = await handlers.of(to)
    } catch (err) {
      log.warn({ err, role: to }, 'cannot look up the handlers of another role')
      urls = []
    }
    for (const url of shuffled(urls).slice(0, handlersTried)) {
      const { protocol, hostname, port } = new URL(url)
      const secure = protocol === 'https:'
      const upstream = (secure ? secureRequest : request)({
        agent: agents[secure ? 'https:' : 'http:'],
        hostname: hostname.replace(/^\[|\]$/g, ''),
        port,
        method: incoming.method ?? 'GET',
        path: incoming.url ?? '/',
        headers: requestHeaders(incoming),
        setHost: false,
      })
      const outcome = await passThrough(incoming, outgoing, upstream)
      if (outcome === 'passed') return RESPONSE_ALREADY_SENT
      log.warn({ err: outcome.error, role: to, url }, 'a handler does not answer; a request was forwarded to it')
      if (!outcome.repeatable) break
    }
    return matrixErrorResponse(
      new MatrixError('M_UNAVAILABLE', 'The part of the server that answers this is away', {
        extra: { retry_after_ms: retryAfterMs },
      }),
    )
  }

  const forwarder = (c: Context, path: string) => {
    const { incoming, outgoing } = (c.env ?? {}) as { incoming?: IncomingMessage; outgoing?: ServerResponse }
    if (!incoming || !outgoing || incoming.headers[forwardedHeader] !== undefined) return undefined
    const to = roleOf(incoming.method ?? 'GET', path)?.role
    if (to === undefined || to === role) return undefined
    tallies.misrouted++
    return forward(incoming, outgoing, to)
  }
  return Object.assign(forwarder, {
    close() {
      for (const agent of Object.values(agents)) agent.destroy()
    },
  })
}

type Outcome = 'passed' | { readonly error: Error /** Nothing of the body was sent. */; readonly repeatable: boolean }

function passThrough(incoming: IncomingMessage, outgoing: ServerResponse, upstream: ClientRequest): Promise<Outcome> {
  const hasBody = incoming.headers['content-length'] !== undefined || 'transfer-encoding' in incoming.headers
  return new Promise((resolve) => {
    let repeatable = true
    let answered = false
    const clientLeft = () => {
      if (!outgoing.writableFinished) upstream.destroy()
    }
    outgoing.once('close', clientLeft)

    upstream.once('error', (error) => {
      incoming.unpipe(upstream)
      outgoing.off('close', clientLeft)
      if (outgoing.destroyed) resolve('passed')
      else if (answered) {
        // Half an answer is out: all that can be said is that it broke off.
        outgoing.destroy()
        resolve('passed')
      } else resolve({ error, repeatable })
    })
    // The body waits for the connection, so that another handler can be tried where there is none.
    const send = () => {
      repeatable = !hasBody && (incoming.method === 'GET' || incoming.method === 'HEAD')
      if (hasBody) incoming.pipe(upstream)
      else upstream.end()
    }
    upstream.once('socket', (socket) => {
      if (!socket.connecting) {
        send()
        return
      }
      const late = setTimeout(
        () => upstream.destroy(new Error(`no connection within ${connectTimeoutMs} ms`)),
        connectTimeoutMs,
      )
      socket.once('close', () => clearTimeout(late))
      socket.once('connect', () => {
        clearTimeout(late)
        send()
      })
    })
    upstream.once('response', (response) => {
      answered = true
      outgoing.writeHead(response.statusCode ?? 502, response.statusMessage ?? '', endToEnd(response.rawHeaders))
      // The answer's head counts by itself: a long poll may take its time before the first byte of its body.
      outgoing.flushHeaders()
      response.once('error', () => outgoing.destroy())
      response.once('end', () => resolve('passed'))
      response.once('close', () => {
        if (!response.complete) outgoing.destroy()
        resolve('passed')
      })
      response.pipe(outgoing)
    })
  })
}

function requestHeaders(incoming: IncomingMessage): string[] {
  const request = requestContext.getStore()
  const traceparent = request?.span?.traceparent
  const own = traceparent === undefined ? [] : [traceparentHeader]
  const headers = endToEnd(incoming.rawHeaders, ['x-forwarded-for', requestIdHeader, ...own])
  if (traceparent !== undefined) headers.push(traceparentHeader, traceparent)
  const before = incoming.headers['x-forwarded-for']
  const peer = incoming.socket.remoteAddress ?? '127.0.0.1'
  headers.push('X-Forwarded-For', before === undefined ? peer : `${String(before)}, ${peer}`)
  headers.push(forwardedHeader, '1')
  const requestId = request?.requestId ?? incoming.headers[requestIdHeader]
  if (typeof requestId === 'string') headers.push(requestIdHeader, requestId)
  return headers
}

/** Raw headers, names and values in turn, without those of the connection, which `Connection` may name too. */
function endToEnd(raw: readonly string[], besides: readonly string[] = []): string[] {
  const left = new Set([...hopByHopHeaders, 'expect', ...besides])
  for (let i = 0; i < raw.length; i += 2) {
    if (raw[i]?.toLowerCase() !== 'connection') continue
    for (const name of (raw[i + 1] ?? '').split(',')) left.add(name.trim().toLowerCase())
  }
  const kept: string[] = []
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i] ?? ''
    if (!left.has(name.toLowerCase())) kept.push(name, raw[i + 1] ?? '')
  }
  return kept
}

function shuffled<T>(list: readonly T[]): T[] {
  const result = [...list]
  for (let i = result.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1))
    const [a, b] = [result[i] as T, result[j] as T]
    result[i] = b
    result[j] = a
  }
  return result
}
