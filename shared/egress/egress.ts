/** The one client for requests to the outside, wherever the host comes from: a user, another server, a page. A host is looked
 *  up, its addresses are checked, and the connection goes to a checked one; so does each redirect. Everything that comes back
 *  is limited in bytes and in time. Environment variables for proxies have no effect. */
import { isIP } from 'node:net'
import type { Agent, Dispatcher } from 'undici'
import { type Clock, systemClock } from '../clock.ts'
import type { Config } from '../config/schema.ts'
import { version } from '../version.ts'
import { addressRules } from './address-rules.ts'
import { createConnector } from './connector.ts'
import { createDeadline, type Deadline } from './deadline.ts'
import { acceptedEncodings, decoded } from './decode.ts'
import { EgressError, egressErrorOf } from './egress-error.ts'
import { type Resolver, systemResolver } from './resolver.ts'
import { createSlots } from './slots.ts'

export interface EgressLimits {
  /** For everything: waiting for a turn, redirects, the body. */
  readonly totalMs: number
  /** From a request to the headers of its answer. */
  readonly firstByteMs: number
  /** Between two parts of a body. */
  readonly idleMs: number
  /** Of a body, both as it comes and decompressed. */
  readonly bytesMax: number
}

export interface EgressRequest {
  /** http or https, without a user's name and password. */
  readonly url: string | URL
  readonly method?: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'DELETE'
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string | Uint8Array
  /** Ends the request at any point, the reading of the body included. */
  readonly signal?: AbortSignal
  /** How many redirects of a GET are followed; without it none: a 3xx is the answer. */
  readonly redirects?: number
  /** Follow from https to http too. */
  readonly downgrade?: boolean
  /** Those not given are the configuration's. */
  readonly limits?: Partial<EgressLimits>
  /** Asked for the URL and for each that a redirect leads to; true: it is not reached. */
  readonly denied?: (url: URL) => boolean
  /** Where the connection goes to instead of the URL's host, which the `Host` header and the certificate keep to: what SRV
   *  records say. Looked up and checked as any other; it does not hold for where a redirect leads. */
  readonly connectTo?: { readonly host: string; readonly port: number } | undefined
  /** Whether compression is asked for and taken off. */
  readonly decode?: boolean
}

export interface EgressResponse {
  readonly status: number
  readonly headers: Headers
  /** After redirects. */
  readonly url: URL
  /** To be read to its end or closed; else it ends with the time of the whole. Throws EgressError. */
  readonly body: AsyncIterable<Uint8Array>
  /** All of the body. */
  bytes(): Promise<Buffer>
  /** Leaves what is not read, and the connection. */
  close(): void
}

export interface Egress {
  /** Resolves when the headers of the answer are there, whatever its status. Throws EgressError, and nothing else. */
  request(request: EgressRequest): Promise<EgressResponse>
  /** Ends all connections, and what is under way. */
  close(): Promise<void>
}

export interface EgressOptions {
  readonly config: Config['egress']
  readonly clock?: Clock
  /** Other ways from a host to its addresses than the operating system's. */
  readonly resolve?: Resolver
  /** A file of PEM certificates that vouch for servers beside the usual ones. */
  readonly caPath?: string | undefined
}

/** Per block of headers. */
const headerBytesMax = 32 * 1024
/** Requests that wait for one of the connections. */
const waitingMax = 1_000
/** Hosts with open connections. */
const originsMax = 10_000
const idleConnectionMs = 30_000
const userAgent = `Ganglion/${version}`
const redirectStatuses = new Set([301, 302, 303, 307, 308])
/** What goes along to another host than the one it was meant for; anything else may be a secret. */
const harmlessHeaders = new Set(['accept', 'accept-language', 'accept-encoding', 'user-agent', 'range'])

