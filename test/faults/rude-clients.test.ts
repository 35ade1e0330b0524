/** Clients that are slow, leave early or speak HTTP badly, over real sockets. */
import { readFileSync } from 'node:fs'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { createAdaptorServer } from '@hono/node-server'
import { Hono } from 'hono'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { mount } from '../../shared/http/mount.ts'
import type { DeviceId, UserId } from '../../shared/matrix/ids.ts'
import { type TestDatabase, testDatabase } from '../support/database.ts'
import { HttpClient } from '../support/http-client.ts'
import { type ServerProcess, serverProcess } from '../support/server-process.ts'
import { syncFixture } from '../support/sync-fixture.ts'

const v3 = '/_matrix/client/v3'
const encode = encodeURIComponent

let database: TestDatabase
let server: ServerProcess
let http: HttpClient
let token: string
let room: string
let since: string
beforeAll(async () => {
  database = await testDatabase()
  server = await serverProcess({ databaseUrl: database.url })
  await server.start()
  http = new HttpClient('127.0.0.1', server.port)
  token = (await server.register('rude')).access_token
  const { room_id } = await http.json<{ room_id: string }>('POST', `${v3}/createRoom`, token, {})
  room = `${v3}/rooms/${encode(room_id)}`
  since = (await http.json<{ next_batch: string }>('GET', `${v3}/sync`, token)).next_batch
})
afterAll(async () => {
  http?.close()
  await server?.close()
  await database?.drop()
})

function rssMiB(): number {
  const [, kib] = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${server.pid}/status`, 'utf8')) ?? []
  return Number(kib) / 1024
}
function open(port = server.port): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket: Socket = connect(port, '127.0.0.1', () => resolve(socket))
    socket.on('error', reject)
  })
}
/** Sends the parts with pauses, and returns what comes back until the server closes or nothing comes for a while. */
async function raw(...parts: readonly string[]): Promise<string> {
  const socket = await open()
  let answer = ''
  let closed = false
  socket.on('error', () => undefined)
  socket.on('data', (bytes) => {
    answer += bytes.toString('latin1')
  })
  socket.on('close', () => {
    closed = true
  })
  for (const part of parts) {
    if (socket.writable) socket.write(part)
    await sleep(30)
  }
  let length = -1
  while (!closed && answer.length !== length) {
    length = answer.length
    await sleep(250)
  }
  socket.destroy()
  return answer
}
const statuses = (answer: string) => [...answer.matchAll(/^HTTP\/1\.1 (\d+)/gm)].map((match) => Number(match[1]))

describe('bad HTTP', () => {
  const head = (target: string, ...lines: string[]) =>
    `${[`${target} HTTP/1.1`, 'Host: x', ...lines].join('\r\n')}\r\n\r\n`
  const put = (id: string) => `PUT ${room}/send/m.room.message/${id}`
  const auth = () => `Authorization: Bearer ${token}`
  const body = '{"body":"x"}'

  test('pipelined garbage ends its connection after what was asked before it', async () => {
    const answer = await raw(`${head(`GET ${v3}/../versions`)}\0\xff garbage\r\n\r\n`)
    expect(statuses(answer).at(-1)).toBe(400)
    expect(statuses(await raw('\x16\x03\x01\x02\0\x01\0\x01\xfc'))).toEqual([400])
  })
  test('HTTP/1.0 is answered and closed', async () => {
    const answer = await raw('GET /_matrix/client/versions HTTP/1.0\r\n\r\n')
    expect(statuses(answer)).toEqual([200])
    expect(answer).toMatch(/connection: close/i)
  })
  test('Expect: 100-continue', async () => {
    const answer = await raw(
      head(put('expect'), auth(), 'Expect: 100-continue', `Content-Length: ${body.length}`),
      body,
    )
    expect(statuses(answer)).toEqual([100, 200])
  })
  test('a chunked body, in pieces', async () => {
    const answer = await raw(
      head(put('chunked'), auth(), 'Transfer-Encoding: chunked'),
      '5\r\n{"bod\r\n',
      '7\r\ny":"x"}\r\n',
      '0\r\n\r\n',
    )
    expect(statuses(answer)).toEqual([200])
  })
  test('a chunked body without end is refused when it is too large', async () => {
    const chunk = `10000\r\n${'x'.repeat(65_536)}\r\n`
    const answer = await raw(head(put('endless'), auth(), 'Transfer-Encoding: chunked'), ...Array(12).fill(chunk))
    expect(statuses(answer)).toEqual([413])
    expect(answer).toContain('M_TOO_LARGE')
  })
  test.each([
    ['two lengths', ['Content-Length: 12', 'Content-Length: 13']],
    ['two equal lengths', ['Content-Length: 12', 'Content-Length: 12']],
    ['a length and chunks', ['Content-Length: 12', 'Transfer-Encoding: chunked']],
    ['a length below zero', ['Content-Length: -1']],
    ['a folded header', ['X-Folded: a', ' b', 'Content-Length: 12']],
  ])('%s', async (_, lines) => {
    const answer = await raw(head(put('smuggle'), auth(), ...lines), body)
    expect(statuses(answer)).toEqual([400])
  })
  test('very many headers, and very long ones', async () => {
    const many = Array.from({ length: 3_000 }, (_, i) => `X-Many-${i}: y`)
    expect(statuses(await raw(head(`GET ${v3}/account/whoami`, ...many)))).toEqual([431])
    expect(statuses(await raw(head(`GET ${v3}/account/whoami`, `X-Long: ${'y'.repeat(100_000)}`)))).toEqual([431])
    const some = Array.from({ length: 150 }, (_, i) => `X-Some-${i}: y`)
    expect(statuses(await raw(head(`GET ${v3}/account/whoami`, ...some, auth())))).toEqual([200])
  })
  test('a body that breaks off leaves nothing behind', async () => {
    const socket = await open()
    socket.write(`${head(put('broken'), auth(), 'Content-Length: 500')}{"body":`)
    await sleep(50)
    socket.destroy()
    expect((await http.request('GET', '/ready')).status).toBe(200)
  })
})

test('an answer that nobody reads is not made: memory stays flat', async () => {
  const reader = (await server.register('reader')).access_token
  const text = 'x'.repeat(25_000)
  const makeRoom = async (number: number) => {
    const made = await http.json<{ room_id: string }>('POST', `${v3}/createRoom`, reader, {})
    for (let i = 0; i < 10; i++) {
      const target = `${v3}/rooms/${encode(made.room_id)}/send/m.room.message/${number}.${i}`
      await http.json('PUT', target, reader, { body: text })
    }
  }
  const numbers = Array.from({ length: 80 }, (_, i) => i)
  const lane = async () => {
    for (let next = numbers.pop(); next !== undefined; next = numbers.pop()) await makeRoom(next)
  }
  await Promise.all(Array.from({ length: 8 }, lane))
  // What one such answer leaves in caches and heap is there before.
  const answerBytes = (await http.request('GET', `${v3}/sync`, reader)).body.length
  for (let i = 0; i < 3; i++) await http.request('GET', `${v3}/sync`, reader)
  const before = rssMiB()
  const sockets: Socket[] = []
  for (let i = 0; i < 25; i++) {
    const socket = await open()
    socket.on('error', () => undefined)
    socket.pause()
    socket.write(`GET ${v3}/sync HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${reader}\r\n\r\n`)
    sockets.push(socket)
  }
  await sleep(4_000)
  const grown = rssMiB() - before
  for (const socket of sockets) socket.destroy()
  console.log(`${Math.round(grown)} MiB for 25 answers of ${Math.round(answerBytes / 2 ** 20)} MiB that nobody reads`)
  expect(answerBytes).toBeGreaterThan(15 * 2 ** 20)
  expect(grown).toBeLessThan(200)
  expect((await http.request('GET', '/ready')).status).toBe(200)
})

test('clients that leave in the middle of a long poll leave no waiter behind', async () => {
  const own = await testDatabase()
  const fixture = await syncFixture(own)
  const user_id = '@waits:test' as UserId
  const requester = {
    user_id,
    device_id: 'D' as DeviceId,
    admin: false,
    guest: false,
    locked: false,
    suspended: false,
    token_hash: 'x',
  }
  const app = new Hono()
  mount(app, fixture.role().routes, {
    deps: fixture.role().deps,
    authenticate: () => requester,
    limiter: { take: () => undefined },
    clientAddress: () => '127.0.0.1',
    log: { error: (fields) => void fixture.errors.push(fields) },
  })
  const adapted = createAdaptorServer({ fetch: app.fetch })
  await new Promise<void>((resolve) => adapted.listen(0, '127.0.0.1', resolve))
  const { port } = adapted.address() as AddressInfo
  const first = await fetch(`http://127.0.0.1:${port}${v3}/sync?access_token=t`)
  const { next_batch } = (await first.json()) as { next_batch: string }
  const user = fixture.role().deps.live.peek(user_id)
  for (let round = 0; round < 3; round++) {
    const sockets = await Promise.all(Array.from({ length: 100 }, () => open(port)))
    const poll = `GET ${v3}/sync?since=${next_batch}&timeout=100000&access_token=t HTTP/1.1\r\nHost: x\r\n\r\n`
    for (const socket of sockets) socket.write(poll)
    await expect.poll(() => user?.waiters.size).toBe(100)
    // Some say goodbye, some are cut off.
    for (const [i, socket] of sockets.entries()) i % 2 === 0 ? socket.end() : socket.resetAndDestroy()
    await expect.poll(() => [user?.waiters.size, user?.uses]).toEqual([0, 0])
  }
  expect(fixture.errors).toEqual([])
  adapted.close()
  fixture.close()
  await own.drop()
})

