/** Node's listeners of the edge. They do no more than node:http itself: each layer would be paid for by every request. */
import { readFileSync } from 'node:fs'
import { createServer as createHttpServer, type RequestListener, type Server, type ServerResponse } from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Config } from '../../shared/config/schema.ts'

export type EdgeListener = Config['listeners'][number]

export interface EdgeServer {
  /** Such as `http://127.0.0.1:8008`, in the configuration's order. */
  readonly addresses: readonly string[]
  /** Each answer is now the last of its connection; then takes no new connections, and ends when the open requests are
   *  answered. What is left after `drainMs` is cut. */
  close(times: { readonly lastAnswersMs: number; readonly drainMs: number }): Promise<void>
}

/** Longer than proxies keep idle connections to us, so that it is never us who closes one that is about to be used. */
const keepAliveTimeoutMs = 75_000
const headersTimeoutMs = 30_000
/** For a whole request with its body: an upload over a slow line. */
const requestTimeoutMs = 1_800_000
/** A connection on which nothing moves, such as one whose client does not read; longer than any long poll. */
const stillTimeoutMs = 300_000
/** After a restart, all clients come back at once; the kernel may allow less. */
const backlog = 4_096
/** A path may hold an event id, a state key and a room id, each percent-encoded, and a query a filter. */
const headerBytesMax = 32 * 1024

/** Rejects with a sentence for the operator when a port is taken or a file cannot be read. */
export async function listenAtEdge(listeners: readonly EdgeListener[], answer: RequestListener): Promise<EdgeServer> {
  const servers: Server[] = []
  const addresses: string[] = []
  try {
    for (const listener of listeners) {
      const server = serverFor(listener, answer)
      servers.push(server)
      addresses.push(await listen(server, listener))
    }
  } catch (error) {
    for (const server of servers) server.close()
    throw error
  }
  return {
    addresses,
    async close({ lastAnswersMs, drainMs }) {
      for (const server of servers) {
        server.prependListener('request', (_, response: ServerResponse) => {
          response.shouldKeepAlive = false
        })
      }
      await untilUnused(servers, lastAnswersMs)
      const closed = servers.map((server) => new Promise<void>((resolve) => server.close(() => resolve())))
      const idle = setInterval(() => {
        for (const server of servers) server.closeIdleConnections()
      }, 50)
      const cut = setTimeout(() => {
        for (const server of servers) server.closeAllConnections()
      }, drainMs)
      for (const server of servers) server.closeIdleConnections()
      await Promise.all(closed)
      clearInterval(idle)
      clearTimeout(cut)
    },
  }
}

/** Ends early when nobody is connected: then nobody has to learn that others are asked from now on. */
async function untilUnused(servers: readonly Server[], ms: number): Promise<void> {
  const deadline = performance.now() + ms
  while (performance.now() < deadline) {
    const open = await Promise.all(
      servers.map(
        (server) => new Promise<number>((resolve) => server.getConnections((_, count) => resolve(count ?? 0))),
      ),
    )
    if (open.every((count) => count === 0)) return
    await sleep(50)
  }
}

function serverFor(listener: EdgeListener, answer: RequestListener): Server {
  const { tls_certificate_path: certificate, tls_private_key_path: key } = listener
  const options = {
    keepAliveTimeout: keepAliveTimeoutMs,
    headersTimeout: headersTimeoutMs,
    requestTimeout: requestTimeoutMs,
    maxHeaderSize: headerBytesMax,
    noDelay: true,
    // HTTP/1.0, which probes of load balancers speak, does not need it.
    requireHostHeader: false,
  }
  const server =
    certificate !== undefined && key !== undefined
      ? createHttpsServer({ ...options, cert: readFileSync(certificate), key: readFileSync(key) }, answer)
      : createHttpServer(options, answer)
  server.timeout = stillTimeoutMs
  return server
}

function listen(server: Server, listener: EdgeListener): Promise<string> {
  const scheme = listener.tls_certificate_path === undefined ? 'http' : 'https'
  const host = listener.bind.includes(':') ? `[${listener.bind}]` : listener.bind
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const reason =
        error.code === 'EADDRINUSE'
          ? `${host}:${listener.port} is taken by another program; set another port in \`edge.listeners\``
          : `cannot listen on ${host}:${listener.port}: ${error.message}`
      reject(new Error(reason, { cause: error }))
    })
    server.listen(listener.port, listener.bind, backlog, () => {
      resolve(`${scheme}://${host}:${(server.address() as AddressInfo).port}`)
    })
  })
}
