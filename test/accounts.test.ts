/** client-server-api: registration, login, sessions, devices, passwords, profiles. */
import { createHmac } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest'
import { type AccountServer, accountServer, passwordAuth } from './support/account-server.ts'

let hs: AccountServer
const memberProfileChanged = vi.fn(async () => {})
beforeAll(async () => {
  hs = await accountServer({}, { memberProfileChanged })
})
afterAll(async () => {
  await hs.close()
  expect(hs.logged).toEqual([])
})

const dummy = { type: 'm.login.dummy' }

describe('registration', () => {
  test('the first answer names the flows and is no error', async () => {
    const { status, body } = await hs.call('POST', 'register', { body: {} })
    expect(status).toBe(401)
    expect(body).toEqual({
      flows: [{ stages: ['m.login.dummy'] }],
      params: {},
      session: expect.any(String),
      completed: [],
    })
  })
  test('a session leads to an account', async () => {
    const wish = { username: 'Übers', password: 'übers3kr1t', device_id: 'xyzzy', initial_device_display_name: 'name' }
    expect((await hs.call('POST', 'register', { body: wish })).body.errcode).toBe('M_INVALID_USERNAME')
    const first = await hs.call('POST', 'register', { body: { ...wish, username: 'Ubers' } })
    const { status, body } = await hs.call('POST', 'register', {
      body: { ...wish, username: 'Ubers', auth: { ...dummy, session: first.body.session } },
    })
    expect({ status, body }).toMatchObject({
      status: 200,
      body: {
        user_id: '@ubers:hs1',
        device_id: 'xyzzy',
        access_token: expect.stringMatching(/^gat_[0-9a-f]{6}_.{32}_[0-9a-f]{8}$/),
      },
    })
    const device = await hs.call('GET', 'devices/xyzzy', { token: body.access_token })
    expect(device.body).toMatchObject({ device_id: 'xyzzy', display_name: 'name' })
    expect((await hs.login('ubers', 'übers3kr1t')).status).toBe(200)
  })
  test.each([
    { why: 'a comma', body: { username: 'a,b', password: 'superuser' }, status: 400, errcode: 'M_INVALID_USERNAME' },
    { why: 'a leading underscore', body: { username: '_a' }, status: 400, errcode: 'M_INVALID_USERNAME' },
    { why: 'an empty name', body: { username: '' }, status: 400, errcode: 'M_INVALID_USERNAME' },
    { why: 'a long name', body: { username: 'x'.repeat(252) }, status: 400, errcode: 'M_INVALID_USERNAME' },
    { why: 'a name that is no string', body: { username: 5 }, status: 400, errcode: 'M_BAD_JSON' },
    { why: 'a short password', body: { username: 'short', password: 'abc' }, status: 400, errcode: 'M_WEAK_PASSWORD' },
    { why: 'no password', body: { username: 'nopw', auth: dummy }, status: 400, errcode: 'M_MISSING_PARAM' },
    {
      why: 'a stage that is not offered',
      body: { auth: { type: 'm.login.password' } },
      status: 401,
      errcode: 'M_UNRECOGNIZED',
    },
    { why: 'an array', body: [], status: 400, errcode: 'M_BAD_JSON' },
  ])('$why is refused', async ({ body, status, errcode }) => {
    expect(await hs.call('POST', 'register', { body })).toMatchObject({ status, body: { errcode } })
  })
  test('a name is given once', async () => {
    await hs.register('once')
    const again = { username: 'ONCE', password: 'superuser', auth: dummy }
    expect(await hs.call('POST', 'register', { body: again })).toMatchObject({
      status: 400,
      body: { errcode: 'M_USER_IN_USE' },
    })
    expect((await hs.call('GET', 'register/available?username=once')).body.errcode).toBe('M_USER_IN_USE')
    expect((await hs.call('GET', 'register/available?username=free')).body).toEqual({ available: true })
    expect((await hs.call('GET', 'register/available')).body.errcode).toBe('M_MISSING_PARAM')
  })
  test('of two at once one gets the name', async () => {
    const body = { username: 'race', password: 'superuser', auth: dummy }
    const answers = await Promise.all([hs.call('POST', 'register', { body }), hs.call('POST', 'register', { body })])
    expect(answers.map((answer) => answer.status).sort()).toEqual([200, 400])
  })
  test('inhibit_login opens no session', async () => {
    const body = { username: 'inhibited', password: 'superuser', inhibit_login: true, auth: dummy }
    const answer = await hs.call('POST', 'register', { body })
    expect(answer.status).toBe(200)
    expect(answer.body).not.toHaveProperty('access_token')
    expect(answer.body).not.toHaveProperty('device_id')
  })
  test('a guest can ask who it is, and no more than guests may', async () => {
    const guest = await hs.call('POST', 'register?kind=guest', { body: {} })
    expect(guest.status).toBe(200)
    const token = guest.body.access_token
    expect((await hs.call('GET', 'account/whoami', { token })).body.is_guest).toBe(true)
    expect(await hs.call('POST', 'account/deactivate', { token })).toMatchObject({
      status: 403,
      body: { errcode: 'M_GUEST_ACCESS_FORBIDDEN' },
    })
  })
})

