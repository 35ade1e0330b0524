/** The TCP and TLS listeners of one app. They are bound before anything else starts, so that a second server on the same
 *  ports fails before it touches the first one's data; what arrives early waits for `open`. */
import { readFileSync } from 'node:fs'
import { createServer as createHttpServer, type Server, type ServerResponse } from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { createAdaptorServer, type HttpBindings } from '@hono/node-server'
import type { Config } from '../config/schema.ts'
import { advertisedUrl } from './advertised-url.ts'
import { trustedPeers } from './request-info.ts'
import { asksForSession, type Sessions, serveSessions } from './session/serve.ts'

export type Fetch = (request: Request, env: HttpBindings) => Response | Promise<Response>

export interface Listeners {
  /** Such as `http://127.0.0.1:8008`, in the configuration's order. */
  readonly addresses: readonly string[]
  /** Where other machines reach the first listener. */
  readonly url: string
  /** From now on requests are answered by `fetch`. */
  open(fetch: Fetch): void
  /** From now on each answer is the last of its connection, so that proxies look for other servers. */
  lastAnswers(): void
  /** Takes no new connections, and ends when the open requests are answered; what is left after `drainMs` is cut. */
  close(drainMs: number): Promise<void>
}

/** Longer than proxies keep idle connections to us, so that it is never us who closes one that is about to be used. */
const keepAliveTimeoutMs = 75_000
const headersTimeoutMs = 30_000
/** For a whole request with its body: an upload over a slow line. Bodies that are read whole have a limit of their own. */
const requestTimeoutMs = 1_800_000
/** Longer than a long poll: a connection on which nothing moves, such as one whose client does not read its answer. */
const stillTimeoutMs = 180_000
/** After a restart, all clients come back at once; the kernel may allow less. */
const backlog = 4_096

/** Rejects with a sentence for the operator when a port is taken or a file cannot be read. */
export async function bindListeners(config: Config): Promise<Listeners> {
  const opened = Promise.withResolvers<Fetch>()
  let fetch: Fetch | undefined
  opened.promise.catch(() => undefined)
  const answer: Fetch = (request, env) => (fetch ? fetch(request, env) : opened.promise.then((f) => f(request, env)))
  const servers: Server[] = []
  const sessions: Sessions[] = []
  const addresses: string[] = []
  const isTrusted = trustedPeers(config.trusted_proxies)
  try {
    for (const listener of config.listeners) {
      const server = serverFor(listener, answer)
      servers.push(server)
      sessions.push(serveSessions(server, isTrusted))
      addresses.push(await listen(server, listener))
    }
  } catch (error) {
    for (const server of servers) server.close()
    throw error
  }
  return {
    addresses,
    url: urlOf(config, servers),
    open(given) {
      fetch = given
      opened.resolve(given)
    },
    lastAnswers() {
      for (const server of servers) {
        server.prependListener('request', (_, response: ServerResponse) => {
          response.shouldKeepAlive = false
        })
      }
      for (const each of sessions) each.leave()
    },
    async close(drainMs) {
      opened.reject(new Error('the server closed before it was ready'))
      const closed = servers.map((server) => new Promise<void>((resolve) => server.close(() => resolve())))
      // Connections end after the answer under way.
      for (const server of servers) server.closeIdleConnections()
      for (const each of sessions) each.leave()
      const idle = setInterval(() => {
        for (const server of servers) server.closeIdleConnections()
      }, 50)
      const cut = setTimeout(() => {
        for (const server of servers) server.closeAllConnections()
        for (const each of sessions) each.cut()
      }, drainMs)
      await Promise.all(closed)
      clearInterval(idle)
      clearTimeout(cut)
    },
  }
}

/** The first listener speaks for all. */
function urlOf(config: Config, [server]: readonly Server[]): string {
  const [listener] = config.listeners
  if (!listener || !server) throw new Error('listeners: there is none')
  const tls = listener.tls_certificate_path !== undefined
  return advertisedUrl({ bind: listener.bind, port: (server.address() as AddressInfo).port, tls })
}

type Listener = Config['listeners'][number]

function serverFor(listener: Listener, fetch: Fetch): Server {
  const { tls_certificate_path: certificate, tls_private_key_path: key } = listener
  const limits = {
    keepAliveTimeout: keepAliveTimeoutMs,
    headersTimeout: headersTimeoutMs,
    requestTimeout: requestTimeoutMs,
    shouldUpgradeCallback: asksForSession,
  }
  // In place of the Host header, which HTTP/1.0 does not need: probes of load balancers come so.
  const hostname = 'localhost'
  const adapted =
    certificate !== undefined && key !== undefined
      ? createAdaptorServer({
          fetch: fetch as (request: Request, env: unknown) => Response | Promise<Response>,
          hostname,
          createServer: createHttpsServer,
          serverOptions: { ...limits, cert: readFileSync(certificate), key: readFileSync(key) },
        })
      : createAdaptorServer({
          fetch: fetch as (request: Request, env: unknown) => Response | Promise<Response>,
          hostname,
          createServer: createHttpServer,
          serverOptions: limits,
        })
  const server = adapted as Server
  server.timeout = stillTimeoutMs
  return server
}

function listen(server: Server, listener: Listener): Promise<string> {
  const scheme = listener.tls_certificate_path === undefined ? 'http' : 'https'
  const host = listener.bind.includes(':') ? `[${listener.bind}]` : listener.bind
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const taken = error.code === 'EADDRINUSE'
      reject(
        new Error(
          taken
            ? `${host}:${listener.port} is taken by another program; set another port in \`listeners\``
            : `cannot listen on ${host}:${listener.port}: ${error.message}`,
          { cause: error },
        ),
      )
    })
    server.listen(listener.port, listener.bind, backlog, () => {
      resolve(`${scheme}://${host}:${(server.address() as AddressInfo).port}`)
    })
  })
}
