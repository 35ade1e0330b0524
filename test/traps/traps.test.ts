/** What another homeserver got wrong, each by the question that was put to it. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type TestDatabase, testDatabase } from '../support/database.ts'
import { HttpClient } from '../support/http-client.ts'
import { type ServerProcess, serverProcess } from '../support/server-process.ts'

const v3 = '/_matrix/client/v3'
const encode = encodeURIComponent

let database: TestDatabase
let server: ServerProcess
let http: HttpClient
let alice: Person
let mallory: Person
beforeAll(async () => {
  database = await testDatabase()
  server = await serverProcess({ databaseUrl: database.url })
  await server.start()
  http = new HttpClient('127.0.0.1', server.port)
  ;[alice, mallory] = await Promise.all([server.register('alice'), server.register('mallory')])
})
afterAll(async () => {
  http?.close()
  await server?.close()
  await database?.drop()
})

interface Person {
  readonly user_id: string
  readonly access_token: string
}
interface Refusal {
  readonly errcode: string
}
interface Sent {
  readonly event_id: string
}

async function ask<T = Refusal & Sent>(by: Person | undefined, method: string, path: string, body?: object | string) {
  const answer = await http.request(method, `${v3}/${path}`, by?.access_token, body)
  return { status: answer.status, body: JSON.parse(answer.body) as T }
}

async function publicRoom(options: object = {}): Promise<{ id: string; path: string }> {
  const { body } = await ask<{ room_id: string }>(alice, 'POST', 'createRoom', { preset: 'public_chat', ...options })
  return { id: body.room_id, path: `rooms/${encode(body.room_id)}` }
}

describe('trap 1: a login without a password', () => {
  test.each([
    { type: 'm.login.dummy', user: 'alice' },
    { type: 'm.login.dummy', identifier: { type: 'm.id.user', user: 'alice' } },
    { type: 'm.login.password', user: 'alice' },
    { type: 'm.login.password', identifier: { type: 'm.id.user', user: 'alice' }, password: '' },
    { type: 'm.login.password', identifier: { type: 'm.id.user', user: 'alice' }, password: null },
    { type: 'm.login.token', token: '' },
    { type: 'm.login.application_service', identifier: { type: 'm.id.user', user: 'alice' } },
    { identifier: { type: 'm.id.user', user: 'alice' } },
  ])('%j', async (body) => {
    const answer = await ask<object>(undefined, 'POST', 'login', body)
    expect(answer.status).toBeGreaterThanOrEqual(400)
    expect(answer.status).toBeLessThan(500)
    expect(JSON.stringify(answer.body)).not.toMatch(/access_token/)
  })
})

describe('trap 2: state from a member without power', () => {
  test('changes nothing', async () => {
    const { path } = await publicRoom()
    await ask(mallory, 'POST', `${path}/join`, {})
    const before = await ask<object[]>(alice, 'GET', `${path}/state`)
    const attempts: [string, string, object][] = [
      ['m.room.create', '', { creator: mallory.user_id }],
      ['m.room.power_levels', '', { users: { [mallory.user_id]: 100 } }],
      ['m.room.name', '', { name: 'mine' }],
      ['m.room.member', '@zed:test.local', { membership: 'join' }],
      ['m.room.member', alice.user_id, { membership: 'leave' }],
      ['m.room.history_visibility', '', { history_visibility: 'world_readable' }],
      ['m.room.tombstone', '', { replacement_room: '!elsewhere' }],
      ['m.room.redaction', '', { redacts: '$create' }],
      ['org.test', alice.user_id, {}],
    ]
    for (const [type, key, content] of attempts) {
      const { status, body } = await ask(mallory, 'PUT', `${path}/state/${type}/${encode(key)}`, content)
      expect([400, 403], `${type} ${body.errcode}`).toContain(status)
      if (key !== '') continue
      const sent = await ask(mallory, 'PUT', `${path}/send/${type}/${type}`, content)
      expect([400, 403], `${type} as a message`).toContain(sent.status)
    }
    const after = await ask<object[]>(alice, 'GET', `${path}/state`)
    expect(withoutAge(after.body)).toEqual(withoutAge(before.body))
  })
})

describe('trap 3: the banned come back', () => {
  test('by no way there is', async () => {
    const { id, path } = await publicRoom()
    await ask(mallory, 'POST', `${path}/join`, {})
    expect((await ask(alice, 'POST', `${path}/ban`, { user_id: mallory.user_id })).status).toBe(200)
    const member = `${path}/state/m.room.member/${encode(mallory.user_id)}`
    for (const answer of [
      await ask(mallory, 'POST', `${path}/join`, {}),
      await ask(mallory, 'POST', `join/${encode(id)}`, {}),
      await ask(mallory, 'POST', `knock/${encode(id)}`, {}),
      await ask(mallory, 'POST', `${path}/leave`, {}),
      await ask(mallory, 'PUT', member, { membership: 'join' }),
      await ask(mallory, 'PUT', member, { membership: 'leave' }),
      await ask(mallory, 'PUT', `${path}/send/m.room.message/1`, { body: 'still here' }),
      await ask(alice, 'POST', `${path}/invite`, { user_id: mallory.user_id }),
    ]) {
      expect(answer).toMatchObject({ status: 403, body: { errcode: 'M_FORBIDDEN' } })
    }
    expect((await ask<{ membership: string }>(alice, 'GET', member)).body.membership).toBe('ban')
  })
})

describe('trap 6: one transaction id, two events', () => {
  test('one after the other, twenty at once, and after a restart: one event', async () => {
    const { path } = await publicRoom()
    const send = (txn: string, type = 'm.room.message') =>
      ask(alice, 'PUT', `${path}/send/${type}/${txn}`, { body: 'once' })
    const first = await send('a')
    expect((await send('a')).body).toEqual(first.body)
    const many = await Promise.all(Array.from({ length: 20 }, () => send('b')))
    expect(new Set(many.map(({ body }) => body.event_id)).size).toBe(1)
    const redact = () => ask(alice, 'PUT', `${path}/redact/${encode(first.body.event_id)}/a`, {})
    const redactions = await Promise.all(Array.from({ length: 20 }, redact))
    expect(new Set(redactions.map(({ body }) => body.event_id)).size).toBe(1)

    await server.kill()
    http.close()
    await server.start()
    expect((await send('a')).body).toEqual(first.body)
    expect((await send('b')).body).toEqual(many[0]?.body)
    expect((await redact()).body).toEqual(redactions[0]?.body)
  })

  test('the same id elsewhere is another transaction: type, room, endpoint, device', async () => {
    const [one, other] = [await publicRoom(), await publicRoom()]
    const identifier = { type: 'm.id.user', user: 'elsewhere' }
    const { password, ...phone } = await server.register('elsewhere')
    const login = { type: 'm.login.password', identifier, password }
    const laptop = (await ask<{ access_token: string }>(undefined, 'POST', 'login', login)).body
    for (const room of [one, other]) await ask(phone, 'POST', `${room.path}/join`, {})
    const send = async (by: { access_token: string }, path: string) =>
      (await ask({ ...phone, ...by }, 'PUT', path, { body: 'x' })).body.event_id
    const first = await send(phone, `${one.path}/send/m.room.message/t`)
    const ids = [
      first,
      await send(phone, `${one.path}/send/org.test/t`),
      await send(phone, `${other.path}/send/m.room.message/t`),
      await send(phone, `${one.path}/redact/${encode(first)}/t`),
      await send(laptop, `${one.path}/send/m.room.message/t`),
    ]
    expect(ids.every((id) => id.startsWith('$'))).toBe(true)
    expect(new Set(ids).size).toBe(ids.length)
  })
})

describe('trap 7: many sends at once', () => {
  test('30 events, each in a place and at a depth of its own', async () => {
    const { id, path } = await publicRoom()
    await Promise.all(
      Array.from({ length: 30 }, (_, i) => ask(alice, 'PUT', `${path}/send/m.room.message/many${i}`, { body: `${i}` })),
    )
    const [row] = await database.sql<{ events: number; positions: number; depths: number }[]>`
      select count(*)::int as events, count(distinct position)::int as positions, count(distinct depth)::int as depths
      from events join rooms using (room_nid) where room_id = ${id} and type = 'm.room.message'`
    expect(row).toEqual({ events: 30, positions: 30, depths: 30 })
  })
})

describe('trap 8: a sync that skips', () => {
  test('130 events later nothing is lost: the timeline says that it is limited, and its token leads to the rest', async () => {
    const { id, path } = await publicRoom()
    const { body: first } = await ask<{ next_batch: string }>(alice, 'GET', 'sync')
    const sent: string[] = []
    for (let i = 0; i < 130; i++) {
      sent.push((await ask(alice, 'PUT', `${path}/send/m.room.message/gap${i}`, { body: `${i}` })).body.event_id)
    }
    for (const limit of [10, 100]) {
      const filter = encode(JSON.stringify({ room: { timeline: { limit } } }))
      const { body } = await ask<{ rooms: { join: Record<string, { timeline: Timeline }> } }>(
        alice,
        'GET',
        `sync?since=${first.next_batch}&filter=${filter}`,
      )
      const timeline = body.rooms.join[id]?.timeline as Timeline
      expect(timeline.limited).toBe(true)
      expect(timeline.events.map((event) => event.event_id)).toEqual(sent.slice(-limit))
      const range = `from=${timeline.prev_batch}&to=${first.next_batch}&dir=b&limit=500`
      const rest = await ask<{ chunk: Sent[] }>(alice, 'GET', `${path}/messages?${range}`)
      expect(rest.body.chunk.map((event) => event.event_id)).toEqual(sent.slice(0, -limit).reverse())
    }
  })
})

describe('trap 10: what is no event', () => {
  test.each([
    { what: '100 kB', content: JSON.stringify({ body: 'x'.repeat(100_000) }), status: 413, errcode: 'M_TOO_LARGE' },
    { what: 'a list', content: '[]', status: 400, errcode: 'M_BAD_JSON' },
    { what: 'a float', content: '{"n":1.5}', status: 400, errcode: 'M_BAD_JSON' },
    { what: '2^53 + 1', content: '{"n":9007199254740993}', status: 400, errcode: 'M_BAD_JSON' },
    { what: '-2^53', content: '{"n":[{"a":-9007199254740992}]}', status: 400, errcode: 'M_BAD_JSON' },
    { what: 'an infinity', content: '{"n":1e400}', status: 400, errcode: 'M_BAD_JSON' },
    { what: 'half a character', content: '{"n":"\\ud800"}', status: 400, errcode: 'M_BAD_JSON' },
  ])('$what is refused', async ({ content, status, errcode }) => {
    for (const room_version of ['6', '10', '12']) {
      const { path } = await publicRoom({ room_version })
      const refused = { status, body: { errcode } }
      expect(await ask(alice, 'PUT', `${path}/send/org.test/1`, content), room_version).toMatchObject(refused)
      expect(await ask(alice, 'PUT', `${path}/state/org.test/`, content), room_version).toMatchObject(refused)
    }
  })
})

describe('trap 11: version 12 is more than a label', () => {
  test('the room id is the hash of the create event, which names no creator and no power', async () => {
    const { id, path } = await publicRoom({ room_version: '12' })
    expect(id).toMatch(/^![A-Za-z0-9_-]{43}$/)
    const { body: state } = await ask<{ type: string; event_id: string; content: object }[]>(
      alice,
      'GET',
      `${path}/state`,
    )
    const create = state.find((event) => event.type === 'm.room.create')
    expect(create?.event_id).toBe(`$${id.slice(1)}`)
    expect(create?.content).toEqual({ room_version: '12' })
    const levels = state.find((event) => event.type === 'm.room.power_levels')?.content as { users: object }
    expect(levels.users).toEqual({})

    // No level reaches the creator's, and none can be written for her.
    await ask(mallory, 'POST', `${path}/join`, {})
    const put = (users: object) => ask(alice, 'PUT', `${path}/state/m.room.power_levels/`, { ...levels, users })
    expect((await put({ [alice.user_id]: 100 })).status).toBe(400)
    expect((await put({ [mallory.user_id]: Number.MAX_SAFE_INTEGER })).status).toBe(200)
    for (const action of ['kick', 'ban']) {
      expect((await ask(mallory, 'POST', `${path}/${action}`, { user_id: alice.user_id })).status).toBe(403)
    }
  })

  test.each(['x', ['@x'], ['@x:y z'], [1], { a: 1 }])('additional_creators: %j is refused', async (value) => {
    const body = { room_version: '12', creation_content: { additional_creators: value } }
    expect((await ask(alice, 'POST', 'createRoom', body)).status).toBe(400)
  })
})

interface Timeline {
  readonly events: readonly Sent[]
  readonly limited: boolean
  readonly prev_batch: string
}

function withoutAge(events: readonly object[]): unknown[] {
  return events.map((event) => ({ ...event, unsigned: undefined }))
}
