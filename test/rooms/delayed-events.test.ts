/** MSC4140, in one process, with a clock that is moved by hand. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { fakeClock } from '../../shared/clock.ts'
import type { RoomId } from '../../shared/matrix/ids.ts'
import { type ClientServer, clientServer, type TestClient } from '../support/client-server.ts'

const type = 'com.example.test'
const unstable = '/_matrix/client/unstable/org.matrix.msc4140'
const v1 = '/_matrix/client/v1'
const max_per_user = 10

// biome-ignore lint/suspicious/noExplicitAny: a test reads the answer as a client would
type Json = any

let server: ClientServer
let alice: TestClient
let bob: TestClient
let room: RoomId
const clock = fakeClock()
let count = 0

beforeAll(async () => {
  server = await clientServer({ clock, config: { delayed_events: { max_delay: '1h', max_per_user } } })
  alice = await server.register('alice')
  bob = await server.register('bob')
})
beforeEach(async () => {
  await server.main.database.sql`delete from delayed_events`
  const levels = { events: { [type]: 0 }, state_default: 0 }
  const made = await alice.must('POST', 'createRoom', { preset: 'public_chat', power_level_content_override: levels })
  room = made.room_id
  await bob.must('POST', `rooms/${room}/join`, {})
})
afterAll(() => server.close())

const txn = () => `t${++count}`
async function delayState(by: TestClient, key: string, delay: number, content: object = { by: by.user_id }) {
  const path = `rooms/${room}/state/${type}/${key}?org.matrix.msc4140.delay=${delay}`
  return String((await by.must('PUT', path, content)).delay_id)
}
const delayMessage = async (by: TestClient, delay: number, content: object) =>
  String(
    (await by.must('PUT', `rooms/${room}/send/${type}/${txn()}?org.matrix.msc4140.delay=${delay}`, content)).delay_id,
  )
const listed = async (by: TestClient): Promise<Json[]> =>
  (await by.must('GET', `${unstable}/delayed_events`)).delayed_events
const one = (by: TestClient, id: string): Promise<Json> => by.must('GET', `${v1}/delayed_events/${id}`)
const act = (id: string, action: string, by: Pick<TestClient, 'ask'> = server) =>
  by.ask('POST', `${unstable}/delayed_events/${id}/${action}`, {})
async function state(key: string): Promise<Json> {
  const { status, body } = await alice.ask('GET', `rooms/${room}/state/${type}/${key}`)
  return status === 200 ? body : undefined
}
async function sent(by: TestClient): Promise<Json[]> {
  const { chunk } = await by.must('GET', `rooms/${room}/messages?dir=f&limit=100`)
  return chunk.filter((event: Json) => event.type === type)
}
/** Something becomes so without the clock moving on. */
const soon = <T>(read: () => Promise<T>) => expect.poll(read, { timeout: 5_000, interval: 10 })

