/** client-server-api/#guest-access: what guests may do, that they leave where they are not wanted any more, and how a guest
 *  becomes a user. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { clientRoutes } from '../../functions/client/routes.ts'
import { syncRoutes } from '../../functions/sync/routes.ts'
import { type ClientServer, clientServer, type TestClient } from '../support/client-server.ts'

/** As the module lists them; media aside, which no role serves yet. */
const listed = new Set([
  'GET /_matrix/client/v3/rooms/:roomId/state',
  'GET /_matrix/client/v3/rooms/:roomId/context/:eventId',
  'GET /_matrix/client/v3/rooms/:roomId/event/:eventId',
  'GET /_matrix/client/v3/rooms/:roomId/state/:eventType',
  'GET /_matrix/client/v3/rooms/:roomId/state/:eventType/*',
  'GET /_matrix/client/v3/rooms/:roomId/messages',
  'GET /_matrix/client/v3/rooms/:roomId/members',
  'GET /_matrix/client/v3/rooms/:roomId/initialSync',
  'GET /_matrix/client/v3/sync',
  'GET /_matrix/client/v3/events',
  'POST /_matrix/client/v3/rooms/:roomId/join',
  'POST /_matrix/client/v3/rooms/:roomId/leave',
  'PUT /_matrix/client/v3/rooms/:roomId/send/:eventType/:txnId',
  'PUT /_matrix/client/v3/rooms/:roomId/state/:eventType',
  'PUT /_matrix/client/v3/rooms/:roomId/state/:eventType/*',
  'PUT /_matrix/client/v3/sendToDevice/:eventType/:txnId',
  'PUT /_matrix/client/v3/profile/:userId/:keyName',
  'DELETE /_matrix/client/v3/profile/:userId/:keyName',
  'GET /_matrix/client/v3/devices',
  'GET /_matrix/client/v3/devices/:deviceId',
  'PUT /_matrix/client/v3/devices/:deviceId',
  'GET /_matrix/client/v3/account/whoami',
  'POST /_matrix/client/v3/keys/upload',
  'POST /_matrix/client/v3/keys/query',
  'POST /_matrix/client/v3/keys/claim',
])

/** What the module does not list, and why guests have it all the same. */
const further: Readonly<Record<string, string>> = {
  'POST /_matrix/client/v3/join/:roomIdOrAlias': 'the same as joining by id',
  'POST /_matrix/client/v3/logout': 'a session that cannot be ended is a danger',
  'POST /_matrix/client/v3/logout/all': 'a session that cannot be ended is a danger',
  'GET /_matrix/client/v3/capabilities': 'says what one may do',
  'GET /_matrix/client/v3/voip/turnServer': 'as the configuration says: turn.allow_guests',
  'POST /_matrix/client/v3/publicRooms': 'GET is open to who has no token at all',
  'POST /_matrix/client/unstable/org.matrix.simplified_msc3575/sync': 'another form of /sync',
  'PUT /_matrix/client/unstable/uk.tcpip.msc4133/profile/:userId/:keyName': 'another name of the same',
  'DELETE /_matrix/client/unstable/uk.tcpip.msc4133/profile/:userId/:keyName': 'another name of the same',
}
const isDelayedEvents = (path: string) => path.includes('/delayed_event')

describe('client-server-api/#client-behaviour-23: the routes of guests', () => {
  const all = [...clientRoutes, ...syncRoutes].map(({ method, path, auth }) => ({
    name: `${method} ${path}`,
    path,
    auth,
  }))

  test('the list names routes that there are', () => {
    const served = new Set(all.map(({ name }) => name))
    expect([...listed, ...Object.keys(further)].filter((name) => !served.has(name))).toEqual([])
  })

  test.each(all.filter(({ auth }) => auth !== 'none' && auth !== 'optional'))('$name', ({ name, path, auth }) => {
    // MSC4140, "Guest accounts": all of its endpoints are open to them.
    const open = listed.has(name) || name in further || isDelayedEvents(path)
    expect(auth === 'guest').toBe(open)
  })
})

