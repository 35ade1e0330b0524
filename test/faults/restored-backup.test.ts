/** After a restore from an older backup, clients hold tokens from a future that is no more. They start anew; silence until
 *  the future comes round again would be the worst answer. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type TestDatabase, testDatabase } from '../support/database.ts'
import { HttpClient } from '../support/http-client.ts'
import { type ServerProcess, serverProcess } from '../support/server-process.ts'

const v3 = '/_matrix/client/v3'
const encode = encodeURIComponent
const ahead = 1_000_000

let database: TestDatabase
let server: ServerProcess
let http: HttpClient
let token: string
let room_id: string
let since: string
beforeAll(async () => {
  database = await testDatabase()
  server = await serverProcess({ databaseUrl: database.url })
  await server.start()
  http = new HttpClient('127.0.0.1', server.port)
  token = (await server.register('restored')).access_token
  ;({ room_id } = await http.json<{ room_id: string }>('POST', `${v3}/createRoom`, token, {}))
  await http.json('PUT', `${v3}/rooms/${encode(room_id)}/send/m.room.message/1`, token, { body: 'kept' })
  since = (await http.json<{ next_batch: string }>('GET', `${v3}/sync`, token)).next_batch
})
afterAll(async () => {
  http?.close()
  await server?.close()
  await database?.drop()
})

interface Sync {
  readonly next_batch: string
  readonly rooms?: {
    readonly join?: Record<
      string,
      { state?: { events: { type: string }[] }; timeline: { events: { type: string }[]; limited?: boolean } }
    >
  }
}

/** The token with one of its positions moved. */
function moved(index: number): string {
  const parts = since.split('_')
  parts[index] = String(Number(parts[index]) + ahead)
  return parts.join('_')
}

describe('a sync token from the future', () => {
  test.each([
    ['events', 1],
    ['receipts', 2],
    ['account data', 3],
    ['invalidations', 6],
    ['device lists', 7],
    ['key counts', 8],
  ] as const)('of %s: the client starts anew, at once', async (_, index) => {
    const beganMs = performance.now()
    const answer = await http.json<Sync>('GET', `${v3}/sync?timeout=20000&since=${moved(index)}`, token)
    expect(performance.now() - beganMs).toBeLessThan(5_000)
    const room = answer.rooms?.join?.[room_id]
    const types = [...(room?.state?.events ?? []), ...(room?.timeline.events ?? [])].map((event) => event.type)
    expect(types).toContain('m.room.create')
    expect(types).toContain('m.room.message')
    // And goes on from there.
    const waiting = http.json<Sync>('GET', `${v3}/sync?timeout=20000&since=${answer.next_batch}`, token)
    await http.json('PUT', `${v3}/rooms/${encode(room_id)}/send/m.room.message/after${index}`, token, { body: 'new' })
    expect((await waiting).rooms?.join?.[room_id]?.timeline.events.length).toBe(1)
    since = answer.next_batch
  })
  test('of what is kept in memory alone: no news is lost', async () => {
    for (const index of [4, 5]) {
      const before = (await http.json<Sync>('GET', `${v3}/sync?timeout=0&since=${since}`, token)).next_batch
      since = before
      const waiting = http.json<Sync>('GET', `${v3}/sync?timeout=20000&since=${moved(index)}`, token)
      await http.json('PUT', `${v3}/rooms/${encode(room_id)}/send/m.room.message/memory${index}`, token, {
        body: 'new',
      })
      const first = await waiting
      const answer = first.rooms
        ? first
        : await http.json<Sync>('GET', `${v3}/sync?timeout=20000&since=${first.next_batch}`, token)
      expect(answer.rooms?.join?.[room_id]?.timeline.events.length).toBe(1)
      since = answer.next_batch
    }
  })
})

test('a pagination token from the future is the end of the timeline', async () => {
  const room = `${v3}/rooms/${encode(room_id)}`
  for (const from of [`p1_${ahead * 10}`, moved(1)]) {
    const back = await http.json<{ chunk: { type: string }[] }>(
      'GET',
      `${room}/messages?dir=b&from=${from}&limit=100`,
      token,
    )
    expect(back.chunk.at(-1)?.type).toBe('m.room.create')
    const forth = await http.json<{ chunk: unknown[]; end?: string }>(
      'GET',
      `${room}/messages?dir=f&from=${from}`,
      token,
    )
    expect(forth.chunk).toEqual([])
    const members = await http.json<{ chunk: unknown[] }>('GET', `${room}/members?at=${from}`, token)
    expect(members.chunk.length).toBe(1)
    const changes = await http.request('GET', `${v3}/keys/changes?from=${from}&to=${since}`, token)
    expect(changes.status, changes.body).toBeLessThan(500)
  }
})

test.each([
  's1_-1_0_0_0_0_0',
  's1_99999999999999999999_0_0_0_0_0',
  's1_1.5_0_0_0_0_0',
  's9_1',
  'nonsense',
  's1_1_1',
  '%00',
])('a broken token (%s) is a client error', async (broken) => {
  for (const target of [`${v3}/sync?since=${broken}`, `${v3}/rooms/${encode(room_id)}/messages?dir=b&from=${broken}`]) {
    const answer = await http.request('GET', target, token)
    expect(answer.status, answer.body).toBe(400)
    expect(answer.body).toMatch(/M_(INVALID_PARAM|UNKNOWN_POS)/)
  }
})
