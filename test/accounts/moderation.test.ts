/** client-server-api/#account-moderation */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { fakeClock } from '../../shared/clock.ts'
import { type ClientServer, clientServer, password, type TestClient } from '../support/client-server.ts'

const clock = fakeClock()
let server: ClientServer
let admin: TestClient
let other: TestClient
let alice: TestClient
let bob: TestClient
let room: string
let count = 0

beforeAll(async () => {
  server = await clientServer({ clock })
  admin = await server.register('admin', { admin: true })
  other = await server.register('otheradmin', { admin: true })
  bob = await server.register('bob')
})
beforeEach(async () => {
  alice = await server.register(`alice${++count}`)
  room = (await alice.must('POST', 'createRoom', { preset: 'public_chat' })).room_id
})
afterAll(() => server.close())

const path = (what: string, user: { user_id: string }) => `/_matrix/client/v1/admin/${what}/${user.user_id}`
const suspend = (suspended: boolean) => admin.must('PUT', path('suspend', alice), { suspended })
const lock = (locked: boolean) => admin.must('PUT', path('lock', alice), { locked })
const suspended = { status: 403, body: { errcode: 'M_USER_SUSPENDED' } }
const locked = { status: 401, body: { errcode: 'M_USER_LOCKED', soft_logout: true } }

describe.each([
  { what: 'suspend', key: 'suspended' },
  { what: 'lock', key: 'locked' },
])('client-server-api/#account-moderation: $what', ({ what, key }) => {
  test('set, read and taken back', async () => {
    expect(await admin.must('GET', path(what, alice))).toEqual({ [key]: false })
    for (const on of [true, true, false]) {
      expect(await admin.must('PUT', path(what, alice), { [key]: on })).toEqual({ [key]: on })
      expect(await admin.must('GET', path(what, alice))).toEqual({ [key]: on })
    }
  })

  test('for administrators alone, whoever it is about', async () => {
    for (const target of [alice, { user_id: '@nobody:hs1' }, { user_id: '@a:elsewhere.org' }]) {
      const forbidden = { status: 403, body: { errcode: 'M_FORBIDDEN' } }
      expect(await bob.ask('GET', path(what, target))).toMatchObject(forbidden)
      expect(await bob.ask('PUT', path(what, target), { [key]: true })).toMatchObject(forbidden)
    }
  })

  test('not for administrators, nor oneself', async () => {
    expect((await admin.ask('PUT', path(what, other), { [key]: true })).status).toBe(403)
    expect((await admin.ask('GET', path(what, other))).status).toBe(403)
    expect((await admin.ask('PUT', path(what, admin), { [key]: true })).status).toBe(403)
    expect((await admin.must('GET', path(what, admin)))[key]).toBe(false)
  })

  test('of this server, and of who is there', async () => {
    const elsewhere = { status: 400, body: { errcode: 'M_INVALID_PARAM' } }
    const nobody = { status: 404, body: { errcode: 'M_NOT_FOUND' } }
    const gone = await server.register(`gone${++count}`)
    await server.main.commands.deactivateAccount({ user_id: gone.user_id, erase: false })
    for (const [target, expected] of [
      [{ user_id: '@a:elsewhere.org' }, elsewhere],
      [{ user_id: '@nobody:hs1' }, nobody],
      [gone, nobody],
    ] as const) {
      expect(await admin.ask('GET', path(what, target))).toMatchObject(expected)
      expect(await admin.ask('PUT', path(what, target), { [key]: true })).toMatchObject(expected)
    }
    expect(await admin.ask('PUT', path(what, alice), {})).toMatchObject({ body: { errcode: 'M_MISSING_PARAM' } })
  })
})

test('client-server-api/#capabilities-negotiation: administrators are told that they may', async () => {
  const of = async (user: TestClient) => (await user.must('GET', 'capabilities')).capabilities['m.account_moderation']
  expect(await of(admin)).toEqual({ suspend: true, lock: true })
  expect(await of(alice)).toBe(undefined)
})

describe('client-server-api/#account-locking', () => {
  test('everything is M_USER_LOCKED with soft_logout, and the session is there when the lock is lifted', async () => {
    await lock(true)
    for (const where of ['sync', 'account/whoami', 'capabilities', `rooms/${room}/messages?dir=b`, 'publicRooms']) {
      expect(await alice.ask('GET', where), where).toMatchObject(locked)
    }
    expect(await alice.ask('PUT', `rooms/${room}/send/m.room.message/t1`, {})).toMatchObject(locked)
    await lock(false)
    expect(await alice.must('GET', 'account/whoami')).toMatchObject({ user_id: alice.user_id })
  })

  test('no further session is opened, and none refreshed', async () => {
    const identifier = { type: 'm.id.user', user: alice.user_id }
    const login = { type: 'm.login.password', identifier, password, refresh_token: true }
    const { refresh_token } = (await server.ask('POST', 'login', login)).body
    const { login_token } = await server.main.commands.createLoginToken({ user_id: alice.user_id })
    await lock(true)
    expect(await server.ask('POST', 'login', login)).toMatchObject(locked)
    expect(await server.ask('POST', 'login', { type: 'm.login.token', token: login_token })).toMatchObject(locked)
    expect(await server.ask('POST', 'refresh', { refresh_token })).toMatchObject(locked)
    // Who does not know the password learns nothing.
    expect(await server.ask('POST', 'login', { ...login, password: 'guessed' })).toMatchObject({ status: 403 })
    await lock(false)
    expect((await server.ask('POST', 'refresh', { refresh_token })).status).toBe(200)
    expect((await server.ask('POST', 'login', { type: 'm.login.token', token: login_token })).status).toBe(200)
  })

  test.each(['logout', 'logout/all'])('POST /%s is open', async (end) => {
    await lock(true)
    expect(await alice.ask('POST', end)).toEqual({ status: 200, body: {} })
    await lock(false)
    expect(await alice.ask('GET', 'account/whoami')).toMatchObject({ body: { errcode: 'M_UNKNOWN_TOKEN' } })
  })

  test('who waits in a sync is answered at once', async () => {
    const { next_batch } = await alice.sync()
    const waiting = alice.sync({ since: next_batch, timeout: 30_000 })
    await lock(true)
    expect((await waiting).rooms?.join).toBe(undefined)
    expect(await alice.ask('GET', `sync?since=${next_batch}`)).toMatchObject(locked)
  })
})