describe('registration by shared secret', () => {
  const path = '/_synapse/admin/v1/register'
  async function register(username: string, admin: boolean, change: object = {}) {
    const nonce = String((await hs.call('GET', path)).body.nonce)
    const parts = [nonce, username, 'sUp3rs3kr1t', admin ? 'admin' : 'notadmin']
    const mac = createHmac('sha1', 'complement').update(parts.join('\0')).digest('hex')
    return hs.call('POST', path, { body: { nonce, username, password: 'sUp3rs3kr1t', admin, mac, ...change } })
  }
  test('makes administrators, who may look at others', async () => {
    const admin = await register('Admin-USER', true)
    expect(admin).toMatchObject({ status: 200, body: { user_id: '@admin-user:hs1' } })
    const alice = await hs.register('watched')
    const whois = `admin/whois/${alice.user_id}`
    expect((await hs.call('GET', whois, { token: admin.body.access_token })).body).toMatchObject({
      user_id: alice.user_id,
      devices: { [alice.device_id]: { sessions: [{ connections: [{ ip: '127.0.0.1' }] }] } },
    })
    expect((await hs.call('GET', whois, { token: alice.token })).status).toBe(200)
    expect(await hs.call('GET', 'admin/whois/@admin-user:hs1', { token: alice.token })).toMatchObject({ status: 403 })
  })
  test.each([
    { why: 'symbols', username: 'us,er', change: {}, status: 400, errcode: 'M_INVALID_USERNAME' },
    { why: 'a wrong HMAC', username: 'user-a', change: { mac: 'f'.repeat(40) }, status: 403, errcode: 'M_FORBIDDEN' },
    {
      why: 'an HMAC for a lesser account',
      username: 'user-b',
      change: { admin: true },
      status: 403,
      errcode: 'M_FORBIDDEN',
    },
    {
      why: 'a nonce of somebody else',
      username: 'user-c',
      change: { nonce: 'abc' },
      status: 400,
      errcode: 'M_UNKNOWN',
    },
  ])('$why is refused', async ({ username, change, status, errcode }) => {
    expect(await register(username, false, change)).toMatchObject({ status, body: { errcode } })
  })
})

