/** Stands where the edge stands and is as unkind as it may be: every request goes to any handler of its role, or to a
 *  handler of any role. Answers must be the same. */
import { Agent, createServer, type IncomingMessage, request, type Server, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { pipeline } from 'node:stream'
import type { Role } from '../../shared/http/route.ts'
import { roleOf, roles } from '../../shared/http/route-table.ts'

export interface RandomProxyOptions {
  /** Base URLs of the handlers that run now, by role. */
  readonly upstreams: (role: Role) => readonly string[]
  /** `handler`: any handler of the right role; `role`: any handler of any role, which has to forward. */
  readonly among: 'handler' | 'role'
  /** In [0, 1). */
  readonly random: () => number
}

/** The handler of one request; `served` hears which URL it went to. */
export function randomProxy(options: RandomProxyOptions, served?: (url: string) => void) {
  const agent = new Agent({ keepAlive: true, maxSockets: Number.POSITIVE_INFINITY })
  const { upstreams, among, random } = options
  const pick = <T>(list: readonly T[]): T | undefined => list[Math.floor(random() * list.length)]

  function choose(incoming: IncomingMessage): string | undefined {
    const right = roleOf(incoming.method ?? 'GET', incoming.url ?? '/')?.role ?? 'client'
    const role = among === 'role' ? (pick(roles.filter((name) => upstreams(name).length > 0)) ?? right) : right
    return pick(upstreams(role))
  }

  return (incoming: IncomingMessage, outgoing: ServerResponse): void => {
    const base = choose(incoming)
    if (base === undefined) {
      outgoing.writeHead(503, { 'Content-Type': 'application/json' }).end('{"errcode":"M_UNAVAILABLE"}')
      return
    }
    served?.(base)
    const { hostname, port } = new URL(base)
    const { method, url: path, headers } = incoming
    const upstream = request({ agent, hostname, port, method, path, headers, setHost: false }, (answer) => {
      outgoing.writeHead(answer.statusCode ?? 502, answer.rawHeaders)
      pipeline(answer, outgoing, () => undefined)
    })
    upstream.on('error', (error) => {
      if (outgoing.headersSent) outgoing.destroy()
      else {
        const body = JSON.stringify({ errcode: 'M_UNKNOWN', error: `no answer from ${base}: ${error.message}` })
        outgoing.writeHead(502, { 'Content-Type': 'application/json' }).end(body)
      }
    })
    outgoing.on('close', () => upstream.destroy())
    incoming.pipe(upstream)
  }
}

export function listenRandomly(options: RandomProxyOptions & { readonly tls?: { cert: string; key: string } }): Server {
  const handle = randomProxy(options)
  const server = options.tls ? (createTlsServer(options.tls, handle) as unknown as Server) : createServer(handle)
  server.keepAliveTimeout = 75_000
  return server
}
