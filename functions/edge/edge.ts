/** The edge on Node: the reverse proxy before the roles, put together. It keeps nothing but connections. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { TLSSocket } from 'node:tls'
import type { Config } from '../../shared/config/schema.ts'
import type { MountContext, RouteObserver } from '../../shared/http/mount.ts'
import { requestIdsBehind } from '../../shared/http/request-id.ts'
import { clientAddressBehind } from '../../shared/http/request-info.ts'
import type { Method, Role } from '../../shared/http/route.ts'
import { roles } from '../../shared/http/route-table.ts'
import type { Logger } from '../../shared/logging.ts'
import type { Span, Tracer } from '../../shared/tracing/tracer.ts'
import { badTarget } from './answers.ts'
import { decide } from './decide.ts'
import { listenAtEdge } from './edge-server.ts'
import { Exchange, type ExchangeDeps, writeAnswer } from './exchange.ts'
import type { ClientFacts } from './forwarded-headers.ts'
import { handlerConnections } from './handler-connections.ts'
import { handlerSessions } from './handler-sessions.ts'
import { Upstreams } from './upstreams.ts'

export interface Edge {
  /** Such as `http://127.0.0.1:8008`. */
  readonly addresses: readonly string[]
  /** The handlers of a role from now on; those of the configuration until then. */
  setUpstreams(role: Role, urls: readonly string[]): void
  /** Answers what is under way. */
  close(): Promise<void>
}

/** A long poll ends when its handler answers it, most after half a minute. A supervisor that leaves less time cuts it. */
const drainMs = 35_000
/** Roles without which hardly any client can work. */
const needed: readonly Role[] = ['sync', 'client']
const methods: readonly Method[] = ['GET', 'POST', 'PUT', 'DELETE']