describe('login', () => {
  beforeAll(() => hs.register('alice'))

  test('the flows are those that open a session', async () => {
    const { body } = await hs.call('GET', 'login')
    expect(body.flows).toEqual([{ type: 'm.login.password' }, { type: 'm.login.token', get_login_token: true }])
  })
  test.each(['alice', '@alice:hs1', 'ALICE', '@ALICE:hs1'])('as %s', async (user) => {
    const { status, body } = await hs.login(user, 'superuser')
    expect({ status, body }).toMatchObject({ status: 200, body: { user_id: '@alice:hs1', home_server: 'hs1' } })
    expect((await hs.call('GET', 'account/whoami', { token: body.access_token })).body).toEqual({
      user_id: '@alice:hs1',
      device_id: body.device_id,
      is_guest: false,
    })
  })
  test('by the deprecated key user', async () => {
    const body = { type: 'm.login.password', user: 'alice', password: 'superuser' }
    expect((await hs.call('POST', 'login', { body })).status).toBe(200)
    expect((await hs.call('POST', '/_matrix/client/r0/login', { body })).status).toBe(200)
  })
  test.each([
    { why: 'wrong password', body: { password: 'wrong' }, status: 403, errcode: 'M_FORBIDDEN' },
    { why: 'nobody', body: { identifier: { type: 'm.id.user', user: 'nobody' } }, status: 403, errcode: 'M_FORBIDDEN' },
    {
      why: 'another server',
      body: { identifier: { type: 'm.id.user', user: '@alice:hs2' } },
      status: 403,
      errcode: 'M_FORBIDDEN',
    },
    {
      why: 'U+0000',
      body: { identifier: { type: 'm.id.user', user: 'ali\0ce' } },
      status: 403,
      errcode: 'M_FORBIDDEN',
    },
    { why: 'no password', body: { password: undefined }, status: 400, errcode: 'M_MISSING_PARAM' },
    { why: 'no user', body: { identifier: undefined }, status: 400, errcode: 'M_MISSING_PARAM' },
    { why: 'no type', body: { type: undefined }, status: 400, errcode: 'M_MISSING_PARAM' },
    { why: 'unknown type', body: { type: 'm.login.unknown' }, status: 400, errcode: 'M_UNKNOWN' },
    { why: 'a stage of interactive auth', body: { type: 'm.login.dummy' }, status: 400, errcode: 'M_UNKNOWN' },
    {
      why: 'a stage in place of a login',
      body: { type: 'm.login.dummy', auth: dummy },
      status: 400,
      errcode: 'M_UNKNOWN',
    },
    { why: 'an unknown identifier', body: { identifier: { type: 'm.id.shoe' } }, status: 400, errcode: 'M_UNKNOWN' },
    { why: 'a token that is none', body: { type: 'm.login.token', token: 'x' }, status: 403, errcode: 'M_FORBIDDEN' },
  ])('$why gives no token', async ({ body, status, errcode }) => {
    const answer = await hs.call('POST', 'login', {
      body: {
        type: 'm.login.password',
        identifier: { type: 'm.id.user', user: 'alice' },
        password: 'superuser',
        ...body,
      },
    })
    expect(answer).toMatchObject({ status, body: { errcode } })
    expect(answer.body).not.toHaveProperty('access_token')
  })
  test('on a known device the former token ends, at once', async () => {
    const first = await hs.login('alice', 'superuser', { device_id: 'dev', initial_device_display_name: 'one' })
    expect((await hs.call('GET', 'account/whoami', { token: first.body.access_token })).status).toBe(200)
    const second = await hs.login('alice', 'superuser', { device_id: 'dev', initial_device_display_name: 'two' })
    expect(second.body.device_id).toBe('dev')
    expect(await hs.call('GET', 'account/whoami', { token: first.body.access_token })).toMatchObject({
      status: 401,
      body: { errcode: 'M_UNKNOWN_TOKEN', soft_logout: false },
    })
    const device = await hs.call('GET', 'devices/dev', { token: second.body.access_token })
    expect(device.body.display_name).toBe('one')
  })
  test('by a token made for it, once, after asking each time', async () => {
    const { token, user_id } = await hs.register('tokens')
    const path = '/_matrix/client/v1/login/get_token'
    expect((await hs.call('POST', path, { token, body: {} })).status).toBe(401)
    const made = await hs.call('POST', path, { token, body: { auth: passwordAuth('tokens', 'superuser') } })
    expect(made).toMatchObject({ status: 200, body: { expires_in_ms: 120_000 } })
    const body = { type: 'm.login.token', token: made.body.login_token }
    expect(await hs.call('POST', 'login', { body })).toMatchObject({ status: 200, body: { user_id } })
    expect((await hs.call('POST', 'login', { body })).status).toBe(403)
    const late = await hs.call('POST', path, { token, body: { auth: passwordAuth('tokens', 'superuser') } })
    hs.clock.advance(120_001)
    expect((await hs.call('POST', 'login', { body: { ...body, token: late.body.login_token } })).status).toBe(403)
  })
})

