/** Text that storage has to take care of: it comes back as it was sent, or is refused, and never fails. */
import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type TestDatabase, testDatabase } from '../support/database.ts'
import { HttpClient } from '../support/http-client.ts'
import { type ServerProcess, serverProcess } from '../support/server-process.ts'

const v3 = '/_matrix/client/v3'
const encode = encodeURIComponent

let database: TestDatabase
let server: ServerProcess
let http: HttpClient
let user: { user_id: string; access_token: string }
let room: string
beforeAll(async () => {
  database = await testDatabase()
  server = await serverProcess({ databaseUrl: database.url })
  await server.start()
  http = new HttpClient('127.0.0.1', server.port)
  user = await server.register('writer')
  const made = await http.json<{ room_id: string }>('POST', `${v3}/createRoom`, user.access_token, {})
  room = `rooms/${encode(made.room_id)}`
})
afterAll(async () => {
  http?.close()
  await server?.close()
  await database?.drop()
})

/** U+E000 is what storage escapes U+0000 with. */
const texts = [
  'a\u0000b',
  '\ue000',
  '\ue0000\ue0001\ue000',
  '\u{1f4a9}\uffff',
  '__proto__',
  'constructor',
  '\\u0000',
  '\'"\\%_',
]
const put = (path: string, body: object | string) => http.request('PUT', `${v3}/${path}`, user.access_token, body)
const get = (path: string) => http.json<Record<string, unknown>>('GET', `${v3}/${path}`, user.access_token)

describe('client-server-api/#client-config', () => {
  test.each(texts)('account data: %j', async (text) => {
    const own = `user/${encode(user.user_id)}`
    const content = JSON.parse(`{${JSON.stringify(text)}:{"text":${JSON.stringify(text)}}}`) as Record<string, unknown>
    for (const path of [`${own}/account_data/${encode(text)}`, `${own}/${room}/account_data/${encode(text)}`]) {
      expect((await put(path, content)).status).toBe(200)
      expect(await get(path)).toEqual(content)
    }
    // Each new tag writes the older ones again.
    for (const order of [0.25, 0.5]) {
      expect((await put(`${own}/${room}/tags/${encode(text)}`, { order, text })).status).toBe(200)
    }
    const { tags } = (await get(`${own}/${room}/tags`)) as { tags: Record<string, unknown> }
    expect(new Map(Object.entries(tags)).get(text)).toEqual({ order: 0.5, text })
    const { account_data } = (await get('sync')) as { account_data: { events: { type: string; content: unknown }[] } }
    expect(account_data.events.find((event) => event.type === text)?.content).toEqual(content)
  })
})

describe('client-server-api/#sending-events-to-a-room', () => {
  const long = randomBytes(20_000).toString('hex')
  const relations = [
    { rel_type: 'm.thread', event_id: '$a\u0000' },
    { rel_type: 'm.annotation', event_id: '$a\u0000', key: '\u0000' },
    { rel_type: 'a\u0000', event_id: '$a\u0000' },
    { rel_type: '\ue000', event_id: '$\ue000' },
    { rel_type: long, event_id: '$a' },
    { rel_type: 'm.thread', event_id: `$${long}` },
    { rel_type: 'm.thread', event_id: '' },
  ]
  test.each(relations)('what relates to $event_id is sent', async (relation) => {
    const content = { 'm.relates_to': relation }
    const { status, body } = await put(`${room}/send/org.test/${randomBytes(4).toString('hex')}`, content)
    expect(status, body).toBe(200)
    const { event_id } = JSON.parse(body) as { event_id: string }
    expect((await get(`${room}/event/${encode(event_id)}`)).content).toEqual(content)
  })

  test.each(['t\u0000', '\ue000', long.slice(0, 8_000)])('transaction id %j', async (txnId) => {
    const first = await put(`${room}/send/org.test/${encode(txnId)}`, {})
    const again = await put(`${room}/send/org.test/${encode(txnId)}`, {})
    expect([first.status, again.status]).toEqual([200, 200])
    expect(again.body).toBe(first.body)
  })
})
