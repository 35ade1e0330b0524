/** What clients do by mail, as matrix-js-sdk does it: registration with an address and policies, adding one, a new password,
 *  consent. */
import * as sdk from 'matrix-js-sdk'
import { afterAll, describe, expect, test } from 'vitest'
import { mailServer } from '../support/mail-server.ts'
import { clickThrough } from '../support/pages.ts'
import { errcodeOf, id, passwordAuth, sdkServer } from './sdk-server.ts'

const mail = await mailServer({ user: 'ganglion', password: 'p4ss' })
afterAll(() => mail.close())

const server = sdkServer(
  (baseUrl) => `public_baseurl: ${baseUrl}
email: { host: 127.0.0.1, port: ${mail.port}, tls: none, user: ganglion, password: p4ss }
policies:
  block_without_consent: true
  documents:
    - { id: terms, version: "1", translations: [{ language: en, name: Terms, url: "https://example.org/terms" }] }`,
)

const rejection = (promise: Promise<unknown>): Promise<sdk.MatrixError> =>
  promise.then(
    () => Promise.reject(new Error('it was let pass')),
    (error) => error,
  )
const emailAuth = (sid: string, client_secret: string) =>
  ({ type: 'm.login.email.identity', threepid_creds: { sid, client_secret } }) as sdk.AuthDict

/** As an app goes through the stages of one flow; what the user types is given by the stage. */
function interactive<T>(
  stages: Record<string, () => Promise<sdk.AuthDict>>,
  doRequest: (auth: sdk.AuthDict | null) => Promise<T>,
) {
  const auth = new sdk.InteractiveAuth<T>({
    matrixClient: server.stranger(),
    doRequest,
    inputs: { emailAddress: 'unused@mail.example' },
    supportedStages: Object.keys(stages) as sdk.AuthType[],
    requestEmailToken: async () => ({ sid: 'asked-by-the-stage' }),
    async stateUpdated(stage) {
      const next = stages[stage]
      if (!next) throw new Error(`no way through stage ${stage}`)
      await auth.submitAuthDict(await next())
    },
  })
  return auth.attemptAuth()
}

describe('client-server-api/#adding-account-administrative-contact-information', () => {
  test('registers with policies and an address, adds one, resets the password by mail, and logs in with it', async () => {
    const stranger = server.stranger()
    const registered = await interactive(
      {
        'm.login.terms': async () => ({ type: 'm.login.terms' }) as sdk.AuthDict,
        async 'm.login.email.identity'() {
          const { sid } = await stranger.requestRegisterEmailToken('New@mail.example', 'registering', 1)
          await clickThrough((await mail.next()).link)
          return emailAuth(sid, 'registering')
        },
      },
      (auth) =>
        stranger.registerRequest({ username: 'mailer', password: 'a long password', ...(auth ? { auth } : {}) }),
    )
    const client = server.keep(
      sdk.createClient({
        baseUrl: server.process.baseUrl,
        userId: registered.user_id,
        accessToken: registered.access_token ?? '',
      }),
    )
    expect((await client.getThreePids()).threepids).toMatchObject([{ medium: 'email', address: 'new@mail.example' }])
    expect((await client.getCapabilities())['m.3pid_changes']).toEqual({ enabled: true })
    // The policies were agreed to.
    await client.createRoom({})

    const added = await client.requestAdd3pidEmailToken('second@mail.example', 'adding', 1)
    await clickThrough((await mail.next()).link)
    const auth = {
      type: 'm.login.password',
      identifier: { type: 'm.id.user', user: 'mailer' },
      password: 'a long password',
    }
    const { session } = (await rejection(client.addThreePidOnly({ sid: added.sid, client_secret: 'adding' }))).data
    await client.addThreePidOnly({
      sid: added.sid,
      client_secret: 'adding',
      auth: { ...auth, session: String(session) },
    })
    expect((await client.getThreePids()).threepids).toHaveLength(2)
    await client.deleteThreePid('email', 'new@mail.example')

    // The whole of a forgotten password, by somebody without a session.
    const reset = await stranger.requestPasswordEmailToken('SECOND@mail.example', 'resetting', 1)
    const set = () => stranger.setPassword(emailAuth(reset.sid, 'resetting'), 'another long password', true)
    expect(await errcodeOf(set())).toBe('M_UNAUTHORIZED')
    await clickThrough((await mail.next()).link)
    await set()
    expect(await errcodeOf(client.whoami())).toBe('M_UNKNOWN_TOKEN')
    const login = await stranger.loginRequest({
      type: 'm.login.password',
      identifier: { type: 'm.id.thirdparty', medium: 'email', address: 'second@mail.example' },
      password: 'another long password',
    })
    expect(login.user_id).toBe('@mailer:test.local')
    expect(await errcodeOf(stranger.requestPasswordEmailToken('new@mail.example', 'resetting', 1))).toBe(
      'M_THREEPID_NOT_FOUND',
    )
  })
})

test('client-server-api/#terms-of-service-at-registration: the SDK leads an account of before to the page of consent', async () => {
  const alice = await server.person('alice')
  const refused = await rejection(alice.createRoom({}))
  expect(refused).toMatchObject({ errcode: 'M_CONSENT_NOT_GIVEN', httpStatus: 403 })
  const told = new Promise<string>((resolve) => {
    alice.once(sdk.HttpApiEvent.NoConsent, (_message, consentUri) => resolve(consentUri))
  })
  await rejection(alice.createRoom({}))
  await clickThrough(await told)
  const { room_id } = await alice.createRoom({})
  expect(room_id).toMatch(/^!/)
  // Whoever is out of rooms has other things to do without consent.
  expect(await errcodeOf(alice.deleteMultipleDevices([], passwordAuth(alice)))).toBe('no error')
  expect(id(alice)).toMatch(/^@alice/)
})