describe('access tokens', () => {
  test('missing and unknown ones', async () => {
    expect(await hs.call('GET', 'account/whoami')).toMatchObject({ status: 401, body: { errcode: 'M_MISSING_TOKEN' } })
    expect(await hs.call('GET', 'account/whoami', { token: 'x' })).toMatchObject({
      status: 401,
      body: { errcode: 'M_UNKNOWN_TOKEN', soft_logout: false },
    })
  })
  test('in the query', async () => {
    const { token } = await hs.register('query')
    expect((await hs.call('GET', `account/whoami?access_token=${token}`)).status).toBe(200)
  })
  test('logout ends one, logout/all ends all', async () => {
    const { token } = await hs.register('logout')
    const tokens = await Promise.all(
      Array.from({ length: 3 }, async () => (await hs.login('logout', 'superuser')).body.access_token),
    )
    const statuses = () =>
      Promise.all([token, ...tokens].map(async (t) => (await hs.call('GET', 'account/whoami', { token: t })).status))
    expect(await statuses()).toEqual([200, 200, 200, 200])
    expect(await hs.call('POST', 'logout', { token })).toMatchObject({ status: 200, body: {} })
    expect(await statuses()).toEqual([401, 200, 200, 200])
    expect((await hs.call('POST', 'logout/all', { token: tokens[0], body: {} })).status).toBe(200)
    expect(await statuses()).toEqual([401, 401, 401, 401])
  })
  test('when a device was seen is noted every few minutes', async () => {
    const { token, device_id } = await hs.register('seen')
    const seen = async () => (await hs.call('GET', `devices/${device_id}`, { token })).body.last_seen_ts
    const before = await seen()
    hs.clock.advance(60_000)
    expect(await seen()).toBe(before)
    hs.clock.advance(300_000)
    await seen()
    await vi.waitFor(async () => expect(await seen()).toBe(hs.clock.now()))
  })
})

describe('refresh', () => {
  const refreshable = { refresh_token: true }
  const refresh = async (refresh_token: unknown) => hs.call('POST', 'refresh', { body: { refresh_token } })
  const alive = async (token: unknown) => (await hs.call('GET', 'account/whoami', { token })).status === 200
  beforeAll(() => hs.register('fresh'))

  test('an access token expires, which is a soft logout', async () => {
    const { body } = await hs.login('fresh', 'superuser', refreshable)
    expect(body.expires_in_ms).toBe(300_000)
    expect(await alive(body.access_token)).toBe(true)
    hs.clock.advance(300_000)
    expect(await hs.call('GET', 'account/whoami', { token: body.access_token })).toMatchObject({
      status: 401,
      body: { errcode: 'M_UNKNOWN_TOKEN', soft_logout: true },
    })
    expect((await refresh(body.refresh_token)).status).toBe(200)
  })
  test('the old pair lives until the new access token is used', async () => {
    const old = (await hs.login('fresh', 'superuser', refreshable)).body
    const next = (await refresh(old.refresh_token)).body
    expect(await alive(old.access_token)).toBe(true)
    const repeat = (await refresh(old.refresh_token)).body
    expect(await alive(next.access_token)).toBe(false)
    expect((await refresh(next.refresh_token)).status).toBe(401)
    expect(await alive(old.access_token)).toBe(true)
    expect(await alive(repeat.access_token)).toBe(true)
    expect(await alive(old.access_token)).toBe(false)
    expect(await refresh(old.refresh_token)).toMatchObject({ status: 401, body: { errcode: 'M_UNKNOWN_TOKEN' } })
    expect((await refresh(repeat.refresh_token)).status).toBe(200)
  })
  test('the old pair ends when the new refresh token is used', async () => {
    const old = (await hs.login('fresh', 'superuser', refreshable)).body
    const second = (await refresh(old.refresh_token)).body
    const third = (await refresh(second.refresh_token)).body
    expect(await alive(old.access_token)).toBe(false)
    expect((await refresh(old.refresh_token)).status).toBe(401)
    expect(await alive(second.access_token)).toBe(true)
    expect(await alive(third.access_token)).toBe(true)
    expect(await alive(second.access_token)).toBe(false)
  })
  test.each(['', 'x', 5, null])('%j is no refresh token', async (token) => {
    expect((await refresh(token)).status).toBeGreaterThanOrEqual(400)
    expect((await refresh(token)).status).toBeLessThan(402)
  })
})

