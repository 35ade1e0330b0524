/** A web of servers that answer as none should, on loopback addresses that stand for the outside and the inside. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createServer as createSecureServer } from 'node:https'
import { createServer as createTcpServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Resolver } from '../../shared/egress/resolver.ts'

/** The only address that the tests allow. */
export const outside = '127.0.0.1'
/** Any other loopback address is as private as it is by default. */
export const inside = '127.0.0.2'

export type Page = (request: IncomingMessage, response: ServerResponse) => void

export interface HostileWeb {
  readonly port: number
  readonly origin: string
  /** Of the same pages over TLS, by a certificate for `outside` and `secure.test` that is in `caPath`. */
  readonly securePort: number
  readonly caPath: string
  /** Paths that were asked for, in order. */
  readonly asked: string[]
  /** What reached the server on the inside. */
  readonly reachedInside: string[]
  /** Serves this at a path. */
  page(path: string, page: Page): void
  /** Resolves when the path is asked for next. */
  next(path: string): Promise<IncomingMessage>
  /** A port of raw bytes: called for each connection. */
  raw(talk: (socket: Socket) => void): Promise<number>
  close(): Promise<void>
}

export async function hostileWeb(): Promise<HostileWeb> {
  const folder = mkdtempSync(join(tmpdir(), 'ganglion-hostile-'))
  const [keyPath, caPath] = [join(folder, 'key.pem'), join(folder, 'cert.pem')]
  execFileSync(
    'openssl',
    [
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'],
      ...['-keyout', keyPath, '-out', caPath, '-subj', '/CN=secure.test'],
      ...['-addext', `subjectAltName=DNS:secure.test,IP:${outside}`],
    ],
    { stdio: 'ignore' },
  )
  const pages = new Map<string, Page>()
  const waiting = new Map<string, (request: IncomingMessage) => void>()
  const asked: string[] = []
  const reachedInside: string[] = []
  const sockets = new Set<Socket>()
  const servers: Server[] = []

  const serve: Page = (request, response) => {
    const path = (request.url ?? '').split('?')[0] ?? ''
    asked.push(path)
    response.on('error', () => {})
    const page = pages.get(path)
    if (page) page(request, response)
    else response.writeHead(404).end()
    waiting.get(path)?.(request)
    waiting.delete(path)
  }
  const listen = async (server: Server, host: string, port = 0): Promise<number> => {
    server.on('connection', (socket: Socket) => {
      sockets.add(socket.on('error', () => {}).on('close', () => sockets.delete(socket)))
    })
    servers.push(server)
    await new Promise<void>((resolve, reject) => server.on('error', reject).listen(port, host, resolve))
    const address = server.address()
    if (address === null || typeof address === 'string') throw new Error('not listening')
    return address.port
  }

  const port = await listen(createServer(serve), outside)
  const securePort = await listen(
    createSecureServer({ key: readFileSync(keyPath), cert: readFileSync(caPath) }, serve),
    outside,
  )
  const internal: Page = (request, response) => {
    reachedInside.push(request.url ?? '')
    response.end('a secret of the inside')
  }
  await listen(createServer(internal), inside, port)
  await listen(createServer(internal), '::1', port)

  return {
    port,
    origin: `http://${outside}:${port}`,
    securePort,
    caPath,
    asked,
    reachedInside,
    page: (path, page) => pages.set(path, page),
    next: (path) => new Promise((resolve) => waiting.set(path, resolve)),
    raw: (talk) => listen(createTcpServer(talk), outside),
    async close() {
      for (const socket of sockets) socket.destroy()
      await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))))
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

/** A name server of the test's own: each name gives its answers in turn, the last one for ever. */
export function fakeNames(names: Readonly<Record<string, readonly (readonly string[])[]>>): Resolver & {
  readonly asked: string[]
} {
  const asked: string[] = []
  const resolve: Resolver = async ({ hostname }) => {
    const before = asked.filter((name) => name === hostname).length
    asked.push(hostname)
    const answers = names[hostname] ?? []
    return { addresses: answers[Math.min(before, answers.length - 1)] ?? [] }
  }
  return Object.assign(resolve, { asked })
}

/** Writes this again and again as fast as it is taken. */
export function endlessly(socket: ServerResponse | Socket, bytes: Buffer | string): void {
  // In large pieces: many small ones keep the writer busier than the reader.
  const piece = Buffer.from(bytes)
  const pieces = Buffer.concat(Array.from({ length: Math.ceil(16_384 / piece.length) }, () => piece))
  let gone = false
  socket.on('close', () => {
    gone = true
  })
  const pump = () => {
    while (!gone && !socket.destroyed && socket.write(pieces)) {
      // Until the other side takes no more.
    }
    if (!gone && !socket.destroyed) socket.once('drain', pump)
  }
  pump()
}
