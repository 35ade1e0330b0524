/** Accounts, sessions and devices, as matrix-js-sdk knows them. */
import * as sdk from 'matrix-js-sdk'
import { describe, expect, test } from 'vitest'
import { quietClient, startSync, until } from './sdk-client.ts'
import { becomes, errcodeOf, id, joins, passwordAuth, sdkServer, sees, text } from './sdk-server.ts'

const server = sdkServer(
  (baseUrl) => `public_baseurl: ${baseUrl}
sessions: { access_token_lifetime: 1s }`,
)

const rejection = (promise: Promise<unknown>): Promise<sdk.MatrixError> =>
  promise.then(
    () => Promise.reject(new Error('it was let pass')),
    (error) => error,
  )

const refreshableLogin = (user: string, password: string, device_id?: string) =>
  server.stranger().loginRequest({
    type: 'm.login.password',
    identifier: { type: 'm.id.user', user },
    password,
    refresh_token: true,
    ...(device_id === undefined ? {} : { device_id }),
  })

describe('client-server-api/#api-standards: what a client asks first', () => {
  test('versions, capabilities, discovery', async () => {
    const alice = await server.person('alice')
    expect((await alice.getVersions()).versions).toContain('v1.19')
    expect(await alice.isVersionSupported('v1.19')).toBe(true)
    expect(await alice.doesServerSupportThread()).toMatchObject({ threads: 2 })
    const capabilities = await alice.getCapabilities()
    expect(capabilities['m.change_password']).toEqual({ enabled: true })
    expect(capabilities['m.get_login_token']).toEqual({ enabled: true })
    const available = Object.values(capabilities['m.room_versions']?.available ?? {})
    expect(available.filter((stability) => stability === 'stable')).toHaveLength(12)

    const announced = await fetch(`${server.process.baseUrl}/.well-known/matrix/client`)
    const discovered = await sdk.AutoDiscovery.fromDiscoveryConfig((await announced.json()) as sdk.IClientWellKnown)
    expect(discovered['m.homeserver']).toMatchObject({ state: 'SUCCESS', base_url: server.process.baseUrl })
  })
})

describe('client-server-api/#account-registration and #login', () => {
  test('registers with user-interactive auth, logs in by password, refreshes, logs out', async () => {
    const stranger = server.stranger()
    expect(await stranger.isUsernameAvailable('newcomer')).toBe(true)
    const started = await rejection(stranger.registerRequest({ username: 'newcomer', password: 'a long password' }))
    expect(started.httpStatus).toBe(401)
    const registered = await stranger.registerRequest({
      username: 'newcomer',
      password: 'a long password',
      auth: { type: 'm.login.dummy', session: started.data.session },
    })
    expect(registered.user_id).toBe('@newcomer:test.local')
    expect(await stranger.isUsernameAvailable('newcomer')).toBe(false)
    expect(await errcodeOf(stranger.isUsernameAvailable('not a name'))).toBe('M_INVALID_USERNAME')
    expect(await errcodeOf(stranger.registerRequest({ username: 'newcomer', password: 'another password' }))).toBe(
      'M_USER_IN_USE',
    )

    const { flows } = await stranger.loginFlows()
    expect(flows.map((flow) => flow.type)).toEqual(['m.login.password', 'm.login.token'])
    const login = await refreshableLogin('newcomer', 'a long password')
    expect(login.expires_in_ms).toBeGreaterThan(0)
    const refreshed = await stranger.refreshToken(login.refresh_token ?? '')
    const client = quietClient({
      baseUrl: server.process.baseUrl,
      access_token: refreshed.access_token,
      user_id: login.user_id,
      device_id: login.device_id,
    })
    expect(await client.whoami()).toMatchObject({ user_id: '@newcomer:test.local', device_id: login.device_id })
    await client.logout()
    expect(await errcodeOf(client.whoami())).toBe('M_UNKNOWN_TOKEN')
    expect(await errcodeOf(stranger.loginWithPassword('newcomer', 'a wrong password'))).toBe('M_FORBIDDEN')
  })

  test('a login token opens one session', async () => {
    const alice = await server.person('alice')
    expect((await rejection(alice.requestLoginToken())).data.flows).toEqual([{ stages: ['m.login.password'] }])
    const { login_token } = await alice.requestLoginToken(passwordAuth(alice))
    const login = await server.stranger().loginWithToken(login_token)
    expect(login.user_id).toBe(id(alice))
    expect((await alice.getDevices()).devices.map((device) => device.device_id)).toContain(login.device_id)
    expect(await errcodeOf(server.stranger().loginWithToken(login_token))).toBe('M_FORBIDDEN')
  })

  test('a client whose tokens expire refreshes them and goes on syncing', async () => {
    const [alice, bob] = [await server.person('alice'), await server.person('bob')]
    const { room_id } = await bob.createRoom({ preset: sdk.Preset.PublicChat })
    const login = await refreshableLogin(id(alice), alice.password)
    let tokens = { access: login.access_token, refresh: login.refresh_token ?? '' }
    let refreshes = 0
    let refreshing: Promise<void> | undefined
    async function refresh(): Promise<void> {
      const next = await server.stranger().refreshToken(tokens.refresh)
      tokens = { access: next.access_token, refresh: next.refresh_token }
      refreshes++
    }
    const withToken = (init?: RequestInit) => {
      const headers = new Headers(init?.headers)
      headers.set('authorization', `Bearer ${tokens.access}`)
      return { ...init, headers }
    }
    const device = server.keep(
      quietClient({
        baseUrl: server.process.baseUrl,
        ...login,
        async fetchFn(url, init) {
          const answer = await fetch(url, withToken(init))
          if (answer.status !== 401) return answer
          expect(await answer.json()).toMatchObject({ errcode: 'M_UNKNOWN_TOKEN', soft_logout: true })
          refreshing ??= refresh().finally(() => {
            refreshing = undefined
          })
          await refreshing
          return fetch(url, withToken(init))
        },
      }),
    )
    await startSync(device, { pollTimeout: 500 })
    await joins(device, room_id)
    for (let i = 0; refreshes < 2; i++) {
      await text(bob, room_id, `tick ${i}`)
      await sees(device, room_id, `tick ${i}`)
    }
    expect((await device.whoami()).device_id).toBe(login.device_id)
  })

  test('a soft logout keeps the device, and the SDK is told of it', async () => {
    const alice = await server.person('alice')
    const login = await refreshableLogin(id(alice), alice.password)
    const device = server.keep(quietClient({ baseUrl: server.process.baseUrl, ...login }))
    const told = new Promise<sdk.MatrixError>((resolve) => device.on(sdk.HttpApiEvent.SessionLoggedOut, resolve))
    await startSync(device, { pollTimeout: 300 })
    expect((await told).data).toMatchObject({ soft_logout: true })
    device.stopClient()
    const again = await refreshableLogin(id(alice), alice.password, login.device_id)
    expect(again.device_id).toBe(login.device_id)
    expect((await alice.getDevices()).devices).toHaveLength(2)
    expect(await errcodeOf(server.stranger().refreshToken(login.refresh_token ?? ''))).toBe('M_UNKNOWN_TOKEN')
  })

  test('logout of all devices ends every session', async () => {
    const alice = await server.person('alice')
    const second = await server.secondDevice(alice, { pollTimeout: 500 })
    const told = new Promise<sdk.MatrixError>((resolve) => second.on(sdk.HttpApiEvent.SessionLoggedOut, resolve))
    await alice.http.authedRequest(sdk.Method.Post, '/logout/all', undefined, {})
    expect((await told).data.soft_logout ?? false).toBe(false)
    expect(await errcodeOf(alice.whoami())).toBe('M_UNKNOWN_TOKEN')
    expect(await errcodeOf(second.whoami())).toBe('M_UNKNOWN_TOKEN')
  })
})