describe('client-server-api/#guest-access', () => {
  let server: ClientServer
  let alice: TestClient
  beforeAll(async () => {
    server = await clientServer({ config: { registration: { enabled: true, guests: true } } })
    alice = await server.register('alice')
  })
  afterAll(() => server.close())

  async function guest(): Promise<TestClient> {
    const { status, body } = await server.ask('POST', 'register?kind=guest', { initial_device_display_name: 'Tab' })
    expect(status).toBe(200)
    return server.client(body)
  }
  async function openRoom(): Promise<string> {
    const initial_state = [{ type: 'm.room.guest_access', state_key: '', content: { guest_access: 'can_join' } }]
    return (await alice.must('POST', 'createRoom', { preset: 'public_chat', initial_state })).room_id
  }
  const membership = async (room: string, user: TestClient) =>
    (await alice.must('GET', `rooms/${room}/state/m.room.member/${user.user_id}`)).membership

  test('of what a guest sends at registration, the name of the device alone counts', async () => {
    const body = { username: 'chosen', password: 'superuser', device_id: 'CHOSEN', refresh_token: true }
    const made = await server.ask('POST', 'register?kind=guest', { ...body, initial_device_display_name: 'Tab' })
    expect(made).toMatchObject({ status: 200 })
    expect(made.body.user_id).not.toContain('chosen')
    expect(made.body.device_id).not.toBe('CHOSEN')
    expect(made.body).not.toHaveProperty('refresh_token')
    const { devices } = await server.client(made.body).must('GET', 'devices')
    expect(devices).toMatchObject([{ display_name: 'Tab' }])
  })

  test('a guest joins, reads, sends, and may change nothing but the name', async () => {
    const someone = await guest()
    const room = await openRoom()
    await someone.must('POST', `rooms/${room}/join`, {})
    await someone.must('PUT', `rooms/${room}/send/org.any/t1`, { body: 'hi' })
    await someone.must('PUT', `profile/${someone.user_id}/displayname`, { displayname: 'Visitor' })
    await someone.must('DELETE', `profile/${someone.user_id}/displayname`)
    const forbidden = { status: 403, body: { errcode: 'M_GUEST_ACCESS_FORBIDDEN' } }
    expect(
      await someone.ask('PUT', `profile/${someone.user_id}/avatar_url`, { avatar_url: 'mxc://hs1/a' }),
    ).toMatchObject(forbidden)
    expect(await someone.ask('POST', 'createRoom', {})).toMatchObject(forbidden)
    expect(await someone.ask('POST', `rooms/${room}/invite`, { user_id: alice.user_id })).toMatchObject(forbidden)
    const closed = (await alice.must('POST', 'createRoom', { preset: 'public_chat' })).room_id
    expect(await someone.ask('POST', `rooms/${closed}/join`, {})).toMatchObject(forbidden)
    expect(await someone.ask('POST', `join/${closed}`, {})).toMatchObject(forbidden)
  })

  test.each(['forbidden', 'anything else'])('guests leave when the room says %s', async (guest_access) => {
    const [someone, room] = [await guest(), await openRoom()]
    await someone.must('POST', `rooms/${room}/join`, {})
    await alice.must('PUT', `rooms/${room}/state/m.room.guest_access`, { guest_access })
    expect(await membership(room, someone)).toBe('leave')
    expect(await membership(room, alice)).toBe('join')
  })

  test('guests leave when what let them in is redacted', async () => {
    const [someone, room] = [await guest(), await openRoom()]
    await someone.must('POST', `rooms/${room}/join`, {})
    const state = await alice.must('GET', `rooms/${room}/state`)
    const { event_id } = state.find((event: { type: string }) => event.type === 'm.room.guest_access')
    await alice.must('PUT', `rooms/${room}/redact/${event_id}/t1`, {})
    expect(await membership(room, someone)).toBe('leave')
    expect((await someone.ask('POST', `rooms/${room}/join`, {})).status).toBe(403)
  })

  test('guests stay where another message is redacted', async () => {
    const [someone, room] = [await guest(), await openRoom()]
    await someone.must('POST', `rooms/${room}/join`, {})
    const { event_id } = await alice.must('PUT', `rooms/${room}/send/m.room.message/t1`, { body: 'x' })
    await alice.must('PUT', `rooms/${room}/redact/${event_id}/t2`, {})
    expect(await membership(room, someone)).toBe('join')
  })

  describe('an upgrade to a full account', () => {
    const localpart = (user: TestClient) => user.user_id.slice(1).split(':')[0]
    const upgrade = (user: TestClient, more: object = {}) =>
      server.ask('POST', 'register', {
        username: localpart(user),
        password: 'superuser',
        guest_access_token: user.token,
        auth: { type: 'm.login.dummy' },
        ...more,
      })

    test('the account stays, its sessions are a user’s, and a password opens further ones', async () => {
      const someone = await guest()
      const room = await openRoom()
      await someone.must('POST', `rooms/${room}/join`, {})
      expect((await someone.must('GET', 'account/whoami')).is_guest).toBe(true)
      const { status, body } = await upgrade(someone)
      expect(status).toBe(200)
      expect(body.user_id).toBe(someone.user_id)
      for (const session of [someone, server.client(body), await server.login(someone.user_id)]) {
        expect(await session.must('GET', 'account/whoami')).toMatchObject({ is_guest: false })
        await session.must('GET', 'joined_rooms')
      }
      await alice.must('PUT', `rooms/${room}/state/m.room.guest_access`, { guest_access: 'forbidden' })
      expect(await membership(room, someone)).toBe('join')
      expect(await upgrade(someone)).toMatchObject({ status: 403 })
    })

    test('by the guest’s own token and name alone', async () => {
      const [someone, other] = [await guest(), await guest()]
      const forbidden = { status: 403, body: { errcode: 'M_FORBIDDEN' } }
      expect(await upgrade(someone, { username: localpart(other) })).toMatchObject(forbidden)
      expect(await upgrade(someone, { username: undefined })).toMatchObject(forbidden)
      expect(await upgrade(someone, { guest_access_token: alice.token, username: 'alice' })).toMatchObject(forbidden)
      expect(await upgrade(someone, { guest_access_token: 'made up' })).toMatchObject(forbidden)
      expect((await someone.must('GET', 'account/whoami')).is_guest).toBe(true)
    })

    test('two at once make one account with one password', async () => {
      const someone = await guest()
      const answers = await Promise.all([upgrade(someone), upgrade(someone)])
      expect(answers.filter(({ status }) => status === 200)).toHaveLength(1)
    })
  })
})
