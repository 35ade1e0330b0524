/** Pushers: set, shown, replaced, taken away, and gone with their device. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type ClientServer, clientServer, type TestClient } from '../support/client-server.ts'

let hs: ClientServer
beforeAll(async () => {
  hs = await clientServer()
})
afterAll(() => hs.close())

const pusher = {
  app_id: 'org.app',
  pushkey: 'key',
  kind: 'http',
  app_display_name: 'App',
  device_display_name: 'Phone',
  profile_tag: 'home',
  lang: 'en',
  data: { url: 'https://gateway.example/_matrix/push/v1/notify', format: 'event_id_only', custom: { kept: [1] } },
}
const set = (by: TestClient, more: object = {}) => by.must('POST', 'pushers/set', { ...pusher, ...more })
const pushers = async (of: TestClient): Promise<{ pushkey: string }[]> => (await of.must('GET', 'pushers')).pushers
const keys = async (of: TestClient) => (await pushers(of)).map(({ pushkey }) => pushkey)

describe('client-server-api/#post_matrixclientv3pushersset', () => {
  test('is shown as it was set, replaced by app and key, and deleted by null', async () => {
    const alice = await hs.register('alice')
    expect(await pushers(alice)).toEqual([])
    await set(alice)
    expect(await pushers(alice)).toEqual([pusher])
    const { profile_tag: _, ...untagged } = { ...pusher, lang: 'de' }
    await set(alice, { lang: 'de', profile_tag: null })
    expect(await pushers(alice)).toEqual([untagged])
    await set(alice, { pushkey: 'other' })
    expect(await keys(alice)).toEqual(['key', 'other'])
    await alice.must('POST', 'pushers/set', { app_id: 'org.app', pushkey: 'key', kind: null })
    expect(await keys(alice)).toEqual(['other'])
  })

  test("takes the place of other users' with the same app and key, unless it is to be appended", async () => {
    const [bob, carol, dave] = [await hs.register('bob'), await hs.register('carol'), await hs.register('dave')]
    await set(bob, { pushkey: 'phone' })
    await set(carol, { pushkey: 'phone', append: true })
    expect([await keys(bob), await keys(carol)]).toEqual([['phone'], ['phone']])
    await set(dave, { pushkey: 'phone' })
    expect([await keys(bob), await keys(carol), await keys(dave)]).toEqual([[], [], ['phone']])
  })

  test('goes when its device does', async () => {
    const first = await hs.register('erin')
    const second = await hs.login(first.user_id)
    await set(first, { pushkey: 'first' })
    await set(second, { pushkey: 'second' })
    await hs.main.commands.changePassword({
      user_id: first.user_id,
      new_password: 'another one',
      logout_devices: true,
      keep_device_id: first.device_id,
    })
    expect(await keys(first)).toEqual(['first'])
  })

  test.each([
    ['email is not served', { kind: 'email' }, 'M_BAD_JSON'],
    ['no url', { data: {} }, 'M_MISSING_PARAM'],
    ['a gateway without TLS', { data: { url: 'http://g.example/_matrix/push/v1/notify' } }, 'M_INVALID_PARAM'],
    ['another path', { data: { url: 'https://g.example/notify' } }, 'M_INVALID_PARAM'],
    ['a long app id', { app_id: 'a'.repeat(65) }, 'M_INVALID_PARAM'],
    ['a long key', { pushkey: 'é'.repeat(257) }, 'M_INVALID_PARAM'],
    ['no language', { lang: undefined }, 'M_MISSING_PARAM'],
  ])('%s', async (_, more, errcode) => {
    const frank = await hs.register(`frank${Math.random()}`)
    const answer = await frank.ask('POST', 'pushers/set', { ...pusher, ...more })
    expect(answer).toMatchObject({ status: 400 })
    expect(answer.body.errcode).toBe(errcode)
    expect(await pushers(frank)).toEqual([])
  })
})