describe('MSC4140 scheduling a delayed event', () => {
  test('what is due is sent, in the order in which it is due, and not before', async () => {
    for (const [n, delay] of [
      [3, 900],
      [1, 700],
      [2, 800],
    ] as const)
      await delayMessage(alice, delay, { n })
    expect((await listed(alice)).map((event) => event.content.n)).toEqual([1, 2, 3])
    expect(await listed(bob)).toEqual([])
    clock.advance(699)
    expect(await sent(alice)).toEqual([])
    clock.advance(201)
    await soon(() => listed(alice)).toEqual([])
    expect((await sent(alice)).map((event) => event.content.n)).toEqual([1, 2, 3])
  })

  test('the same transaction is one delayed event, also where the body is left out the second time', async () => {
    const path = `rooms/${room}/send/${type}/${txn()}?org.matrix.msc4140.delay=1000`
    const first = await alice.must('PUT', path, { n: 1 })
    expect(await alice.must('PUT', path)).toEqual(first)
    expect(await listed(alice)).toHaveLength(1)
  })

  test.each([v1.replace('v1', 'v3'), unstable])('by the endpoint of its own: %s', async (prefix) => {
    const path = `${prefix}/rooms/${room}/delayed_event/${type}/${txn()}`
    const { delay_id } = await alice.must('PUT', path, { delay_ms: 500, state_key: 'k', content: { a: 1 } })
    expect(await one(alice, delay_id)).toMatchObject({
      delay_id,
      room_id: room,
      type,
      state_key: 'k',
      delay_ms: 500,
      scheduled_at: clock.now(),
      content: { a: 1 },
    })
    clock.advance(500)
    await soon(() => state('k')).toEqual({ a: 1 })
  })

  test.each(['-1', '0', 'x', '1.5', '', '99999999999999999'])('delay %s is none', async (delay) => {
    const path = `rooms/${room}/send/${type}/${txn()}?org.matrix.msc4140.delay=${delay}`
    expect(await alice.ask('PUT', path, {})).toMatchObject({ status: 400, body: { errcode: 'M_INVALID_PARAM' } })
  })

  test('longer than the server allows is refused, and the capabilities say how long that is', async () => {
    const { capabilities } = await alice.must('GET', 'capabilities')
    const limits = { max_delay_ms: 3_600_000, max_scheduled: max_per_user }
    expect(capabilities['m.delayed_events']).toEqual(limits)
    expect(capabilities['org.matrix.msc4140.delayed_events']).toEqual(limits)
    const query = `rooms/${room}/send/${type}/${txn()}?org.matrix.msc4140.delay=3600001`
    expect(await alice.ask('PUT', query, {})).toMatchObject({
      status: 400,
      body: {
        errcode: 'M_UNKNOWN',
        'org.matrix.msc4140.errcode': 'M_MAX_DELAY_EXCEEDED',
        'org.matrix.msc4140.max_delay': 3_600_000,
      },
    })
    const path = `rooms/${room}/delayed_event/${type}/${txn()}`
    expect(await alice.ask('PUT', path, { delay_ms: 3_600_001, content: {} })).toMatchObject({
      status: 403,
      body: { errcode: 'M_FORBIDDEN' },
    })
    await alice.must('PUT', path, { delay_ms: 3_600_000, content: {} })
  })

  test('a user has so many scheduled, also where they come at once; others have their own', async () => {
    const answers = await Promise.all(
      Array.from({ length: 15 }, (_, n) =>
        alice.ask('PUT', `rooms/${room}/delayed_event/${type}/${txn()}`, { delay_ms: 60_000, content: { n } }),
      ),
    )
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(max_per_user)
    const refused = answers.filter(({ status }) => status !== 200)
    for (const answer of refused) {
      expect(answer).toMatchObject({ status: 429, body: { errcode: 'M_LIMIT_EXCEEDED', retry_after_ms: 60_000 } })
    }
    await delayMessage(bob, 60_000, {})
    const [first] = await listed(alice)
    await act(first.delay_id, 'cancel')
    await delayMessage(alice, 60_000, {})
  })

  test.each([
    { why: 'too large', content: { a: 'x'.repeat(70_000) }, errcode: 'M_TOO_LARGE' },
    { why: 'no canonical JSON', content: { a: 1.5 }, errcode: 'M_BAD_JSON' },
  ])('what can be no event is refused at once: $why', async ({ content, errcode }) => {
    const path = `rooms/${room}/delayed_event/${type}/${txn()}`
    expect((await alice.ask('PUT', path, { delay_ms: 1000, content })).body).toMatchObject({ errcode })
    expect(await listed(alice)).toEqual([])
  })

  test('in a room that is not known: M_NOT_FOUND', async () => {
    const path = `rooms/!nowhere:hs1/delayed_event/${type}/${txn()}`
    expect(await alice.ask('PUT', path, { delay_ms: 1000, content: {} })).toMatchObject({ status: 404 })
  })
})