describe('devices', () => {
  test('are listed, renamed, deleted by their owner', async () => {
    const { token, user_id } = await hs.register('owner')
    const other = (await hs.login('owner', 'superuser', { device_id: 'other/one' })).body
    await hs.register('thief')
    const path = 'devices/other%2Fone'
    expect(await hs.call('GET', 'devices/unknown', { token })).toMatchObject({ status: 404 })
    expect(await hs.call('PUT', 'devices/unknown', { token, body: { display_name: 'x' } })).toMatchObject({
      status: 404,
    })
    expect(await hs.call('PUT', path, { token, body: { display_name: 'x\0y' } })).toMatchObject({ status: 200 })
    expect((await hs.call('GET', 'devices', { token })).body.devices).toContainEqual(
      expect.objectContaining({ device_id: 'other/one', display_name: 'x\0y' }),
    )

    const asked = await hs.call('DELETE', path, { token })
    expect(asked).toMatchObject({
      status: 401,
      body: { session: expect.any(String), flows: [{ stages: ['m.login.password'] }] },
    })
    expect(asked.body).not.toHaveProperty('errcode')
    const wrong = await hs.call('DELETE', path, { token, body: { auth: passwordAuth(user_id, 'wrong') } })
    expect(wrong).toMatchObject({
      status: 401,
      body: { errcode: 'M_FORBIDDEN', session: expect.any(String), params: {} },
    })
    const thief = await hs.call('DELETE', path, { token, body: { auth: passwordAuth('@thief:hs1', 'superuser') } })
    expect(thief).toMatchObject({ status: 403 })
    const elsewhere = { auth: passwordAuth(user_id, 'superuser', asked.body.session) }
    expect(await hs.call('DELETE', 'devices/another', { token, body: elsewhere })).toMatchObject({ status: 403 })
    expect((await hs.call('GET', path, { token })).status).toBe(200)
    expect(await hs.call('DELETE', path, { token, body: elsewhere })).toMatchObject({ status: 200, body: {} })
    expect((await hs.call('GET', path, { token })).status).toBe(404)
    expect((await hs.call('GET', 'account/whoami', { token: other.access_token })).status).toBe(401)
    // The session that was passed opens the same operation again, and nothing else.
    expect((await hs.call('DELETE', path, { token, body: { auth: { session: asked.body.session } } })).status).toBe(200)
  })
  test('several at once', async () => {
    const { token } = await hs.register('several')
    const made = await Promise.all(['a', 'b', 'c'].map((device_id) => hs.login('several', 'superuser', { device_id })))
    const body = { devices: ['a', 'b'], auth: passwordAuth('several', 'superuser') }
    expect((await hs.call('POST', 'delete_devices', { token, body })).status).toBe(200)
    const alive = made.map(
      async ({ body }) => (await hs.call('GET', 'account/whoami', { token: body.access_token })).status,
    )
    expect(await Promise.all(alive)).toEqual([401, 401, 200])
  })
})

describe('account', () => {
  test('a new password ends the other sessions, unless they are to stay', async () => {
    const { token } = await hs.register('changer')
    const other = async (password: string) => (await hs.login('changer', password)).body.access_token
    const alive = async (t: unknown) => (await hs.call('GET', 'account/whoami', { token: t })).status === 200
    const first = await other('superuser')
    const change = (from: string, to: string, more: object = {}) =>
      hs.call('POST', 'account/password', {
        token,
        body: { auth: passwordAuth('changer', from), new_password: to, ...more },
      })
    expect((await change('superuser', 'short')).body.errcode).toBe('M_WEAK_PASSWORD')
    expect((await change('superuser', 'second-password')).status).toBe(200)
    expect([await alive(token), await alive(first)]).toEqual([true, false])
    expect((await hs.login('changer', 'superuser')).status).toBe(403)
    const second = await other('second-password')
    expect((await change('second-password', 'third-password', { logout_devices: false })).status).toBe(200)
    expect([await alive(token), await alive(second)]).toEqual([true, true])
  })
  test('long passwords count to their end', async () => {
    const long = `${'p'.repeat(100)}a`
    await hs.register('longpw', long)
    expect((await hs.login('longpw', long)).status).toBe(200)
    expect((await hs.login('longpw', `${'p'.repeat(100)}b`)).status).toBe(403)
  })
  test('deactivation ends everything', async () => {
    const { token, user_id } = await hs.register('leaver')
    expect((await hs.call('POST', 'account/deactivate', { token })).status).toBe(401)
    const wrong = { auth: passwordAuth('leaver', 'wrong') }
    expect(await hs.call('POST', 'account/deactivate', { token, body: wrong })).toMatchObject({
      status: 401,
      body: { errcode: 'M_FORBIDDEN' },
    })
    const body = { auth: passwordAuth('leaver', 'superuser'), erase: true }
    expect(await hs.call('POST', 'account/deactivate', { token, body })).toMatchObject({
      status: 200,
      body: { id_server_unbind_result: 'success' },
    })
    expect((await hs.call('GET', 'account/whoami', { token })).status).toBe(401)
    expect(await hs.login('leaver', 'superuser')).toMatchObject({
      status: 403,
      body: { errcode: 'M_USER_DEACTIVATED' },
    })
    expect((await hs.call('GET', `profile/${user_id}`)).status).toBe(404)
    expect((await hs.call('GET', 'register/available?username=leaver')).body.errcode).toBe('M_USER_IN_USE')
  })
})

