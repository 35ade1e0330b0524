import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type ClientServer, clientServer, password, type TestClient } from '../support/client-server.ts'
import { olmDevice } from '../support/olm-keys.ts'

let server: ClientServer
let names = 0
beforeAll(async () => {
  server = await clientServer()
})
afterAll(() => server.close())

const person = (name: string) => server.register(`${name}${++names}`)
const algorithm = 'signed_curve25519'
const upload = (client: TestClient, body: object) => client.ask('POST', 'keys/upload', body)
const claimOf = (...targets: TestClient[]) => {
  const byUser: Record<string, Record<string, string>> = {}
  for (const { user_id, device_id } of targets) byUser[user_id] = { ...byUser[user_id], [device_id]: algorithm }
  return { one_time_keys: byUser }
}
const claim = async (client: TestClient, ...targets: TestClient[]) =>
  (await client.must('POST', 'keys/claim', claimOf(...targets))).one_time_keys
const counted = (n: number) => ({ status: 200, body: { one_time_key_counts: { [algorithm]: n } } })

describe('client-server-api/#post_matrixclientv3keysupload', () => {
  test('the answer counts what the device has; the same keys again change nothing, also in part', async () => {
    const alice = await person('alice')
    const olm = olmDevice(alice)
    expect(await upload(alice, {})).toEqual(counted(0))
    expect(await upload(alice, { device_keys: olm.device_keys })).toEqual(counted(0))
    const [a, b, c, d] = ['A', 'B', 'C', 'D'].map((id) => olm.oneTimeKeys(id))
    expect(await upload(alice, { one_time_keys: { ...a, ...b, ...c } })).toEqual(counted(3))
    expect(await upload(alice, { one_time_keys: { ...a, ...b, ...c } })).toEqual(counted(3))
    expect(await upload(alice, { one_time_keys: { ...b, ...c, ...d } })).toEqual(counted(4))
  })

  test('a one-time key is not changed', async () => {
    const alice = await person('alice')
    const olm = olmDevice(alice)
    const first = olm.oneTimeKeys('A')
    await upload(alice, { one_time_keys: first })
    const refused = await upload(alice, { one_time_keys: { ...olm.oneTimeKeys('A'), ...olm.oneTimeKeys('B') } })
    expect(refused).toMatchObject({ status: 400, body: { errcode: 'M_INVALID_PARAM' } })
    expect(await upload(alice, {})).toEqual(counted(1))
    expect(await claim(alice, alice)).toEqual({ [alice.user_id]: { [alice.device_id]: first } })
  })

  test('a key that was given out is not taken again, whoever lost the answer to its upload', async () => {
    const alice = await person('alice')
    const keys = olmDevice(alice).oneTimeKeys('A', 'B')
    await upload(alice, { one_time_keys: keys })
    const given = [await claim(alice, alice)]
    expect(await upload(alice, { one_time_keys: keys })).toEqual(counted(1))
    given.push(await claim(alice, alice))
    expect(await upload(alice, { one_time_keys: keys })).toEqual(counted(0))
    expect(await claim(alice, alice)).toEqual({})
    const names = given.map((answer) => Object.keys(answer[alice.user_id][alice.device_id])[0])
    expect(names.toSorted()).toEqual([`${algorithm}:A`, `${algorithm}:B`])
    // Another key may have the name of one that is gone.
    expect(await upload(alice, { one_time_keys: olmDevice(alice).oneTimeKeys('A') })).toEqual(counted(1))
  })

  test.each([
    ['device_keys without algorithms', 'M_BAD_JSON', { device_keys: { user_id: '@x:hs1', device_id: 'D' } }],
    ['device_keys that are a text', 'M_BAD_JSON', { device_keys: 'x' }],
    ['keys that are a list', 'M_BAD_JSON', { one_time_keys: ['x'] }],
    ['a key that is a number', 'M_BAD_JSON', { one_time_keys: { 'a:b': 1 } }],
    ['a key object without key', 'M_BAD_JSON', { one_time_keys: { 'a:b': {} } }],
    ['a name without algorithm', 'M_INVALID_PARAM', { one_time_keys: { x: { key: 'x' } } }],
    ['a name with U+0000', 'M_INVALID_PARAM', { one_time_keys: { 'a:\0': { key: 'x' } } }],
    [
      'two fallback keys of an algorithm',
      'M_INVALID_PARAM',
      { fallback_keys: { 'a:1': { key: 'x' }, 'a:2': { key: 'y' } } },
    ],
  ])('refused: %s', async (_, errcode, body) => {
    const alice = await person('alice')
    expect(await upload(alice, body)).toMatchObject({ status: 400, body: { errcode } })
    expect(await upload(alice, {})).toEqual(counted(0))
  })

  test('keys of another user or device are refused', async () => {
    const [alice, bob] = [await person('alice'), await person('bob')]
    for (const owner of [alice, { ...alice, user_id: bob.user_id }, { ...bob, device_id: alice.device_id }]) {
      const refused = await upload(bob, { device_keys: olmDevice(owner).device_keys })
      expect(refused).toMatchObject({ status: 400, body: { errcode: 'M_INVALID_PARAM' } })
    }
  })

  test('a device has a bounded number of them', async () => {
    const alice = await person('alice')
    const keys = (from: number, n: number) =>
      Object.fromEntries(Array.from({ length: n }, (_, i) => [`${algorithm}:${from + i}`, { key: 'x' }]))
    expect(await upload(alice, { one_time_keys: keys(0, 1_000) })).toEqual(counted(1_000))
    const refused = await upload(alice, { one_time_keys: keys(1_000, 1) })
    expect(refused).toMatchObject({ status: 400, body: { errcode: 'M_TOO_LARGE' } })
    expect(await upload(alice, { one_time_keys: keys(0, 1_000) })).toEqual(counted(1_000))
  })
})