describe('MSC4140 managing scheduled delayed events', () => {
  test('cancelled, it is never sent; again is the same, and sending it a conflict', async () => {
    const id = await delayState(alice, 'never', 1000)
    expect(await act(id, 'cancel')).toEqual({ status: 200, body: {} })
    expect(await act(id, 'cancel')).toEqual({ status: 200, body: {} })
    for (const action of ['send', 'restart']) {
      expect(await act(id, action)).toMatchObject({ status: 409, body: { errcode: 'M_UNKNOWN' } })
    }
    clock.advance(2_000)
    expect(await one(alice, id)).toMatchObject({ finalised_ts: expect.any(Number) })
    expect(await one(alice, id)).not.toHaveProperty('event_id')
    expect(await state('never')).toBe(undefined)
  })

  test('restarted, it is due as long again after that', async () => {
    const id = await delayState(alice, 'restarted', 1500)
    clock.advance(1000)
    expect(await act(id, 'restart')).toEqual({ status: 200, body: {} })
    clock.advance(1000)
    expect(await listed(alice)).toMatchObject([{ delay_id: id, running_since: clock.now() - 1000, delay: 1500 }])
    clock.advance(499)
    expect(await state('restarted')).toBe(undefined)
    clock.advance(1)
    await soon(() => state('restarted')).toEqual({ by: alice.user_id })
  })

  test('sent on request, once; again is the same, and cancelling it a conflict', async () => {
    const id = await delayState(alice, 'request', 1000)
    await Promise.all(Array.from({ length: 5 }, async () => expect((await act(id, 'send')).status).toBe(200)))
    expect(await state('request')).toEqual({ by: alice.user_id })
    for (const action of ['cancel', 'restart']) expect((await act(id, action)).status).toBe(409)
    clock.advance(2_000)
    const { event_id, finalised_ts } = await one(alice, id)
    expect(finalised_ts).toBeLessThan(clock.now() - 999)
    expect((await sent(alice)).map((event) => event.event_id)).toEqual([event_id])
  })

  test('of a send, a cancel and a restart at the same time one comes true, and the answers say which', async () => {
    for (let round = 0; round < 20; round++) {
      const id = await delayMessage(alice, 5_000, { round })
      const [send, cancel] = await Promise.all([act(id, 'send'), act(id, 'cancel')])
      expect([send.status, cancel.status].toSorted()).toEqual([200, 409])
      const events = (await sent(alice)).filter((event) => event.content.round === round)
      expect(events).toHaveLength(send.status === 200 ? 1 : 0)
    }
    expect(await listed(alice)).toEqual([])
  })

  test('the earlier form, with the action in the body', async () => {
    const id = await delayState(alice, 'body', 1000)
    const path = `${unstable}/delayed_events/${id}`
    expect(await server.ask('POST', path, {})).toMatchObject({ status: 400 })
    expect(await server.ask('POST', path, { action: 'oops' })).toMatchObject({ status: 400 })
    expect(await server.ask('POST', path, { action: 'send' })).toMatchObject({ status: 200 })
    expect(await state('body')).toEqual({ by: alice.user_id })
  })

  test('whose id is not known, or another user’s, is not found; the stable endpoints ask for a token', async () => {
    const id = await delayState(alice, 'mine', 1000)
    for (const action of ['send', 'cancel', 'restart']) {
      const notFound = { status: 404, body: { errcode: 'M_NOT_FOUND' } }
      expect(await act('abc', action)).toMatchObject(notFound)
      expect(await act(id, action, bob)).toMatchObject(notFound)
      expect((await server.ask('POST', `${v1}/delayed_events/${id}/${action}`)).status).toBe(401)
    }
    expect(await act(id, 'oops')).toMatchObject({ status: 404, body: { errcode: 'M_UNRECOGNIZED' } })
    expect((await bob.ask('GET', `${v1}/delayed_events/${id}`)).status).toBe(404)
    expect((await server.ask('GET', `${v1}/delayed_events`)).status).toBe(401)
    expect((await alice.ask('POST', `${v1}/delayed_events/${id}/send`)).status).toBe(200)
  })
})

