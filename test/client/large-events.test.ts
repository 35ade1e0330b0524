/** Pages of the largest events end early, say where, and leave nothing out. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type TestDatabase, testDatabase } from '../support/database.ts'
import { HttpClient } from '../support/http-client.ts'
import { type ServerProcess, serverProcess } from '../support/server-process.ts'

const v3 = '/_matrix/client/v3'
const count = 45
/** One page, and the event that fills it. */
const pageBytes = 1024 * 1024 + 70_000
let database: TestDatabase
let server: ServerProcess
let http: HttpClient
let token: string
let room: string
const sent: string[] = []

interface Event {
  readonly event_id: string
  readonly type: string
}
interface Page {
  readonly chunk: Event[]
  readonly end?: string
  readonly next_batch?: string
}

beforeAll(async () => {
  database = await testDatabase()
  server = await serverProcess({ databaseUrl: database.url })
  await server.start()
  http = new HttpClient('127.0.0.1', server.port)
  token = (await server.register('wordy')).access_token
  room = (await http.json<{ room_id: string }>('POST', `${v3}/createRoom`, token, {})).room_id
  const send = async (i: number, relation: object) => {
    const content = { msgtype: 'm.text', body: 'ä'.repeat(30_000), ...relation }
    const path = `${v3}/rooms/${encodeURIComponent(room)}/send/m.room.message/t${i}`
    return (await http.json<{ event_id: string }>('PUT', path, token, content)).event_id
  }
  const first = await send(0, {})
  sent.push(first)
  for (let i = 1; i < count; i++) {
    sent.push(await send(i, { 'm.relates_to': { rel_type: 'm.reference', event_id: first } }))
  }
}, 60_000)
afterAll(async () => {
  http?.close()
  await server?.close()
  await database?.drop()
})

async function get<T>(path: string): Promise<{ answer: T; bytes: number }> {
  const { status, body } = await http.request('GET', path, token)
  expect(status).toBe(200)
  return { answer: JSON.parse(body) as T, bytes: Buffer.byteLength(body) }
}

const inRoom = (rest: string) => `${v3}/rooms/${encodeURIComponent(room)}/${rest}`
const messagesIn = (events: readonly Event[]) =>
  events.filter(({ type }) => type === 'm.room.message').map(({ event_id }) => event_id)

describe('a room of events of 60 kB', () => {
  test.each([
    { dir: 'b', limit: 500, filter: '' },
    { dir: 'f', limit: 500, filter: '' },
    { dir: 'b', limit: 30, filter: '' },
    { dir: 'f', limit: 500, filter: encodeURIComponent('{"types":["m.room.message"]}') },
  ])('is read whole by pages of a megabyte: $dir, limit $limit, filter $filter', async ({ dir, limit, filter }) => {
    const found: string[] = []
    let pages = 0
    for (let from: string | undefined = ''; from !== undefined; pages++) {
      const query: string = `dir=${dir}&limit=${limit}&filter=${filter}${from === '' ? '' : `&from=${from}`}`
      const { answer, bytes }: { answer: Page; bytes: number } = await get(inRoom(`messages?${query}`))
      expect(bytes).toBeLessThan(pageBytes + 20_000)
      found.push(...messagesIn(answer.chunk))
      from = answer.end
    }
    expect(found).toEqual(dir === 'f' ? sent : sent.toReversed())
    expect(pages).toBeGreaterThan(2)
  })

  test('context shows a page on each side, and where it goes on', async () => {
    interface Context {
      readonly events_before: Event[]
      readonly events_after: Event[]
      readonly start: string
      readonly end: string
    }
    const at = 22
    const { answer, bytes } = await get<Context>(inRoom(`context/${encodeURIComponent(sent[at] ?? '')}?limit=200`))
    expect(bytes).toBeLessThan(2 * pageBytes + 100_000)
    const before = messagesIn(answer.events_before)
    const after = messagesIn(answer.events_after)
    expect(before).toEqual(sent.slice(at - before.length, at).toReversed())
    expect(after).toEqual(sent.slice(at + 1, at + 1 + after.length))
    expect(before.length).toBeLessThan(at)
    const earlier = await get<Page>(inRoom(`messages?dir=b&limit=1&from=${answer.start}`))
    expect(messagesIn(earlier.answer.chunk)).toEqual([sent[at - before.length - 1]])
    const later = await get<Page>(inRoom(`messages?dir=f&limit=1&from=${answer.end}`))
    expect(messagesIn(later.answer.chunk)).toEqual([sent[at + 1 + after.length]])
  })

  test.each(['', '&recurse=true'])('relations are read whole by pages of a megabyte%s', async (recurse) => {
    const found: string[] = []
    const parent = encodeURIComponent(sent[0] ?? '')
    for (let from: string | undefined = ''; from !== undefined; ) {
      const query: string = `dir=f&limit=200${recurse}${from === '' ? '' : `&from=${from}`}`
      const { answer, bytes }: { answer: Page; bytes: number } = await get(
        `/_matrix/client/v1/rooms/${encodeURIComponent(room)}/relations/${parent}?${query}`,
      )
      expect(bytes).toBeLessThan(pageBytes + 20_000)
      found.push(...messagesIn(answer.chunk))
      from = answer.next_batch
    }
    expect(found).toEqual(sent.slice(1))
  })

  test.each(['for who syncs first', 'from what is kept since'])('a sync ends early and says where, %s', async () => {
    interface Sync {
      readonly rooms: {
        readonly join: Record<string, { timeline: { events: Event[]; limited: boolean; prev_batch: string } }>
      }
    }
    const filter = encodeURIComponent('{"room":{"timeline":{"limit":200}}}')
    const { answer, bytes } = await get<Sync>(`${v3}/sync?filter=${filter}`)
    expect(bytes).toBeLessThan(pageBytes + 50_000)
    const timeline = answer.rooms.join[room]?.timeline
    expect(timeline?.limited).toBe(true)
    const shown = messagesIn(timeline?.events ?? [])
    expect(shown).toEqual(sent.slice(-shown.length))
    const { answer: earlier } = await get<Page>(inRoom(`messages?dir=b&limit=1&from=${timeline?.prev_batch}`))
    expect(messagesIn(earlier.chunk)).toEqual([sent.at(-shown.length - 1)])
  })
})