describe('profile', () => {
  test('is set by its owner, seen by all, and told to the rooms', async () => {
    const { token, user_id } = await hs.register('named')
    const put = (field: string, body: object) => hs.call('PUT', `profile/${user_id}/${field}`, { token, body })
    expect(await hs.call('GET', `profile/${user_id}`)).toMatchObject({ status: 200, body: {} })
    expect((await put('displayname', { displayname: 'Näme' })).status).toBe(200)
    expect((await put('avatar_url', { avatar_url: 'mxc://a/b' })).status).toBe(200)
    expect((await put('m.tz', { 'm.tz': 'Europe/London' })).status).toBe(200)
    expect(memberProfileChanged.mock.calls.slice(-2)).toEqual([
      [user_id, { displayname: 'Näme', avatar_url: undefined }],
      [user_id, { displayname: 'Näme', avatar_url: 'mxc://a/b' }],
    ])
    expect((await hs.call('GET', `profile/${user_id}/displayname`)).body).toEqual({ displayname: 'Näme' })
    expect((await put('displayname', { displayname: null })).status).toBe(200)
    expect((await hs.call('GET', `profile/${user_id}`)).body).toEqual({
      avatar_url: 'mxc://a/b',
      'm.tz': 'Europe/London',
    })
    expect((await hs.call('DELETE', `profile/${user_id}/m.tz`, { token })).status).toBe(200)
    expect((await hs.call('GET', `profile/${user_id}/m.tz`)).status).toBe(404)
  })
  test.each([
    { path: '@named:hs1/displayname', body: { displayname: 5 }, status: 400, errcode: 'M_BAD_JSON' },
    { path: '@named:hs1/displayname', body: {}, status: 400, errcode: 'M_MISSING_PARAM' },
    { path: '@named:hs1/displayname', body: [], status: 400, errcode: 'M_BAD_JSON' },
    { path: '@named:hs1/displayname', body: { displayname: 'x'.repeat(257) }, status: 400, errcode: 'M_INVALID_PARAM' },
    { path: '@named:hs1/m.big', body: { 'm.big': 'x'.repeat(65_536) }, status: 400, errcode: 'M_PROFILE_TOO_LARGE' },
    { path: `@named:hs1/${'k'.repeat(256)}`, body: {}, status: 400, errcode: 'M_KEY_TOO_LARGE' },
    { path: '@named:hs1/Upper', body: { Upper: 1 }, status: 400, errcode: 'M_INVALID_PARAM' },
    // Without a namespace it is nobody's.
    { path: '@named:hs1/pronouns', body: { pronouns: 1 }, status: 400, errcode: 'M_INVALID_PARAM' },
    { path: '@named:hs1/m..x', body: { 'm..x': 1 }, status: 400, errcode: 'M_INVALID_PARAM' },
    { path: '@named:hs1/org.example', body: { 'org.other': 1 }, status: 400, errcode: 'M_MISSING_PARAM' },
    { path: '@named:hs1/m.tz', body: { 'm.tz': 5 }, status: 400, errcode: 'M_INVALID_PARAM' },
    { path: '@named:hs1/m.tz', body: { 'm.tz': 'half past nine' }, status: 400, errcode: 'M_INVALID_PARAM' },
    { path: '@alice:hs1/displayname', body: { displayname: 'x' }, status: 403, errcode: 'M_FORBIDDEN' },
  ])('PUT $path $body answers $errcode', async ({ path, body, status, errcode }) => {
    const { body: session } = await hs.login('named', 'superuser')
    expect(await hs.call('PUT', `profile/${path}`, { token: session.access_token, body })).toMatchObject({
      status,
      body: { errcode },
    })
  })
  test('all its fields together have 64 KiB, and null is a value', async () => {
    const { token, user_id } = await hs.register('bigprofile')
    const put = (field: string, value: unknown) =>
      hs.call('PUT', `profile/${user_id}/${field}`, { token, body: { [field]: value } })
    expect((await put('org.example.a', 'x'.repeat(32_000))).status).toBe(200)
    expect((await put('org.example.b', 'x'.repeat(32_000))).status).toBe(200)
    expect(await put('org.example.c', 'x'.repeat(2_000))).toMatchObject({
      status: 400,
      body: { errcode: 'M_PROFILE_TOO_LARGE' },
    })
    expect(await put('displayname', 'x'.repeat(256))).toMatchObject({ status: 200 })
    // What takes the place of more is taken.
    expect((await put('org.example.a', null)).status).toBe(200)
    expect((await put('org.example.c', { any: ['thing', 1, null] })).status).toBe(200)
    expect((await hs.call('GET', `profile/${user_id}/org.example.a`)).body).toEqual({ 'org.example.a': null })
    expect((await hs.call('GET', `profile/${user_id}`)).body).toMatchObject({
      'org.example.a': null,
      'org.example.c': { any: ['thing', 1, null] },
    })
    expect(memberProfileChanged).toHaveBeenLastCalledWith(user_id, expect.objectContaining({ avatar_url: undefined }))
  })
  test.each([
    { settings: { enabled: false }, displayname: false, tz: false, custom: false },
    { settings: { allowed: ['displayname'] }, displayname: true, tz: false, custom: false },
    { settings: { disallowed: ['displayname'] }, displayname: false, tz: true, custom: true },
    { settings: { allowed: ['m.tz'], disallowed: ['m.tz'] }, displayname: false, tz: true, custom: false },
  ])('m.profile_fields $settings is what is held', async ({ settings, displayname, tz, custom }) => {
    const managed = await accountServer({ profile_fields: settings })
    const { token, user_id } = await managed.register('managed')
    const may = async (field: string, value: unknown) => {
      const path = `profile/${user_id}/${field}`
      const put = await managed.call('PUT', path, { token, body: { [field]: value } })
      const { status } = await managed.call('DELETE', path, { token })
      expect(status).toBe(put.status)
      if (status !== 200) expect(put).toMatchObject({ status: 403, body: { errcode: 'M_FORBIDDEN' } })
      return status === 200
    }
    expect(await may('displayname', 'x')).toBe(displayname)
    expect(await may('m.tz', 'Europe/London')).toBe(tz)
    expect(await may('org.example.x', 1)).toBe(custom)
    const { body } = await managed.call('GET', 'capabilities', { token })
    expect(body.capabilities).toMatchObject({
      'm.profile_fields': { enabled: true, ...settings },
      'm.set_displayname': { enabled: displayname },
      'm.set_avatar_url': { enabled: settings.disallowed !== undefined && settings.allowed === undefined },
    })
    await managed.close()
    expect(managed.logged).toEqual([])
  })
  test('a guest changes the display name alone', async () => {
    const { body: guest } = await hs.call('POST', 'register?kind=guest', { body: {} })
    const put = (field: string) =>
      hs.call('PUT', `profile/${guest.user_id}/${field}`, { token: guest.access_token, body: { [field]: 'mxc://a/b' } })
    expect((await put('displayname')).status).toBe(200)
    for (const field of ['avatar_url', 'm.tz', 'org.example.x']) {
      expect(await put(field)).toMatchObject({ status: 403, body: { errcode: 'M_GUEST_ACCESS_FORBIDDEN' } })
    }
    const remove = (field: string) =>
      hs.call('DELETE', `profile/${guest.user_id}/${field}`, { token: guest.access_token })
    expect((await remove('displayname')).status).toBe(200)
    expect((await remove('avatar_url')).status).toBe(403)
  })
  test('clients that know the proposal alone find further fields under its name', async () => {
    const { token, user_id } = await hs.register('proposer')
    const path = `/_matrix/client/unstable/uk.tcpip.msc4133/profile/${user_id}/org.example.pet`
    expect((await hs.call('PUT', path, { token, body: { 'org.example.pet': ['cat'] } })).status).toBe(200)
    expect((await hs.call('GET', path)).body).toEqual({ 'org.example.pet': ['cat'] })
    expect((await hs.call('DELETE', path, { token })).status).toBe(200)
    expect((await hs.call('GET', path)).status).toBe(404)
  })
  test.each(['@nobody:hs1', '@nob%00ody:hs1'])('GET %s is not found', async (user) => {
    expect([400, 404]).toContain((await hs.call('GET', `profile/${user}`)).status)
  })
  test('of a user whose server does not answer it is said that it does not', async () => {
    expect((await hs.call('GET', 'profile/@alice:elsewhere.invalid')).status).toBe(502)
  })
})

