/** Kept connections from Node's edge to handlers, one pool each. */
import { type Agent, type ClientRequest, Agent as HttpAgent, request as httpRequest } from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'

export interface HandlerConnections {
  /** `target` goes into the request line byte for byte; `headers` are name, value, name, value. */
  request(url: string, method: string, target: string, headers: string[]): ClientRequest
  /** Calls once the request has a connection, not when it fails before. */
  whenConnected(request: ClientRequest, then: () => void): void
  /** Whether the handler can have seen any of it. */
  reached(request: ClientRequest): boolean
  /** Drops the connections to handlers that are no more. */
  keepOnly(urls: ReadonlySet<string>): void
  close(): void
}

const connectMs = 3_000
/** Handlers close what is idle after 75 s; it must not be they who close one that is about to be used. */
const idleMs = 60_000
const idleMax = 512
/** Longer than a handler takes to end in good order. */
const lastAnswersMs = 15_000

interface Pool {
  readonly hostname: string
  readonly port: string
  readonly send: typeof httpRequest
  readonly agent: Agent
}

export function handlerConnections(options: { readonly lastAnswersMs?: number | undefined } = {}): HandlerConnections {
  const pools = new Map<string, Pool>()
  const connected = new WeakSet<ClientRequest>()

  function poolOf(url: string): Pool {
    const known = pools.get(url)
    if (known) return known
    const { protocol, hostname, port } = new URL(url)
    const options = { keepAlive: true, maxFreeSockets: idleMax, scheduling: 'lifo', timeout: idleMs } as const
    const pool =
      protocol === 'https:'
        ? { hostname: bare(hostname), port: port || '443', send: httpsRequest, agent: new HttpsAgent(options) }
        : { hostname: bare(hostname), port: port || '80', send: httpRequest, agent: new HttpAgent(options) }
    pools.set(url, pool)
    return pool
  }

  return {
    request(url, method, target, headers) {
      const { hostname, port, send, agent } = poolOf(url)
      const request = send({ agent, hostname, port, method, path: target, headers, setHost: false })
      // The pool's time-out is for idle connections; a long poll is none.
      request.setTimeout(0)
      request.setNoDelay(true)
      request.once('socket', (socket) => {
        if (!socket.connecting) {
          connected.add(request)
          return
        }
        const late = setTimeout(() => request.destroy(new Error('no connection in time')), connectMs)
        request.once('close', () => clearTimeout(late))
        socket.once('connect', () => {
          clearTimeout(late)
          connected.add(request)
        })
      })
      return request
    },
    whenConnected(request, then) {
      request.once('socket', (socket) => {
        if (socket.connecting) socket.once('connect', then)
        else then()
      })
    },
    reached: (request) => connected.has(request),
    keepOnly(urls) {
      for (const [url, { agent }] of pools) {
        if (urls.has(url)) continue
        pools.delete(url)
        closeIdle(agent)
        // Who signed off has answered by then. Who was struck off, since it hangs, never will: its requests fail, and
        // those that may be repeated go elsewhere.
        setTimeout(() => agent.destroy(), options.lastAnswersMs ?? lastAnswersMs).unref()
      }
    },
    close() {
      for (const { agent } of pools.values()) agent.destroy()
      pools.clear()
    },
  }
}

/** What is under way goes on. */
function closeIdle(agent: Agent): void {
  for (const sockets of Object.values(agent.freeSockets)) for (const socket of sockets ?? []) socket.destroy()
}

function bare(hostname: string): string {
  return hostname.startsWith('[') ? hostname.slice(1, -1) : hostname
}