export function createEgress(options: EgressOptions): Egress {
  const { config, clock = systemClock, resolve = systemResolver, caPath } = options
  const rules = addressRules(config)
  const slots = createSlots({ perHost: config.connections_per_host, inAll: config.connections, waiting: waitingMax })
  const ports = new Set(config.ports)
  const defaults: EgressLimits = {
    totalMs: config.total_timeout,
    firstByteMs: config.first_byte_timeout,
    idleMs: config.idle_timeout,
    bytesMax: config.body_bytes_max,
  }
  let agent: Promise<Agent> | undefined
  let closed = false
  /** Loaded at the first request: many processes make none. */
  const opened = () => {
    agent ??= import('./agent.ts').then(
      ({ Agent }) =>
        new Agent({
          connect: createConnector({ rules, resolve, connectMs: config.connect_timeout, clock, caPath }),
          connections: config.connections_per_host,
          pipelining: 1,
          allowH2: false,
          maxHeaderSize: headerBytesMax,
          maxOrigins: originsMax,
          keepAliveTimeout: idleConnectionMs,
          keepAliveMaxTimeout: idleConnectionMs,
          // The deadlines here follow the clock.
          headersTimeout: 0,
          bodyTimeout: 0,
        }),
    )
    return agent
  }

  const checkPort = (host: string, port: number) => {
    if (ports.size > 0 && !ports.has(port)) throw new EgressError('denied', `Port ${port} of ${host}`)
  }
  const checkedUrl = (url: URL, { denied }: EgressRequest): URL => {
    if (url.protocol !== 'http:' && url.protocol !== 'https:') {
      throw new EgressError('bad_url', `Only http and https are reached, not ${url.protocol}`)
    }
    if (url.username !== '' || url.password !== '') {
      throw new EgressError('bad_url', `A URL at ${url.hostname} holds a name or a password`)
    }
    if (denied?.(url)) throw new EgressError('denied', `This URL at ${url.hostname}`)
    checkPort(url.hostname, Number(url.port) || (url.protocol === 'https:' ? 443 : 80))
    return url
  }

  const once = async (
    url: URL,
    connectTo: EgressRequest['connectTo'],
    request: EgressRequest,
    headers: Record<string, string>,
    limits: EgressLimits,
    deadline: Deadline,
  ): Promise<Exchange> => {
    const to = connectTo === undefined ? url : elsewhere(url, connectTo)
    const release = await slots.take(to.host, deadline.signal)
    try {
      const dispatcher = await opened()
      deadline.wait(limits.firstByteMs, 'answer')
      const answer = await dispatcher.request({
        origin: to.origin,
        path: url.pathname + url.search,
        method: request.method ?? 'GET',
        headers: { ...headers, host: url.host },
        body: request.body ?? null,
        signal: deadline.signal,
      })
      deadline.arrived()
      // It is looked at where the body is read; a body that nobody reads any more fails for nobody.
      answer.body.on('error', () => {})
      return { url, answer, release }
    } catch (error) {
      release()
      throw deadline.signal.aborted ? deadline.signal.reason : error
    }
  }

  return {
    async request(request) {
      if (closed) throw new EgressError('aborted', 'No more requests are made')
      const limits = { ...defaults, ...request.limits }
      let url = checkedUrl(parsedUrl(request.url), request)
      let headers = requestHeaders(request)
      let { connectTo } = request
      if (connectTo !== undefined) checkPort(connectTo.host, connectTo.port)
      const deadline = createDeadline({ clock, totalMs: limits.totalMs, host: url.hostname, signal: request.signal })
      try {
        for (let left = request.redirects ?? 0; ; left--) {
          const exchange = await once(url, connectTo, request, headers, limits, deadline)
          const next = followed(exchange, request)
          if (next === undefined) return readable(exchange, limits, deadline, request.decode !== false)
          end(exchange)
          if (left === 0) throw new EgressError('redirect', `Too many redirects, the last by ${url.hostname}`)
          checkedUrl(next, request)
          if (url.protocol === 'https:' && next.protocol === 'http:' && request.downgrade !== true) {
            throw new EgressError('redirect', `${url.hostname} leads from https to http`)
          }
          if (next.origin !== url.origin) headers = harmless(headers)
          url = next
          connectTo = undefined
        }
      } catch (error) {
        deadline.end()
        throw egressErrorOf(error, url.hostname)
      }
    },
    async close() {
      closed = true
      await (await agent)?.destroy()
    },
  }
}

/** An answer whose body is still to be read. */
interface Exchange {
  readonly url: URL
  readonly answer: Dispatcher.ResponseData
  /** Gives the place to the next request. */
  readonly release: () => void
}

function end({ answer, release }: Exchange): void {
  answer.body.destroy()
  release()
}

function parsedUrl(url: string | URL): URL {
  const parsed = URL.parse(url)
  if (parsed === null) throw new EgressError('bad_url', 'This is no URL')
  return parsed
}

/** The origin that the connection is opened to; of the pool of which it is. The name that its certificate has to have follows
 *  the `Host` header, and a connection is not shared between names. */