describe('client-server-api/#post_matrixclientv3keysclaim', () => {
  test('keys are given out in the order in which they were uploaded, each once', async () => {
    const [alice, bob] = [await person('alice'), await person('bob')]
    const olm = olmDevice(alice)
    for (const id of ['1', '0', '2']) await upload(alice, { one_time_keys: olm.oneTimeKeys(id) })
    const given: string[] = []
    for (let i = 0; i < 3; i++) given.push(...Object.keys((await claim(bob, alice))[alice.user_id][alice.device_id]))
    expect(given).toEqual(['1', '0', '2'].map((id) => `${algorithm}:${id}`))
    expect(await claim(bob, alice)).toEqual({})
  })

  test('without one-time keys the fallback key is given out, again and again, and marked as used', async () => {
    const [alice, bob] = [await person('alice'), await person('bob')]
    const olm = olmDevice(alice)
    const fallback_keys = olm.fallbackKey('F')
    await upload(alice, { one_time_keys: olm.oneTimeKeys('A'), fallback_keys })
    const unused = async () => (await alice.sync()).device_unused_fallback_key_types
    expect(Object.keys((await claim(bob, alice))[alice.user_id][alice.device_id])).toEqual([`${algorithm}:A`])
    expect(await unused()).toEqual([algorithm])
    for (let i = 0; i < 2; i++) {
      expect(await claim(bob, alice)).toEqual({ [alice.user_id]: { [alice.device_id]: fallback_keys } })
      expect(await unused()).toEqual([])
    }
    // The same key is used for good; another one is not.
    await upload(alice, { fallback_keys })
    expect(await unused()).toEqual([])
    const next = olm.fallbackKey('G')
    await upload(alice, { fallback_keys: next })
    expect(await unused()).toEqual([algorithm])
    expect(await claim(bob, alice)).toEqual({ [alice.user_id]: { [alice.device_id]: next } })
  })

  test('many devices of many users at once; who has no key is missing, and servers out of reach are failures', async () => {
    const bob = await person('bob')
    const others = await Promise.all(Array.from({ length: 20 }, () => person('user')))
    await Promise.all(others.slice(1).map((one) => upload(one, { one_time_keys: olmDevice(one).oneTimeKeys('A') })))
    const { one_time_keys } = claimOf(...others)
    const answer = await bob.must('POST', 'keys/claim', {
      one_time_keys: { ...one_time_keys, '@x:elsewhere': { D: algorithm }, '@nobody:hs1': { D: algorithm } },
    })
    expect(Object.keys(answer.one_time_keys).toSorted()).toEqual(
      others
        .slice(1)
        .map((one) => one.user_id)
        .toSorted(),
    )
    expect(Object.keys(answer.failures)).toEqual(['elsewhere'])
  })

  test.each([
    ['no one_time_keys', 'M_MISSING_PARAM', {}],
    ['a list of devices', 'M_BAD_JSON', { one_time_keys: { '@a:hs1': ['D'] } }],
    ['no user id', 'M_INVALID_PARAM', { one_time_keys: { alice: { D: algorithm } } }],
    ['an algorithm that is a number', 'M_BAD_JSON', { one_time_keys: { '@a:hs1': { D: 1 } } }],
  ])('refused: %s', async (_, errcode, body) => {
    const refused = await (await person('alice')).ask('POST', 'keys/claim', body)
    expect(refused).toMatchObject({ status: 400, body: { errcode } })
  })
})

