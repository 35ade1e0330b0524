/** client-server-api/#terms-of-service-at-registration, and consent of users who are there. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { password } from '../support/client-server.ts'
import { type ThreepidServer, threepidServer } from '../support/threepid-server.ts'

const dayMs = 24 * 60 * 60_000
let hs: ThreepidServer
beforeAll(async () => {
  hs = await threepidServer({
    policies: {
      block_without_consent: true,
      documents: [
        {
          id: 'terms_of_service',
          version: '1.2',
          translations: [
            { language: 'en', name: 'Terms <of> Service', url: 'https://example.org/terms-1.2-en.html' },
            { language: 'fr', name: "Conditions d'utilisation", url: 'https://example.org/terms-1.2-fr.html' },
          ],
        },
        {
          id: 'privacy_policy',
          version: '3',
          translations: [{ language: 'en', name: 'Privacy', url: 'https://example.org/privacy' }],
        },
      ],
    },
  })
})
afterAll(async () => {
  await hs.close()
  expect(hs.logged).toEqual([])
})

const agreements = (user_id: string) => hs.main.database.sql`
  select policy, version, given_ts from user_consents where user_id = ${user_id} order by policy`
const both = () => [
  { policy: 'privacy_policy', version: '3', given_ts: hs.clock.now() },
  { policy: 'terms_of_service', version: '1.2', given_ts: hs.clock.now() },
]

describe('m.login.terms', () => {
  test('names the policies, and records what was agreed to', async () => {
    const begun = await hs.ask('POST', 'register', { username: 'monkey', password })
    expect(begun).toMatchObject({
      status: 401,
      body: {
        flows: [
          { stages: ['m.login.terms', 'm.login.dummy'] },
          { stages: ['m.login.terms', 'm.login.email.identity'] },
        ],
        params: {
          'm.login.terms': {
            policies: {
              terms_of_service: {
                version: '1.2',
                en: { name: 'Terms <of> Service', url: 'https://example.org/terms-1.2-en.html' },
                fr: { name: "Conditions d'utilisation", url: 'https://example.org/terms-1.2-fr.html' },
              },
              privacy_policy: { version: '3', en: { name: 'Privacy', url: 'https://example.org/privacy' } },
            },
          },
        },
      },
    })
    const { session } = begun.body
    const agreed = await hs.ask('POST', 'register', {
      username: 'monkey',
      password,
      auth: { type: 'm.login.terms', session },
    })
    expect(agreed).toMatchObject({ status: 401, body: { completed: ['m.login.terms'] } })
    const done = await hs.ask('POST', 'register', {
      username: 'monkey',
      password,
      auth: { type: 'm.login.dummy', session },
    })
    expect(done.status).toBe(200)
    expect(await agreements('@monkey:hs1')).toEqual(both())
    expect((await hs.ask('POST', 'createRoom', {}, done.body.access_token)).status).toBe(200)
  })

  test('nobody agrees outside of the session that named them', async () => {
    const auth = { type: 'm.login.terms' }
    expect(await hs.ask('POST', 'register', { username: 'blind', password, auth })).toMatchObject({
      status: 401,
      body: { errcode: 'M_FORBIDDEN', completed: [] },
    })
  })

  test('is no stage of anything else', async () => {
    const alice = await hs.register('elsewhere')
    expect(await alice.ask('POST', 'account/deactivate', { auth: { type: 'm.login.terms' } })).toMatchObject({
      status: 401,
      body: { errcode: 'M_UNRECOGNIZED', params: {} },
    })
  })
})

describe('client-server-api/#fallback of m.login.terms', () => {
  test('the page passes the stage and tells the app, which goes on with the session alone', async () => {
    const begun = await hs.ask('POST', 'register', { username: 'browser', password })
    const session = String(begun.body.session)
    const link = `https://hs1/_matrix/client/v3/auth/m.login.terms/fallback/web?session=${session}`
    const shown = await hs.browse(link)
    expect(shown.html).toContain('https://example.org/privacy')
    const done = await hs.confirm(link)
    expect(done.html).toContain('window.onAuthDone()')
    const again = await hs.ask('POST', 'register', { username: 'browser', password, auth: { session } })
    expect(again).toMatchObject({ status: 401, body: { completed: ['m.login.terms'] } })
    const auth = { type: 'm.login.dummy', session }
    expect((await hs.ask('POST', 'register', { username: 'browser', password, auth })).status).toBe(200)
    expect(await agreements('@browser:hs1')).toEqual(both())
  })

  test('other stages have no page, and other sessions no such stage', async () => {
    const alice = await hs.register('pageless')
    const { session } = (await alice.ask('POST', 'account/deactivate', {})).body
    const page = (stage: string) => `/_matrix/client/v3/auth/${stage}/fallback/web`
    expect(await hs.ask('GET', `${page('m.login.dummy')}?session=x`)).toMatchObject({ status: 404 })
    for (const given of [session, 'x', '\0']) {
      expect(await hs.ask('POST', page('m.login.terms'), { session: given })).toMatchObject({
        status: 403,
        body: { errcode: 'M_FORBIDDEN' },
      })
    }
  })
})

describe('M_CONSENT_NOT_GIVEN', () => {
  test('who has not agreed writes nothing, until the page of the link was agreed to', async () => {
    const alice = await hs.register('writer')
    const monkey = await hs.register('inviter')
    const refused = await alice.ask('POST', 'createRoom', {})
    expect(refused).toMatchObject({
      status: 403,
      body: {
        errcode: 'M_CONSENT_NOT_GIVEN',
        consent_uri: expect.stringMatching(/^https:\/\/hs1\/_matrix\/consent\?u=/),
      },
    })
    for (const [method, path] of [
      ['POST', 'join/!nowhere:hs1'],
      ['PUT', 'rooms/!nowhere:hs1/send/m.room.message/1'],
      ['PUT', 'rooms/!nowhere:hs1/state/m.room.topic'],
      ['POST', 'rooms/!nowhere:hs1/invite'],
      ['POST', 'rooms/!nowhere:hs1/upgrade'],
    ] as const) {
      const body = method === 'PUT' ? { body: 'x' } : { user_id: monkey.user_id, new_version: '12' }
      expect((await alice.ask(method, path, body)).body.errcode).toBe('M_CONSENT_NOT_GIVEN')
    }
    // Reading and leaving are left to everybody.
    expect((await alice.ask('GET', 'sync')).status).toBe(200)
    expect((await alice.ask('POST', 'rooms/!nowhere:hs1/leave', {})).body.errcode).not.toBe('M_CONSENT_NOT_GIVEN')

    const uri = String(refused.body.consent_uri)
    const page = await hs.browse(uri)
    expect(page.html).toContain('<a href="https://example.org/terms-1.2-fr.html" target="_blank" rel="noreferrer">')
    expect(page.html).toContain('Terms &#60;of&#62; Service')
    expect(page.html).toContain('@writer:hs1')
    expect((await alice.ask('POST', 'createRoom', {})).status).toBe(403)
    expect((await hs.confirm(uri)).status).toBe(200)
    expect((await alice.ask('POST', 'createRoom', {})).status).toBe(200)
    expect(await agreements(alice.user_id)).toEqual(both())
  })

  test('a link is of its user, and of a week', async () => {
    const [alice, bob] = [await hs.register('linked'), await hs.register('other')]
    const link = new URL(String((await alice.ask('POST', 'createRoom', {})).body.consent_uri))
    const give = (more: object) =>
      hs.ask('POST', '/_matrix/consent', {
        ...Object.fromEntries(link.searchParams),
        consent: 'privacy_policy/3 terms_of_service/1.2',
        ...more,
      })
    expect(await give({ u: bob.user_id })).toMatchObject({ status: 403, body: { errcode: 'M_FORBIDDEN' } })
    expect(await give({ h: 'zzzzzzzzzz.x' })).toMatchObject({ status: 403, body: { errcode: 'M_FORBIDDEN' } })
    // Of an older page, whose policies were others.
    expect(await give({ consent: 'privacy_policy/2' })).toMatchObject({
      status: 400,
      body: { errcode: 'M_INVALID_PARAM' },
    })
    const page = await hs.browse('/_matrix/consent', { u: bob.user_id, h: 'x', consent: 'x', view: 'page' })
    expect(page).toMatchObject({ status: 403, html: expect.stringContaining('That did not work') })
    hs.clock.advance(7 * dayMs)
    expect(await give({})).toMatchObject({ status: 403, body: { errcode: 'M_FORBIDDEN' } })
    expect(await agreements(alice.user_id)).toEqual([])
  })
})