function elsewhere(url: URL, { host, port }: { readonly host: string; readonly port: number }): URL {
  const to = URL.parse(`${url.protocol}//${host.includes(':') ? `[${host}]` : host}:${port}`)
  // A certificate for an address would be looked for under the name that is connected to; another port of it is the same.
  const address = url.hostname.replace(/^\[|\]$/g, '')
  if (to === null || (isIP(address) !== 0 && to.hostname !== url.hostname)) {
    throw new EgressError('bad_url', `${url.hostname} cannot be reached by another host`)
  }
  return to
}

function requestHeaders({ headers, decode }: EgressRequest): Record<string, string> {
  const given = Object.entries(headers ?? {})
    .map(([name, value]): [string, string] => [name.toLowerCase(), value])
    // It follows the URL, since the certificate follows it.
    .filter(([name]) => name !== 'host')
  return {
    'user-agent': userAgent,
    'accept-encoding': decode === false ? 'identity' : acceptedEncodings,
    ...Object.fromEntries(given),
  }
}

function harmless(headers: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => harmlessHeaders.has(name)))
}

/** Where an answer leads on; undefined where it is the one to give. */
function followed({ url, answer }: Exchange, request: EgressRequest): URL | undefined {
  if (request.redirects === undefined || (request.method ?? 'GET') !== 'GET') return undefined
  const { location } = answer.headers
  if (!redirectStatuses.has(answer.statusCode) || typeof location !== 'string') return undefined
  const next = URL.parse(location, url)
  if (next === null) throw new EgressError('redirect', `${url.hostname} leads nowhere`)
  return next
}

function readable(exchange: Exchange, limits: EgressLimits, deadline: Deadline, decode: boolean): EgressResponse {
  const { url, answer } = exchange
  const host = url.hostname
  const close = () => {
    deadline.end()
    end(exchange)
  }
  deadline.signal.addEventListener('abort', exchange.release, { once: true })
  let headers: Headers
  let body: AsyncIterable<Uint8Array>
  try {
    headers = responseHeaders(answer)
    const declared = Number(headers.get('content-length') ?? 0)
    if (declared > limits.bytesMax) throw tooLarge(host, limits)
    const wire = limited(arriving(exchange, limits, deadline), limits, host)
    const encoding = decode ? (headers.get('content-encoding') ?? '') : ''
    const plain = decoded(encoding, wire, host)
    body = closing(plain === wire ? wire : limited(plain, limits, host), close, host)
  } catch (error) {
    close()
    throw error
  }
  return {
    status: answer.statusCode,
    headers,
    url,
    body,
    async bytes() {
      const chunks: Uint8Array[] = []
      for await (const chunk of body) chunks.push(chunk)
      return Buffer.concat(chunks)
    },
    close,
  }
}

function responseHeaders(answer: Dispatcher.ResponseData): Headers {
  const headers = new Headers()
  for (const [name, value] of Object.entries(answer.headers)) {
    for (const one of Array.isArray(value) ? value : [value ?? '']) headers.append(name, one)
  }
  return headers
}

/** The body as it comes. Only the wait for the other side is timed; who reads slowly has the time of the whole. */
async function* arriving(
  { answer }: Exchange,
  { idleMs }: EgressLimits,
  deadline: Deadline,
): AsyncIterable<Uint8Array> {
  try {
    const parts: AsyncIterator<Uint8Array> = answer.body[Symbol.asyncIterator]()
    for (;;) {
      deadline.wait(idleMs, 'more of the body')
      const step = await parts.next()
      deadline.arrived()
      if (step.done) return
      yield step.value
    }
  } catch (error) {
    throw deadline.signal.aborted ? deadline.signal.reason : error
  }
}

async function* limited(
  parts: AsyncIterable<Uint8Array>,
  limits: EgressLimits,
  host: string,
): AsyncIterable<Uint8Array> {
  let length = 0
  for await (const part of parts) {
    length += part.length
    if (length > limits.bytesMax) throw tooLarge(host, limits)
    yield part
  }
}

/** However the reading ends, nothing of the request is left. */
async function* closing(parts: AsyncIterable<Uint8Array>, close: () => void, host: string): AsyncIterable<Uint8Array> {
  try {
    yield* parts
  } catch (error) {
    throw egressErrorOf(error, host)
  } finally {
    close()
  }
}

function tooLarge(host: string, { bytesMax }: EgressLimits): EgressError {
  return new EgressError('too_large', `${host} sent more than ${bytesMax} bytes`)
}