/** Rejects with a sentence for the operator when it cannot listen; then nothing is left open. */
export async function createEdge(
  config: Config,
  log: Logger,
  options: {
    /** At its end, requests are still taken for so long, unless nobody is connected. */
    readonly lastAnswersMs?: number
    /** How long a handler that is no longer on the list may take to answer what it has. */
    readonly handlersLastAnswersMs?: number
    /** How long a handler may take to begin its answer. */
    readonly answerMs?: number
    readonly observe?: MountContext<unknown>['observe']
    readonly tracer?: Tracer | undefined
  } = {},
): Promise<Edge> {
  const upstreams = Object.fromEntries(
    roles.map((role) => [role, new Upstreams({ urls: config.edge.upstreams[role] ?? [] })]),
  ) as Record<Role, Upstreams>
  const connections = handlerConnections({ lastAnswersMs: options.handlersLastAnswersMs })
  const sessions = handlerSessions({ lastAnswersMs: options.handlersLastAnswersMs })
  const clientAddress = clientAddressBehind(config.trusted_proxies)
  const requestIdOf = requestIdsBehind(config.trusted_proxies)
  const limits = config.edge.body_limits
  const { answerMs } = options
  let stopping = false

  const onFailure: ExchangeDeps['onFailure'] = ({ upstream, requestId, error, answered }) =>
    log.warn({ upstream, request_id: requestId, err: error, answered }, 'a handler failed')
  const deps = Object.fromEntries(
    roles.map((role) => [
      role,
      {
        upstreams: upstreams[role],
        connections,
        sessions: travelTogether(role) ? sessions : undefined,
        answerMs,
        onFailure,
      },
    ]),
  ) as Record<Role, ExchangeDeps>

  /** Only who announced itself is known to be one process: behind a configured URL, many may stand. Media is large. */
  function travelTogether(role: Role): boolean {
    return config.edge.upstreams[role] === undefined && role !== 'media'
  }

  const observed = options.observe && observersByRole(options.observe)

  function factsOf(incoming: IncomingMessage): ClientFacts {
    const { headers } = incoming
    const { requestId, trusted } = requestIdOf(incoming)
    const forwardedFor = headers['x-forwarded-for']
    const direct = (incoming.socket as Partial<TLSSocket>).encrypted === true ? 'https' : 'http'
    const proto = trusted ? headers['x-forwarded-proto'] : undefined
    const host = trusted ? headers['x-forwarded-host'] : undefined
    return {
      address: clientAddress(incoming, typeof forwardedFor === 'string' ? forwardedFor : null),
      proto: proto === 'https' || proto === 'http' ? proto : direct,
      host: typeof host === 'string' ? host : headers.host,
      requestId,
      trusted,
    }
  }

  function answer(incoming: IncomingMessage, outgoing: ServerResponse): void {
    // A client may send the whole URL; handlers get its path, as every proxy would pass it on.
    const target = (incoming.url ?? '').replace(/^https?:\/\/[^/?#]*/i, '')
    if (!target.startsWith('/')) writeAnswer(outgoing, badTarget)
    else if (isProbe(target)) probe(target, outgoing)
    else {
      incoming.url = target
      route(incoming, outgoing, target)
    }
  }

  function route(incoming: IncomingMessage, outgoing: ServerResponse, target: string): void {
    const { method = 'GET', headers } = incoming
    const length = headers['content-length']
    const { authorization } = headers
    const contentLength = length === undefined ? undefined : Number(length)
    const decision = decide({ method, target, authorization, contentLength }, limits)
    if (decision.answer) {
      writeAnswer(outgoing, decision.answer)
      return
    }
    const { forward } = decision
    const facts = factsOf(incoming)
    const span = options.tracer?.startServerSpan(headers, facts.trusted)
    const observer = observed?.(forward.role, method)
    if (span || observer) watch(outgoing, span, observer, { method, role: forward.role, requestId: facts.requestId })
    const exchange = span ? { ...facts, traceparent: span.traceparent } : facts
    new Exchange(incoming, outgoing, forward, exchange, deps[forward.role]).start()
  }

  function probe(target: string, outgoing: ServerResponse): void {
    if (target !== '/ready') {
      writeAnswer(outgoing, { status: 200, headers: { 'Content-Type': 'text/plain' }, body: 'OK' })
      return
    }
    const reasons: string[] = needed.filter((role) => upstreams[role].all.length === 0)
    if (stopping) reasons.push('stopping')
    const body = JSON.stringify({ ready: reasons.length === 0, reasons })
    const headers = { 'Content-Type': 'application/json' }
    writeAnswer(outgoing, { status: reasons.length === 0 ? 200 : 503, headers, body })
  }

  const server = await listenAtEdge(config.edge.listeners ?? config.listeners, answer)
  return {
    addresses: server.addresses,
    setUpstreams(role, urls) {
      upstreams[role].set(urls)
      const present = new Set(roles.flatMap((each) => upstreams[each].all.map((upstream) => upstream.url)))
      connections.keepOnly(present)
      sessions.keepOnly(present)
    },
    async close() {
      stopping = true
      await server.close({ lastAnswersMs: options.lastAnswersMs ?? 0, drainMs })
      connections.close()
      sessions.close()
    },
  }
}

/** Tells of a request when its answer is out or its client gone. */
function watch(
  outgoing: ServerResponse,
  span: Span | undefined,
  observer: RouteObserver | undefined,
  request: { readonly method: string; readonly role: Role; readonly requestId: string },
): void {
  const startedAt = performance.now()
  observer?.begin()
  outgoing.once('close', () => {
    const status = outgoing.statusCode
    observer?.end(status, performance.now() - startedAt)
    if (!span) return
    span.name = `${request.method} ${request.role}`
    span.set('http.request.method', request.method)
    span.set('http.response.status_code', status)
    span.set('ganglion.request_id', request.requestId)
    span.end(status >= 500 ? 'error' : 'ok')
  })
}

/** In place of its route, which the edge does not need to know, a request is counted by its role. */
function observersByRole(
  observe: NonNullable<MountContext<unknown>['observe']>,
): (role: Role, method: string) => RouteObserver | undefined {
  const made = new Map<string, RouteObserver>()
  for (const role of roles) {
    for (const method of methods) made.set(`${method} ${role}`, observe({ method, path: role }))
  }
  return (role, method) => made.get(`${method === 'HEAD' ? 'GET' : method} ${role}`)
}

function isProbe(target: string): boolean {
  return target === '/health' || target === '/live' || target === '/ready'
}
