/** Sessions between the edge and handlers, where they differ from a connection a request. */
import { createServer, type Server } from 'node:http'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import { clientAddressBehind, trustedPeers } from '../../shared/http/request-info.ts'
import { kinds, windowBytes } from '../../shared/http/session/frames.ts'
import { asksForSession, type Sessions, serveSessions } from '../../shared/http/session/serve.ts'
import { type Answer, rawRequest, telling, testEdge, testHandler, until } from './support.ts'

const opened: { close(): Promise<void> }[] = []
afterEach(async () => {
  for (const each of opened.splice(0).reverse()) await each.close()
})
async function handler(answer: Answer) {
  const made = await testHandler(answer)
  opened.push(made)
  return made
}
async function edgeBefore(url: string): Promise<{ base: string; port: number }> {
  const edge = await testEdge({ sync: [url], client: [url] }, {}, {}, { together: true })
  opened.push(edge)
  const base = edge.addresses[0] ?? ''
  return { base, port: Number(new URL(base).port) }
}
const versions = '/_matrix/client/versions'
const hello = `GET /_ganglion/requests HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: ganglion-requests\r\n\r\n`

/** A handler whose sessions the test holds in its hands. */
async function served(
  answer: Answer,
  trusted = true,
): Promise<{ url: string; port: number; sessions: Sessions; server: Server }> {
  const server = createServer({ shouldUpgradeCallback: asksForSession }, answer)
  const sessions = serveSessions(server, () => trusted)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  opened.push({
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
        sessions.cut()
      }),
  })
  const { port } = server.address() as AddressInfo
  return { url: `http://127.0.0.1:${port}`, port, sessions, server }
}

test('many requests share one connection', async () => {
  const one = await handler(telling('client'))
  const { base } = await edgeBefore(one.url)
  const answers = await Promise.all(Array.from({ length: 200 }, () => fetch(`${base}${versions}`)))
  expect(answers.every(({ status }) => status === 200)).toBe(true)
  expect(one.connections()).toBe(1)
})

test('who does not trust the edge is asked with a connection a request', async () => {
  const distant = await served(telling('client'), false)
  const { base } = await edgeBefore(distant.url)
  for (let i = 0; i < 3; i++) expect((await fetch(`${base}${versions}`)).status).toBe(200)
})

test('a handler that leaves answers what it has, and gets nothing further', async () => {
  const held: (() => void)[] = []
  const leaving = await served((_, outgoing) => {
    const answer = () => outgoing.end('{}')
    if (held.length < 2) held.push(answer)
    else answer()
  })
  const { base } = await edgeBefore(leaving.url)
  const early = [fetch(`${base}${versions}`), fetch(`${base}${versions}`)]
  await until(() => held.length === 2, 'both are there')
  leaving.sessions.leave()
  let closed = false
  leaving.server.close(() => {
    closed = true
  })
  await until(async () => (await fetch(`${base}${versions}`)).status === 503, 'nobody is asked any more')
  for (const answer of held) answer()
  expect((await Promise.all(early)).map(({ status }) => status)).toEqual([200, 200])
  await until(() => closed, 'the session has ended')
})

test('what is no session is cut, and the others go on', async () => {
  const one = await served(telling('client'))
  const { base } = await edgeBefore(one.url)
  expect((await fetch(`${base}${versions}`)).status).toBe(200)
  const frame = (kind: number, content: string) => {
    const bytes = Buffer.alloc(9 + content.length)
    bytes.writeUInt32BE(5 + content.length, 0)
    bytes.writeUInt32BE(1, 4)
    bytes.writeUInt8(kind, 8)
    bytes.write(content, 9, 'latin1')
    return bytes
  }
  const message = (head: string) => {
    const length = Buffer.alloc(4)
    length.writeUInt32BE(head.length)
    return length.toString('latin1') + head
  }
  const rubbish = [
    Buffer.from('GET / HTTP/1.1\r\n\r\n'),
    Buffer.from([0xff, 0xff, 0xff, 0xff]),
    frame(kinds.request, 'xx'),
    frame(kinds.request, message('GET')),
    frame(kinds.request, message('get\n/x')),
    frame(kinds.request, message('GET\n/x\nHost')),
    Buffer.concat([frame(kinds.request, message('GET\n/x')), frame(kinds.request, message('GET\n/x'))]),
  ]
  for (const bytes of rubbish) {
    const socket: Socket = connect(one.port, '127.0.0.1')
    const ended = new Promise<void>((resolve) => socket.once('close', () => resolve()))
    socket.on('error', () => socket.destroy())
    socket.resume()
    socket.write(Buffer.concat([Buffer.from(hello), bytes]))
    await ended
    expect((await fetch(`${base}${versions}`)).status).toBe(200)
  }
})

test('another protocol that a client asks for is not spoken', async () => {
  const one = await served(telling('client'))
  const { status } = await rawRequest(
    one.port,
    `GET ${versions} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\nUpgrade: h2c\r\n\r\n`,
  )
  expect(status).toBe(200)
})

test('a client that reads slowly holds back its own answer alone', async () => {
  const piece = 'x'.repeat(64 * 1024)
  const large = 200
  let written = 0
  const one = await handler((incoming, outgoing) => {
    if (!incoming.url?.includes('large')) {
      outgoing.end('{}')
      return
    }
    outgoing.writeHead(200)
    const write = () => {
      while (written < large) {
        written++
        if (!outgoing.write(piece)) {
          outgoing.once('drain', write)
          return
        }
      }
      outgoing.end()
    }
    write()
  })
  const { base, port } = await edgeBefore(one.url)
  const socket = connect(port, '127.0.0.1')
  socket.pause()
  socket.write(`GET ${versions}?large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`)
  let still = 0
  let last = -1
  await until(async () => {
    // Others are answered meanwhile, on the same session.
    expect((await fetch(`${base}${versions}`)).status).toBe(200)
    still = written > 0 && written === last ? still + 1 : 0
    last = written
    return still > 30
  }, 'the handler stands still')
  // The window, and what lies in the buffers of the client's connection.
  expect(written * piece.length).toBeLessThan(windowBytes + 8 * 1024 * 1024)
  let bytes = 0
  const ended = new Promise<void>((resolve) => socket.once('close', () => resolve()))
  socket.on('data', (chunk) => {
    bytes += chunk.length
  })
  socket.resume()
  await ended
  expect(bytes).toBeGreaterThan(large * piece.length)
})

test('the address of a client is the one that the edge names', async () => {
  const address = clientAddressBehind(['127.0.0.1'])
  const isTrusted = trustedPeers(['127.0.0.1'])
  const one = await served((incoming, outgoing) => {
    expect(isTrusted(incoming)).toBe(true)
    const forwardedFor = incoming.headers['x-forwarded-for']
    outgoing.end(address(incoming, typeof forwardedFor === 'string' ? forwardedFor : null))
  })
  const { base } = await edgeBefore(one.url)
  const answer = await fetch(`${base}${versions}`, { headers: { 'X-Forwarded-For': '6.6.6.6' } })
  expect(await answer.text()).toBe('127.0.0.1')
})