describe('client-server-api/#e2e-extensions-to-sync', () => {
  test('each device is told its own counts, by every answer', async () => {
    const alice = await person('alice')
    const second = await server.login(alice.user_id)
    const [one, two] = [olmDevice(alice), olmDevice(second)]
    expect(await alice.sync()).toMatchObject({
      device_one_time_keys_count: { [algorithm]: 0 },
      device_unused_fallback_key_types: [],
    })
    await upload(alice, { one_time_keys: one.oneTimeKeys('A', 'B'), fallback_keys: one.fallbackKey('F') })
    await upload(second, { one_time_keys: two.oneTimeKeys('A') })
    for (const forgetful of [false, true]) {
      if (forgetful) server.forget()
      const first = await alice.sync()
      expect(first.device_one_time_keys_count).toEqual({ [algorithm]: 2 })
      expect(first.device_unused_fallback_key_types).toEqual([algorithm])
      const quiet = await alice.sync({ since: first.next_batch })
      expect(quiet.device_one_time_keys_count).toEqual({ [algorithm]: 2 })
      expect((await second.sync()).device_one_time_keys_count).toEqual({ [algorithm]: 1 })
    }
  })

  test('who waits is told at once when a key is claimed, so that others can be uploaded', async () => {
    const [alice, bob] = [await person('alice'), await person('bob')]
    const second = await server.login(alice.user_id)
    await upload(alice, { one_time_keys: olmDevice(alice).oneTimeKeys('A', 'B') })
    const { next_batch: since } = await alice.sync()
    const other = await second.sync()
    const waiting = alice.sync({ since, timeout: 20_000 })
    const silent = second.sync({ since: other.next_batch, timeout: 300 })
    await claim(bob, alice)
    const told = await waiting
    expect(told.device_one_time_keys_count).toEqual({ [algorithm]: 1 })
    // And once.
    const after = await alice.sync({ since: told.next_batch, timeout: 200 })
    expect(after.device_one_time_keys_count).toEqual({ [algorithm]: 1 })
    expect((await silent).device_one_time_keys_count).toEqual({ [algorithm]: 0 })
  })
})

describe('client-server-api/#device-management', () => {
  test('keys go with their device, and a new one with its name has none', async () => {
    const [alice, bob] = [await person('alice'), await person('bob')]
    const phone = await server.login(alice.user_id, 'PHONE')
    const olm = olmDevice(phone)
    const one_time_keys = olm.oneTimeKeys('A', 'B')
    await upload(phone, { device_keys: olm.device_keys, one_time_keys, fallback_keys: olm.fallbackKey('F') })
    await claim(bob, phone)
    await phone.sync()
    await phone.must('POST', 'logout', {})
    expect(await claim(bob, phone)).toEqual({})
    const query = { device_keys: { [alice.user_id]: [] } }
    expect((await bob.must('POST', 'keys/query', query)).device_keys).toEqual({ [alice.user_id]: {} })
    const again = await server.login(alice.user_id, 'PHONE')
    expect((await again.sync()).device_one_time_keys_count).toEqual({ [algorithm]: 0 })
    for (const table of ['one_time_keys', 'claimed_keys', 'fallback_keys', 'device_keys', 'key_count_changes']) {
      const rows = await server.main.database.sql`select from ${server.main.database.sql(table)}
        where user_id = ${alice.user_id} and device_id = 'PHONE'`
      expect(rows.length, table).toBe(0)
    }
  })

  test('a login that takes a device over keeps its keys', async () => {
    const alice = await person('alice')
    await upload(alice, { one_time_keys: olmDevice(alice).oneTimeKeys('A') })
    const again = await server.login(alice.user_id, alice.device_id)
    expect((await again.sync()).device_one_time_keys_count).toEqual({ [algorithm]: 1 })
  })

  test('deactivation takes all keys', async () => {
    const [alice, bob] = [await person('alice'), await person('bob')]
    const olm = olmDevice(alice)
    await upload(alice, { device_keys: olm.device_keys, one_time_keys: olm.oneTimeKeys('A') })
    const auth = { type: 'm.login.password', identifier: { type: 'm.id.user', user: alice.user_id }, password }
    await alice.must('POST', 'account/deactivate', { auth })
    expect(await claim(bob, alice)).toEqual({})
    const answer = await bob.must('POST', 'keys/query', { device_keys: { [alice.user_id]: [] } })
    expect(answer.device_keys).toEqual({ [alice.user_id]: {} })
  })
})
