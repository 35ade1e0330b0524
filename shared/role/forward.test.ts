import { randomBytes } from 'node:crypto'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { Readable } from 'node:stream'
import { Hono } from 'hono'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { configFrom } from '../config/load.ts'
import { bindListeners, type Listeners } from '../http/listeners.ts'
import { type MountContext, mount, serveElsewhere } from '../http/mount.ts'
import { silentLogger } from '../logging.ts'
import { createForwarder } from './forward.ts'

/** A handler of the client role, before which another one of the sync role stands. */
let own: Listeners
let other: Server
let answer: (request: IncomingMessage, response: ServerResponse) => void
let urls: string[] = []
let lookUp: () => Promise<readonly string[]> = async () => urls
const asked: string[] = []
const forward = createForwarder({
  role: 'client',
  handlers: {
    of: (role) => {
      asked.push(role)
      return lookUp()
    },
  },
  log: silentLogger,
})

beforeAll(async () => {
  other = createServer((request, response) => answer(request, response))
  await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve))
  const config = configFrom({ server_name: 'test.local', listeners: [{ port: 0 }] })
  own = await bindListeners(config)
  const app = new Hono()
  mount(app, [], { log: silentLogger } as unknown as MountContext<unknown>)
  serveElsewhere(app, forward)
  own.open((request, env) => app.fetch(request, env))
})
afterAll(async () => {
  forward.close()
  await own.close(100)
  other.closeAllConnections()
  await new Promise((resolve) => other.close(resolve))
})
afterEach(() => {
  asked.length = 0
  lookUp = async () => urls
})

function otherUrl(): string {
  return `http://127.0.0.1:${(other.address() as AddressInfo).port}`
}
const sync = '/_matrix/client/v3/sync'
const ask = (path: string, init: RequestInit = {}) => fetch(`${own.addresses[0]}${path}`, init)

test('a path of another role is answered by a handler of that role', async () => {
  urls = [otherUrl()]
  const seen: IncomingMessage[] = []
  answer = (request, response) => {
    seen.push(request)
    response.writeHead(418, { 'X-Kept': 'yes', 'Content-Type': 'application/json' }).end('{"a":1}')
  }
  const response = await ask(`${sync}?since=a%2Fb&filter=%7B%7D`, {
    headers: { Authorization: 'Bearer x', 'X-Forwarded-For': '192.0.2.1' },
  })
  expect([response.status, response.headers.get('x-kept'), await response.text()]).toEqual([418, 'yes', '{"a":1}'])
  expect(asked).toEqual(['sync'])
  const [request] = seen
  expect(request?.url).toBe(`${sync}?since=a%2Fb&filter=%7B%7D`)
  expect(request?.headers).toMatchObject({
    authorization: 'Bearer x',
    'x-ganglion-forwarded': '1',
    'x-forwarded-for': '192.0.2.1, 127.0.0.1',
  })
})

test('what was forwarded is not forwarded again', async () => {
  const response = await ask(sync, { headers: { 'X-Ganglion-Forwarded': '1' } })
  expect([response.status, await response.json()]).toMatchObject([404, { errcode: 'M_UNRECOGNIZED' }])
  expect(asked).toEqual([])
})

test('what is nobody’s, or this role’s own and not served, goes nowhere', async () => {
  for (const path of ['/_matrix/unknown', '/_matrix/client/v3/joined_rooms']) {
    expect((await ask(path)).status).toBe(404)
  }
  expect(asked).toEqual([])
})

test('bodies stream both ways, whatever their size', async () => {
  urls = [otherUrl()]
  answer = (request, response) => {
    response.writeHead(200, { 'Content-Type': 'application/octet-stream' })
    request.pipe(response)
  }
  const pieces = Array.from({ length: 64 }, () => randomBytes(64 * 1024))
  const response = await ask('/_matrix/media/v3/upload', {
    method: 'POST',
    body: Readable.toWeb(Readable.from(pieces)) as ReadableStream<Uint8Array>,
    duplex: 'half',
  } as RequestInit)
  expect(Buffer.from(await response.arrayBuffer()).equals(Buffer.concat(pieces))).toBe(true)
  expect(asked).toEqual(['media'])
})

test('the head of an answer comes before its body, and a client that leaves takes the request along', async () => {
  urls = [otherUrl()]
  const left = Promise.withResolvers<void>()
  answer = (_, response) => {
    response.writeHead(200)
    response.flushHeaders()
    response.once('close', () => left.resolve())
  }
  const leave = new AbortController()
  const response = await ask(sync, { signal: leave.signal })
  expect(response.status).toBe(200)
  leave.abort()
  await left.promise
})

test('a handler that is gone is passed over for another one', async () => {
  const gone = await closedPort()
  answer = (_, response) => response.end('here')
  // In any order: the dead one comes first every other time.
  urls = [gone, otherUrl()]
  for (let i = 0; i < 12; i++) {
    const response = await ask('/_matrix/media/v3/upload', { method: 'POST', body: 'x'.repeat(100_000) })
    expect([response.status, await response.text()]).toEqual([200, 'here'])
  }
})

test('where nobody can answer, that is said, with the time to wait', async () => {
  const unavailable = [503, '1', 'M_UNAVAILABLE']
  const outcome = async () => {
    const response = await ask(sync)
    return [
      response.status,
      response.headers.get('retry-after'),
      ((await response.json()) as { errcode: string }).errcode,
    ]
  }
  urls = []
  expect(await outcome()).toEqual(unavailable)
  urls = [await closedPort()]
  expect(await outcome()).toEqual(unavailable)
  lookUp = () => Promise.reject(new Error('Redis is away'))
  expect(await outcome()).toEqual(unavailable)
})

test('an answer that breaks off breaks off here too', async () => {
  urls = [otherUrl()]
  answer = (_, response) => {
    response.writeHead(200, { 'Content-Length': '1000' })
    response.write('half', () => response.destroy())
  }
  const response = await ask(sync)
  await expect(response.text()).rejects.toThrow()
})

test('headers of the connection stay behind', async () => {
  urls = [otherUrl()]
  const seen: IncomingMessage[] = []
  answer = (request, response) => {
    seen.push(request)
    response.writeHead(200, { Connection: 'close, X-Hop', 'X-Hop': '1', 'X-End': '1' }).end('ok')
  }
  const { port } = new URL(own.addresses[0] ?? '')
  const text = await new Promise<string>((resolve, reject) => {
    const socket = connect(Number(port), '127.0.0.1', () =>
      socket.write(`GET ${sync} HTTP/1.1\r\nHost: a\r\nConnection: close, x-mine\r\nX-Mine: 1\r\nX-Stays: 1\r\n\r\n`),
    )
    let read = ''
    socket.on('data', (data) => {
      read += String(data)
    })
    socket.on('error', reject).on('close', () => resolve(read))
  })
  expect(text).toMatch(/x-end: 1/i)
  expect(text).not.toMatch(/x-hop/i)
  expect(seen[0]?.headers).toMatchObject({ host: 'a', 'x-stays': '1' })
  expect(seen[0]?.headers['x-mine']).toBeUndefined()
})

/** A URL where nobody listens. */
async function closedPort(): Promise<string> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return `http://127.0.0.1:${port}`
}
