/** Handlers that are none, for tests of proxies: they say what reached them, byte for byte. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { createEdge, type Edge } from '../../functions/edge/edge.ts'
import { configFrom } from '../../shared/config/load.ts'
import type { Role } from '../../shared/http/route.ts'
import { roles } from '../../shared/http/route-table.ts'
import { asksForSession, serveSessions } from '../../shared/http/session/serve.ts'
import { createLogger } from '../../shared/logging.ts'

export interface Seen {
  readonly role: string
  readonly method: string
  readonly target: string
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly bodyBytes: number
}

export interface TestHandler {
  readonly url: string
  readonly port: number
  /** Connections that are open. */
  connections(): number
  close(): Promise<void>
}

export type Answer = (incoming: IncomingMessage, outgoing: ServerResponse) => void

/** Answers with what it saw, as JSON, once the body is in. */
export function telling(role: string): Answer {
  return (incoming, outgoing) => {
    let bodyBytes = 0
    incoming.on('data', (chunk: Buffer) => {
      bodyBytes += chunk.length
    })
    incoming.on('end', () => {
      const { method = '', url: target = '', headers } = incoming
      const seen: Seen = { role, method, target, headers, bodyBytes }
      outgoing.writeHead(200, { 'Content-Type': 'application/json' })
      outgoing.end(JSON.stringify(seen))
    })
  }
}

export async function testHandler(answer: Answer, port = 0): Promise<TestHandler> {
  const options = { keepAliveTimeout: 60_000, requestTimeout: 0, shouldUpgradeCallback: asksForSession }
  const server: Server = createServer(options, answer)
  const sessions = serveSessions(server, () => true)
  let open = 0
  server.on('connection', (socket) => {
    open++
    socket.on('close', () => open--)
  })
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', 4096, resolve))
  const bound = (server.address() as AddressInfo).port
  return {
    url: `http://127.0.0.1:${bound}`,
    port: bound,
    connections: () => open,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
        sessions.cut()
      }),
  }
}

/** How requests reach handlers: each on a connection of its own, as where they are configured, or together in one session,
 *  as where they announced themselves. */
export const ways = [
  ['a connection each', false],
  ['one session', true],
] as const

/** An edge on a free port before these handlers. */
export async function testEdge(
  upstreams: Partial<Record<Role, readonly string[]>>,
  settings: Readonly<Record<string, unknown>> = {},
  edgeSettings: Readonly<Record<string, unknown>> = {},
  { together = false, ...options }: Parameters<typeof createEdge>[2] & { readonly together?: boolean } = {},
): Promise<Edge> {
  const all = together ? {} : Object.fromEntries(roles.map((role) => [role, upstreams[role] ?? []]))
  const config = configFrom({
    server_name: 'test.local',
    edge: { listeners: [{ port: 0 }], upstreams: all, ...edgeSettings },
    ...settings,
  })
  const edge = await createEdge(config, createLogger({ level: 'error', format: 'json' }), options)
  if (together) for (const role of roles) edge.setUpstreams(role, upstreams[role] ?? [])
  return edge
}

export interface RawAnswer {
  readonly status: number
  readonly head: string
  readonly body: string
}

/** Sends this text as it is on a connection of its own, and reads one answer: as long as its length says, or until the other
 *  side closes, as `Connection: close` asks. */
export function rawRequest(port: number, text: string | Buffer): Promise<RawAnswer> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1', () => socket.write(text))
    let all = ''
    const answer = () => {
      const end = all.indexOf('\r\n\r\n')
      return { status: Number(all.slice(9, 12)), head: all.slice(0, end), body: all.slice(end + 4) }
    }
    socket.on('data', (chunk) => {
      all += chunk.toString('latin1')
      const length = /\r\ncontent-length: *(\d+)\r\n/i.exec(all)?.[1]
      if (length !== undefined && all.includes('\r\n\r\n') && answer().body.length >= Number(length)) {
        socket.destroy()
      }
    })
    socket.on('error', reject)
    socket.on('close', () => resolve(answer()))
  })
}

/** Polls until it holds; rejects after half a minute: the machine may be busy with other tests. */
export async function until(holds: () => boolean | Promise<boolean>, what: string): Promise<void> {
  const deadline = Date.now() + 30_000
  while (!(await holds())) {
    if (Date.now() > deadline) throw new Error(`${what}: not within half a minute`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}