describe('MSC4140 additional homeserver behaviour', () => {
  test('the sender is told which delayed event it was, and nobody else', async () => {
    const id = await delayMessage(alice, 100, { n: 1 })
    const since = (await alice.sync()).next_batch
    const other = (await bob.sync()).next_batch
    clock.advance(100)
    await soon(() => listed(alice)).toEqual([])
    const told = { delay_id: id, 'org.matrix.msc4140.delay_id': id }
    const last = (body: Json) => body.rooms.join[room].timeline.events.at(-1)
    expect(last(await alice.sync({ since })).unsigned).toMatchObject(told)
    expect(last(await bob.sync({ since: other })).unsigned).not.toHaveProperty('delay_id')
    expect((await sent(alice))[0].unsigned).toMatchObject(told)
    expect((await sent(bob))[0].unsigned).not.toHaveProperty('delay_id')
  })

  test('power levels count when it is sent: what is refused then is over, with the error', async () => {
    const id = await delayMessage(bob, 1000, { n: 1 })
    await alice.must('POST', `rooms/${room}/kick`, { user_id: bob.user_id })
    expect(await act(id, 'send')).toMatchObject({ status: 403, body: { errcode: 'M_FORBIDDEN' } })
    expect(await listed(bob)).toHaveLength(1)
    clock.advance(1000)
    await soon(() => listed(bob)).toEqual([])
    expect(await one(bob, id)).toMatchObject({ error: { errcode: 'M_FORBIDDEN' }, finalised_ts: clock.now() })
    expect(await act(id, 'cancel', bob)).toEqual({ status: 200, body: {} })
  })

  test('state that somebody else sets cancels what was to set it; state of one’s own does not', async () => {
    const own = await delayState(alice, 'same', 1000, { later: true })
    const other = await delayState(alice, 'other', 1000, { later: true })
    const theirs = await delayState(alice, 'theirs', 1000, { later: true })
    await alice.must('PUT', `rooms/${room}/state/${type}/same`, { now: true })
    await bob.must('PUT', `rooms/${room}/state/${type}/theirs`, { now: true })
    expect((await listed(alice)).map((event) => event.delay_id)).toEqual([own, other])
    expect(await one(alice, theirs)).toMatchObject({ finalised_ts: expect.any(Number) })
    clock.advance(1000)
    await soon(() => state('same')).toEqual({ later: true })
    await soon(() => state('other')).toEqual({ later: true })
    expect(await state('theirs')).toEqual({ now: true })
  })

  test('a message of one key does not cancel state of another room', async () => {
    const id = await delayState(alice, 'here', 1000)
    const elsewhere = await bob.must('POST', 'createRoom', {})
    await bob.must('PUT', `rooms/${elsewhere.room_id}/state/${type}/here`, {})
    expect((await listed(alice)).map((event) => event.delay_id)).toEqual([id])
  })

  test('state that is so already is not sent again, and the event that made it so stands for it', async () => {
    const { event_id } = await alice.must('PUT', `rooms/${room}/state/${type}/so`, { so: 1 })
    const id = await delayState(alice, 'so', 100, { so: 1 })
    clock.advance(100)
    await soon(() => one(alice, id)).toMatchObject({ event_id })
    expect((await sent(alice)).map((event) => event.unsigned.delay_id)).toEqual([undefined])
  })

  test('of a user, the last hundred are kept that were sent or cancelled', async () => {
    for (let n = 0; n < 105; n++) await act(await delayMessage(alice, 1000, { n }), 'cancel')
    const rows = await server.main.database.sql`
      select from delayed_events where user_id = ${alice.user_id} and finalised_ts is not null`
    expect(rows.length).toBeLessThanOrEqual(101)
  })

  test('who is deactivated sends nothing any more', async () => {
    const carol = await server.register('carol')
    await carol.must('POST', `rooms/${room}/join`, {})
    await delayMessage(carol, 1000, {})
    await server.main.commands.deactivateAccount({ user_id: carol.user_id, erase: false })
    clock.advance(1000)
    expect(await server.main.database.sql`select from delayed_events where user_id = ${carol.user_id}`).toHaveLength(0)
    expect(await sent(alice)).toEqual([])
  })
})

test('what became due while the server was down is sent when it is back', async () => {
  const first = await delayMessage(alice, 1000, { n: 1 })
  const second = await delayMessage(alice, 5000, { n: 2 })
  await server.main.close()
  clock.advance(1000)
  const again = await server.main.restarted()
  const { sql } = server.main.database
  const left = async () =>
    (await sql<{ delay_id: string }[]>`select delay_id from delayed_events where finalised_ts is null`).map(
      (row) => row.delay_id,
    )
  await soon(left).toEqual([second])
  clock.advance(4000)
  await soon(left).toEqual([])
  const rows = await sql<{ delay_id: string }[]>`
    select delay_id from events where type = ${type} and delay_id is not null order by position desc limit 2`
  expect(rows.map((row) => row.delay_id)).toEqual([second, first])
  await again.close()
})
