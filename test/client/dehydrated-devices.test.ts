/** MSC3814, devices that no client runs: over HTTP to one server process.
 *  https://github.com/matrix-org/matrix-spec-proposals/pull/3814 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type TestDatabase, testDatabase } from '../support/database.ts'
import { HttpClient } from '../support/http-client.ts'
import { type ServerProcess, serverProcess } from '../support/server-process.ts'

const v3 = '/_matrix/client/v3'
const dehydrated = '/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device'

interface Person {
  readonly user_id: string
  readonly device_id: string
  readonly access_token: string
}
// biome-ignore lint/suspicious/noExplicitAny: a test reads the answer as a client would
type Body = any

let database: TestDatabase
let server: ServerProcess
let http: HttpClient
let people = 0
beforeAll(async () => {
  database = await testDatabase()
  server = await serverProcess({ databaseUrl: database.url })
  await server.start()
  http = new HttpClient('127.0.0.1', server.port)
})
afterAll(async () => {
  http?.close()
  await server?.close()
  await database?.drop()
})

const person = () => server.register(`person${++people}`)

async function ask(by: Person, method: string, path: string, body?: unknown): Promise<{ status: number; body: Body }> {
  const answer = await http.request(method, path, by.access_token, body)
  return { status: answer.status, body: JSON.parse(answer.body) }
}
const device = (user: Person, device_id: string, more: object = {}) => ({
  device_id,
  device_data: { algorithm: 'org.matrix.msc3814.v2', device_pickle: 'x', nonce: 'y' },
  initial_device_display_name: 'Dry',
  device_keys: {
    user_id: user.user_id,
    device_id,
    algorithms: ['m.olm.v1.curve25519-aes-sha2'],
    keys: { [`ed25519:${device_id}`]: 'abc', [`curve25519:${device_id}`]: 'def' },
    signatures: { [user.user_id]: { [`ed25519:${device_id}`]: 'ghi' } },
    dehydrated: true,
  },
  one_time_keys: { 'signed_curve25519:A': { key: 'a', signatures: {} } },
  fallback_keys: { 'signed_curve25519:F': { key: 'f', fallback: true, signatures: {} } },
  ...more,
})
let transactions = 0
async function send(from: Person, user_id: string, device_id: string, content: object): Promise<void> {
  const path = `${v3}/sendToDevice/m.room.encrypted/${++transactions}`
  const answer = await ask(from, 'PUT', path, { messages: { [user_id]: { [device_id]: content } } })
  expect(answer.status).toBe(200)
}
const events = (by: Person, id: string, next_batch?: string, query = '') =>
  ask(by, 'POST', `${dehydrated}/${id}/events${query}`, next_batch ? { next_batch } : {})

describe('MSC3814', () => {
  test('there is none, there is one, it is deleted', async () => {
    const alice = await person()
    expect(await ask(alice, 'GET', dehydrated)).toMatchObject({ status: 404, body: { errcode: 'M_NOT_FOUND' } })
    expect(await ask(alice, 'DELETE', dehydrated)).toMatchObject({ status: 404, body: { errcode: 'M_NOT_FOUND' } })
    const sent = device(alice, 'DRY')
    expect(await ask(alice, 'PUT', dehydrated, sent)).toEqual({ status: 200, body: { device_id: 'DRY' } })
    expect(await ask(alice, 'GET', dehydrated)).toEqual({
      status: 200,
      body: { device_id: 'DRY', device_data: sent.device_data },
    })
    expect((await ask(alice, 'GET', `${v3}/devices/DRY`)).body).toEqual({ device_id: 'DRY', display_name: 'Dry' })
    expect(await ask(alice, 'DELETE', dehydrated)).toEqual({ status: 200, body: { device_id: 'DRY' } })
    expect((await ask(alice, 'GET', dehydrated)).status).toBe(404)
    expect((await ask(alice, 'GET', `${v3}/devices/DRY`)).status).toBe(404)
  })

  test('its keys are found and claimed as those of any device', async () => {
    const [alice, bob] = [await person(), await person()]
    const sent = device(alice, 'DRY')
    await ask(alice, 'PUT', dehydrated, sent)
    const query = { device_keys: { [alice.user_id]: [] } }
    const found = (await ask(bob, 'POST', `${v3}/keys/query`, query)).body.device_keys[alice.user_id]
    expect(found.DRY).toMatchObject(sent.device_keys)
    const claim = async () => {
      const one_time_keys = { [alice.user_id]: { DRY: 'signed_curve25519' } }
      return (await ask(bob, 'POST', `${v3}/keys/claim`, { one_time_keys })).body.one_time_keys[alice.user_id].DRY
    }
    expect(await claim()).toEqual({ 'signed_curve25519:A': { key: 'a', signatures: {} } })
    expect(await claim()).toEqual({ 'signed_curve25519:F': { key: 'f', fallback: true, signatures: {} } })
    await ask(alice, 'DELETE', dehydrated)
    const after = (await ask(bob, 'POST', `${v3}/keys/query`, query)).body.device_keys[alice.user_id]
    expect(after.DRY).toBeUndefined()
  })

  test('its messages are read again and again, a piece at a time, until it is deleted', async () => {
    const [alice, bob] = [await person(), await person()]
    await ask(alice, 'PUT', dehydrated, device(alice, 'DRY'))
    for (let n = 0; n < 105; n++) await send(bob, alice.user_id, 'DRY', { n })
    const read = async () => {
      const numbers: number[] = []
      let next: string | undefined
      for (;;) {
        const { status, body } = await events(alice, 'DRY', next)
        expect(status).toBe(200)
        if (body.events.length === 0) return numbers
        for (const event of body.events) {
          expect(event).toMatchObject({ sender: bob.user_id, type: 'm.room.encrypted' })
          numbers.push(event.content.n)
        }
        next = body.next_batch
      }
    }
    const all = Array.from({ length: 105 }, (_, n) => n)
    expect(await read()).toEqual(all)
    expect(await read()).toEqual(all)
    const first = await ask(alice, 'GET', `${dehydrated}/DRY/events?limit=100`)
    expect(first.body.events).toHaveLength(100)
    const rest = await ask(alice, 'GET', `${dehydrated}/DRY/events?from=${first.body.next_batch}`)
    expect(rest.body.events).toHaveLength(5)
    expect(rest.body.next_batch).toBeUndefined()
    expect((await events(alice, 'DRY', undefined, '?limit=3')).body.events).toHaveLength(3)
    await ask(alice, 'DELETE', dehydrated)
    await expect.poll(async () => (await database.sql`select from to_device where device_id = 'DRY'`).length).toBe(0)
    await ask(alice, 'PUT', dehydrated, device(alice, 'DRY'))
    expect(await read()).toEqual([])
  })

  test('another takes the place of the one before, also of one with the same name', async () => {
    const [alice, bob] = [await person(), await person()]
    await ask(alice, 'PUT', dehydrated, device(alice, 'ONE'))
    await send(bob, alice.user_id, 'ONE', { n: 1 })
    await ask(alice, 'PUT', dehydrated, device(alice, 'TWO'))
    expect((await ask(alice, 'GET', `${v3}/devices/ONE`)).status).toBe(404)
    expect(await events(alice, 'ONE')).toMatchObject({ status: 403, body: { errcode: 'M_FORBIDDEN' } })
    await send(bob, alice.user_id, 'TWO', { n: 2 })
    await ask(alice, 'PUT', dehydrated, device(alice, 'TWO', { device_data: { algorithm: 'a', n: 2 } }))
    expect((await ask(alice, 'GET', dehydrated)).body).toEqual({
      device_id: 'TWO',
      device_data: { algorithm: 'a', n: 2 },
    })
    expect((await events(alice, 'TWO')).body.events).toEqual([])
    const sessions = await ask(alice, 'GET', `${v3}/devices`)
    expect(sessions.body.devices.map((one: { device_id: string }) => one.device_id).toSorted()).toEqual(
      [alice.device_id, 'TWO'].toSorted(),
    )
  })

  test('those who share a room hear of it', async () => {
    const [alice, bob] = [await person(), await person()]
    const { room_id } = (await ask(alice, 'POST', `${v3}/createRoom`, { preset: 'public_chat' })).body
    await ask(bob, 'POST', `${v3}/join/${encodeURIComponent(room_id)}`, {})
    const { next_batch } = (await ask(bob, 'GET', `${v3}/sync?timeout=0`)).body
    await ask(alice, 'PUT', dehydrated, device(alice, 'DRY'))
    const changed = await ask(bob, 'GET', `${v3}/sync?timeout=0&since=${next_batch}`)
    expect(changed.body.device_lists.changed).toEqual([alice.user_id])
  })

  test('a user logs out everywhere: it goes too', async () => {
    const alice = await person()
    await ask(alice, 'PUT', dehydrated, device(alice, 'DRY'))
    await ask(alice, 'POST', `${v3}/logout/all`, {})
    expect(await database.sql`select from dehydrated_devices where user_id = ${alice.user_id}`).toHaveLength(0)
  })

  test.each([
    ['no keys', { device_keys: undefined }, 'M_MISSING_PARAM'],
    ['keys of another device', { device_id: 'OTHER' }, 'M_INVALID_PARAM'],
    ['no algorithm', { device_data: {} }, 'M_MISSING_PARAM'],
    ['no data', { device_data: undefined }, 'M_MISSING_PARAM'],
    ['two fallback keys an algorithm', { fallback_keys: { 'a:1': 'x', 'a:2': 'y' } }, 'M_INVALID_PARAM'],
    ['a key without a name', { one_time_keys: { a: 'x' } }, 'M_INVALID_PARAM'],
  ])('%s is refused, and what was there stays', async (_, wrong, errcode) => {
    const alice = await person()
    await ask(alice, 'PUT', dehydrated, device(alice, 'DRY'))
    const answer = await ask(alice, 'PUT', dehydrated, device(alice, 'NEW', wrong))
    expect(answer.status).toBe(400)
    expect(answer.body.errcode).toBe(errcode)
    expect((await ask(alice, 'GET', dehydrated)).body.device_id).toBe('DRY')
  })

  test('a device that a client runs is not for taking, and tokens are those of an inbox', async () => {
    const alice = await person()
    const taken = await ask(alice, 'PUT', dehydrated, device(alice, alice.device_id))
    expect(taken).toMatchObject({ status: 400, body: { errcode: 'M_INVALID_PARAM' } })
    expect((await events(alice, alice.device_id)).status).toBe(403)
    await ask(alice, 'PUT', dehydrated, device(alice, 'DRY'))
    for (const token of ['x', 's1_1', 'd', 'd-1', 'd1 ', 'd99999999999999999999']) {
      expect(await events(alice, 'DRY', token)).toMatchObject({ status: 400, body: { errcode: 'M_INVALID_PARAM' } })
    }
    expect((await events(alice, 'DRY', 'd999999999')).status).toBe(200)
  })
})