describe('client-server-api/#account-suspension', () => {
  const roomOfBob = async () => (await bob.must('POST', 'createRoom', { preset: 'public_chat' })).room_id
  const txn = () => `t${++count}`

  test('the recommended set of forbidden actions', async () => {
    const theirs = await roomOfBob()
    const knockable = await bob.must('POST', 'createRoom', {
      initial_state: [{ type: 'm.room.join_rules', state_key: '', content: { join_rule: 'knock' } }],
    })
    await suspend(true)
    for (const [method, where, body] of [
      ['POST', `join/${theirs}`, {}],
      ['POST', `rooms/${theirs}/join`, {}],
      ['POST', `knock/${knockable.room_id}`, {}],
      ['POST', `rooms/${room}/invite`, { user_id: bob.user_id }],
      ['PUT', `rooms/${room}/send/m.room.message/${txn()}`, { body: 'x' }],
      ['PUT', `rooms/${room}/send/m.room.message/${txn()}?org.matrix.msc4140.delay=1000`, { body: 'x' }],
      ['PUT', `rooms/${room}/delayed_event/m.room.message/${txn()}`, { delay_ms: 1, content: {} }],
      ['PUT', `rooms/${room}/state/m.room.topic`, { topic: 'x' }],
      ['PUT', `profile/${alice.user_id}/displayname`, { displayname: 'x' }],
      ['DELETE', `profile/${alice.user_id}/avatar_url`, undefined],
      ['POST', 'createRoom', {}],
    ] as const) {
      expect(await alice.ask(method, where, body), where).toMatchObject(suspended)
    }
    await suspend(false)
    await alice.must('POST', `join/${theirs}`, {})
  })

  test('what should be allowed still is', async () => {
    const { event_id } = await alice.must('PUT', `rooms/${room}/send/m.room.message/${txn()}`, { body: 'x' })
    const second = await alice.must('PUT', `rooms/${room}/send/m.room.message/${txn()}`, { body: 'y' })
    const invited = await roomOfBob()
    await bob.must('POST', `rooms/${invited}/invite`, { user_id: alice.user_id })
    await suspend(true)
    await alice.sync()
    await alice.must('GET', `rooms/${room}/messages?dir=b`)
    await alice.must('PUT', `rooms/${room}/redact/${event_id}/${txn()}`, {})
    await alice.must('PUT', `rooms/${room}/send/m.room.redaction/${txn()}`, { redacts: second.event_id })
    await alice.must('POST', `rooms/${invited}/leave`, {})
    await alice.must('POST', `rooms/${room}/leave`, {})
    await alice.must('PUT', `sendToDevice/m.key.verification.request/${txn()}`, { messages: {} })
    await alice.must('POST', 'room_keys/version', { algorithm: 'a', auth_data: {} })
    const further = await server.login(alice.user_id)
    expect(await further.ask('POST', 'createRoom', {})).toMatchObject(suspended)
    await further.must('POST', 'logout')
  })

  test('redacting the events of others is not', async () => {
    await bob.must('POST', `join/${room}`, {})
    const { event_id } = await bob.must('PUT', `rooms/${room}/send/m.room.message/${txn()}`, { body: 'x' })
    await suspend(true)
    expect(await alice.ask('PUT', `rooms/${room}/redact/${event_id}/${txn()}`, {})).toMatchObject(suspended)
    const path = `rooms/${room}/send/m.room.redaction/${txn()}`
    expect(await alice.ask('PUT', path, { redacts: event_id })).toMatchObject(suspended)
    await suspend(false)
    await alice.must('PUT', `rooms/${room}/redact/${event_id}/${txn()}`, {})
  })

  test.each([
    { what: 'suspended', set: suspend, errcode: 'M_USER_SUSPENDED' },
    { what: 'locked', set: lock, errcode: 'M_USER_LOCKED' },
  ])('what was scheduled before is not sent while $what', async ({ set, errcode }) => {
    const where = `rooms/${room}/send/m.room.message/${txn()}?org.matrix.msc4140.delay=1000`
    const { delay_id } = await alice.must('PUT', where, { body: 'late' })
    await set(true)
    clock.advance(1000)
    const { sql } = server.main.database
    const error = async () =>
      (await sql<{ error: string | null }[]>`select error from delayed_events where delay_id = ${delay_id}`)[0]?.error
    await expect.poll(error, { timeout: 5_000, interval: 10 }).toContain(errcode)
    await set(false)
  })
})