test('what the server is', async () => {
  const { token } = await hs.register('curious')
  expect((await hs.call('GET', '/_matrix/client/versions')).body.versions).toContain('v1.1')
  expect((await hs.call('GET', 'capabilities')).status).toBe(401)
  expect((await hs.call('GET', 'capabilities', { token })).body.capabilities).toMatchObject({
    'm.change_password': { enabled: true },
    'm.room_versions': {
      default: '12',
      available: { '1': 'stable', '12': 'stable', 'org.matrix.msc3757.11': 'unstable' },
    },
  })
  expect((await hs.call('GET', '/.well-known/matrix/client')).status).toBe(404)
})

test('client-server-api GET /.well-known/matrix/support: the contacts of the configuration', async () => {
  expect((await hs.call('GET', '/.well-known/matrix/support')).status).toBe(404)
  const support = {
    contacts: [{ role: 'm.role.admin', email_address: 'admin@hs1.example', matrix_id: '@admin:hs1' }],
    support_page: 'https://hs1.example/help',
  }
  const other = await accountServer({ support })
  onTestFinished(other.close)
  expect(await other.call('GET', '/.well-known/matrix/support')).toMatchObject({ status: 200, body: support })
})

test('tokens and passwords are in no table as they are', async () => {
  const { token } = await hs.register('secret', 'a very secret password')
  const rows = await hs.sql`
    select to_jsonb(t)::text as row from access_tokens t union all select to_jsonb(u)::text from users u
    union all select to_jsonb(s)::text from uia_sessions s union all select to_jsonb(d)::text from devices d`
  const all = rows.map((row) => String(row.row)).join('\n')
  expect(all).not.toContain(token)
  expect(all).not.toContain('a very secret password')
})