test('SIGTERM: waiting polls end, sends under way are answered, and the process is gone in time', async () => {
  since = (await http.json<{ next_batch: string }>('GET', `${v3}/sync`, token)).next_batch
  const polls = Array.from({ length: 20 }, () => http.request('GET', `${v3}/sync?since=${since}&timeout=60000`, token))
  await sleep(200)
  // Over connections that are open already: what is on its way to be accepted has not reached the server.
  const warm = new HttpClient('127.0.0.1', server.port)
  await Promise.all(Array.from({ length: 30 }, () => warm.request('GET', '/health')))
  const sends = Array.from({ length: 30 }, (_, i) =>
    warm.request('PUT', `${room}/send/m.room.message/last${i}`, token, { body: 'x' }),
  )
  // A client that never reads must not hold the end up either.
  const stuck = await open()
  stuck
    .pause()
    .write(`GET ${room}/messages?dir=b&limit=120 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token}\r\n\r\n`)
  stuck.on('error', () => undefined)
  await sleep(20)
  const beganMs = performance.now()
  await server.stop()
  const tookMs = performance.now() - beganMs
  expect((await Promise.all(sends)).map((answer) => answer.status)).toEqual(sends.map(() => 200))
  expect((await Promise.all(polls)).map((answer) => answer.status)).toEqual(polls.map(() => 200))
  expect(tookMs).toBeLessThan(8_000)
  warm.close()
  console.log(`ended ${Math.round(tookMs)} ms after SIGTERM`)
})