describe('client-server-api/#device-management and #changing-password', () => {
  test('names devices, and deletes one or several with the password', async () => {
    const alice = await server.person('alice')
    const others = [await server.secondDevice(alice), await server.secondDevice(alice)]
    const third = await server.secondDevice(alice)
    const name = third.getDeviceId() ?? ''
    await alice.setDeviceDetails(name, { display_name: 'the third one' })
    expect((await alice.getDevice(name)).display_name).toBe('the third one')
    expect((await alice.getDevices()).devices).toHaveLength(4)
    expect(await errcodeOf(alice.getDevice('unheard-of'))).toBe('M_NOT_FOUND')

    const asked = await rejection(alice.deleteDevice(name))
    expect(asked.httpStatus).toBe(401)
    await alice.deleteDevice(name, { ...passwordAuth(alice), session: asked.data.session } as sdk.AuthDict)
    expect(await errcodeOf(third.whoami())).toBe('M_UNKNOWN_TOKEN')

    const names = others.map((other) => other.getDeviceId() ?? '')
    const wrong = await rejection(alice.deleteMultipleDevices(names, passwordAuth(alice, 'not the password')))
    expect([wrong.httpStatus, wrong.errcode]).toEqual([401, 'M_FORBIDDEN'])
    await alice.deleteMultipleDevices(names, passwordAuth(alice))
    expect((await alice.getDevices()).devices.map((device) => device.device_id)).toEqual([alice.getDeviceId()])
  })

  test('a new password ends the other sessions, unless it shall not', async () => {
    const alice = await server.person('alice')
    const second = await server.secondDevice(alice)
    await alice.setPassword(passwordAuth(alice), 'another password', false)
    expect((await second.whoami()).user_id).toBe(id(alice))
    expect(await errcodeOf(server.stranger().loginWithPassword(id(alice), alice.password))).toBe('M_FORBIDDEN')
    await alice.setPassword(passwordAuth(alice, 'another password'), 'a third password', true)
    expect(await errcodeOf(second.whoami())).toBe('M_UNKNOWN_TOKEN')
    expect((await alice.whoami()).user_id).toBe(id(alice))
    await server.stranger().loginWithPassword(id(alice), 'a third password')
  })

  test('deactivation leaves every room and refuses every invite', async () => {
    const [alice, bob] = [await server.person('alice'), await server.person('bob')]
    const { room_id } = await alice.createRoom({ preset: sdk.Preset.PublicChat })
    await joins(bob, room_id)
    const invited = await alice.createRoom({ invite: [id(bob)] })
    await becomes(bob, invited.room_id, 'invite')
    await until(alice, () => alice.getRoom(room_id)?.getMember(id(bob))?.membership === 'join', 'bob')
    await bob.deactivateAccount(passwordAuth(bob), true)
    for (const room of [room_id, invited.room_id]) {
      await until(alice, () => alice.getRoom(room)?.getMember(id(bob))?.membership === 'leave', 'bob gone')
    }
    expect(await errcodeOf(bob.whoami())).toBe('M_UNKNOWN_TOKEN')
    expect(await errcodeOf(server.stranger().loginWithPassword(id(bob), bob.password))).toBe('M_USER_DEACTIVATED')
    expect(await server.stranger().isUsernameAvailable(id(bob).slice(1).split(':')[0] ?? '')).toBe(false)
  })
})