describe('client-server-api OpenID', () => {
  test('a token that says who one is, for an hour, and opens nothing here', async () => {
    const { token, user_id } = await hs.register('openid')
    const { status, body } = await hs.call('POST', `user/${user_id}/openid/request_token`, { token, body: {} })
    expect(status).toBe(200)
    expect(body).toEqual({
      access_token: expect.any(String),
      token_type: 'Bearer',
      matrix_server_name: 'hs1',
      expires_in: 3600,
    })
    const rows = await hs.sql`select user_id, expires_ts from openid_tokens where user_id = ${user_id}`
    expect(rows).toEqual([{ user_id, expires_ts: hs.clock.now() + 3_600_000 }])
    expect(await hs.call('GET', 'account/whoami', { token: body.access_token })).toMatchObject({
      status: 401,
      body: { errcode: 'M_UNKNOWN_TOKEN' },
    })
  })
  test("nobody gets another's", async () => {
    const { token } = await hs.register('openid2')
    expect(await hs.call('POST', 'user/@openid:hs1/openid/request_token', { token, body: {} })).toMatchObject({
      status: 403,
      body: { errcode: 'M_FORBIDDEN' },
    })
  })
})

describe('client-server-api GET /voip/turnServer', () => {
  const uris = ['turn:turn.hs1?transport=udp']
  const asked = async (turn: object, guest = false) => {
    const server = await accountServer({ turn })
    try {
      const token = guest
        ? (await server.call('POST', 'register?kind=guest', { body: {} })).body.access_token
        : (await server.register('caller')).token
      return { ...(await server.call('GET', 'voip/turnServer', { token })), now: server.clock.now() }
    } finally {
      await server.close()
    }
  }
  test('with a shared secret the credentials are of the user and run out', async () => {
    const { body, now } = await asked({ uris, shared_secret: 'north', user_lifetime: '2h' })
    const username = `${Math.floor(now / 1000) + 7200}:@caller:hs1`
    const password = createHmac('sha1', 'north').update(username).digest('base64')
    expect(body).toEqual({ username, password, ttl: 7200, uris })
  })
  test('without one they are those of the configuration', async () => {
    const { body } = await asked({ uris, username: 'all', password: 'pass' })
    expect(body).toEqual({ username: 'all', password: 'pass', ttl: 3600, uris })
  })
  test('without servers there are none, and guests get them where they may', async () => {
    expect((await asked({})).body).toEqual({})
    expect((await asked({ uris, shared_secret: 'north' }, true)).status).toBe(200)
    expect(await asked({ uris, shared_secret: 'north', allow_guests: false }, true)).toMatchObject({
      status: 403,
      body: { errcode: 'M_GUEST_ACCESS_FORBIDDEN' },
    })
  })
})
