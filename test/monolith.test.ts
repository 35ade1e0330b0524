/** The way of a message through one process, over HTTP: what a newcomer tries first. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createMonolith, type Monolith } from '../functions/monolith/monolith.ts'
import { configFrom } from '../shared/config/load.ts'
import { silentLogger } from '../shared/logging.ts'
import { type TestDatabase, testDatabase } from './support/database.ts'

let database: TestDatabase
let folder: string
let monolith: Monolith

function start(): Promise<Monolith> {
  const config = configFrom({
    server_name: 'test.example',
    data_dir: folder,
    listeners: [{ port: 0 }],
    database: { url: database.url },
    registration: { enabled: true },
    password: { bcrypt_rounds: 4 },
    rate_limits: { enabled: false },
  })
  return createMonolith(config, { log: silentLogger })
}

beforeAll(async () => {
  database = await testDatabase()
  folder = mkdtempSync(path.join(tmpdir(), 'ganglion-monolith-'))
  monolith = await start()
})
afterAll(async () => {
  await monolith?.close()
  await database?.drop()
  rmSync(folder, { recursive: true, force: true })
})

interface Answer {
  readonly status: number
  readonly body: Record<string, never> & {
    readonly access_token: string
    readonly user_id: string
    readonly room_id: string
    readonly event_id: string
    readonly next_batch: string
    readonly errcode: string
    readonly content: Record<string, unknown>
    readonly rooms?: {
      readonly join?: Record<string, { timeline: { events: { event_id: string; content: unknown }[] } }>
    }
  }
}

async function call(method: string, url: string, options: { token?: string; body?: object } = {}): Promise<Answer> {
  const response = await fetch(`${monolith.addresses[0]}${url}`, {
    method,
    headers: options.token === undefined ? {} : { authorization: `Bearer ${options.token}` },
    ...(options.body ? { body: JSON.stringify(options.body) } : {}),
  })
  return { status: response.status, body: (await response.json()) as Answer['body'] }
}

async function register(username: string): Promise<string> {
  const { status, body } = await call('POST', '/_matrix/client/v3/register', {
    body: { username, password: 'correct horse battery', auth: { type: 'm.login.dummy' } },
  })
  expect(status).toBe(200)
  expect(body.user_id).toBe(`@${username}:test.example`)
  return body.access_token
}

test('register, make a room, send, and read it from sync as it was written; it is there after a restart', async () => {
  const alice = await register('alice')
  const bob = await register('bob')
  const room = (
    await call('POST', '/_matrix/client/v3/createRoom', { token: alice, body: { preset: 'public_chat', name: 'Room' } })
  ).body.room_id
  const at = encodeURIComponent(room)
  expect((await call('POST', `/_matrix/client/v3/join/${at}`, { token: bob, body: {} })).status).toBe(200)
  const before = (await call('GET', '/_matrix/client/v3/sync', { token: bob })).body.next_batch

  // Bob waits before Alice speaks.
  const waiting = call('GET', `/_matrix/client/v3/sync?timeout=20000&since=${before}`, { token: bob })
  const content = { msgtype: 'm.text', body: 'snowman \u2603, zero \u0000, emoji \u{1F600}' }
  const sent = await call('PUT', `/_matrix/client/v3/rooms/${at}/send/m.room.message/1`, {
    token: alice,
    body: content,
  })
  expect(sent.status).toBe(200)
  const again = await call('PUT', `/_matrix/client/v3/rooms/${at}/send/m.room.message/1`, {
    token: alice,
    body: content,
  })
  expect(again.body.event_id).toBe(sent.body.event_id)

  const events = (await waiting).body.rooms?.join?.[room]?.timeline.events
  expect(events).toEqual([expect.objectContaining({ event_id: sent.body.event_id, content })])

  await monolith.close()
  monolith = await start()
  const read = await call('GET', `/_matrix/client/v3/rooms/${at}/event/${encodeURIComponent(sent.body.event_id)}`, {
    token: bob,
  })
  expect(read.body.content).toEqual(content)
})

test('closing answers those who wait', async () => {
  const carol = await register('carol')
  const { next_batch } = (await call('GET', '/_matrix/client/v3/sync', { token: carol })).body
  const waiting = call('GET', `/_matrix/client/v3/sync?timeout=30000&since=${next_batch}`, { token: carol })
  // Answered once the long poll is there.
  await call('GET', '/_matrix/client/v3/account/whoami', { token: carol })
  const startedAt = performance.now()
  await monolith.close()
  expect((await waiting).status).toBe(200)
  expect(performance.now() - startedAt).toBeLessThan(4_000)
  monolith = await start()
})

test.each([
  { url: '/health', status: 200 },
  { url: '/live', status: 200 },
  { url: '/ready', status: 200 },
  { url: '/_matrix/client/versions', status: 200 },
  { url: '/_matrix/client/v3/nothing', status: 404 },
  { url: '/nothing', status: 404 },
])('GET $url answers $status', async ({ url, status }) => {
  expect((await fetch(`${monolith.addresses[0]}${url}`)).status).toBe(status)
})

test('a port that is taken stops the start, with a sentence that says so', async () => {
  const port = Number(new URL(monolith.addresses[0] ?? '').port)
  const config = configFrom({ server_name: 'test.example', data_dir: folder, listeners: [{ port }] })
  await expect(createMonolith(config, { log: silentLogger })).rejects.toThrow(/taken by another program/)
})
