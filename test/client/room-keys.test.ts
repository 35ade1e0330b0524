/** client-server-api/#server-side-key-backups, over HTTP to one server process. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type TestDatabase, testDatabase } from '../support/database.ts'
import { HttpClient } from '../support/http-client.ts'
import { type ServerProcess, serverProcess } from '../support/server-process.ts'

const v3 = '/_matrix/client/v3/room_keys'
const encode = encodeURIComponent
const algorithm = 'm.megolm_backup.v1.curve25519-aes-sha2'
const room = '!room:test.local'

interface Device {
  readonly user_id: string
  readonly access_token: string
}
type Body = Record<string, unknown>

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

async function ask(by: Device, method: string, path: string, body?: unknown): Promise<{ status: number; body: Body }> {
  const answer = await http.request(method, `${v3}/${path}`, by.access_token, body)
  return { status: answer.status, body: JSON.parse(answer.body) as Body }
}
async function ok(by: Device, method: string, path: string, body?: unknown): Promise<Body> {
  const answer = await ask(by, method, path, body)
  expect(answer.status, JSON.stringify(answer.body)).toBe(200)
  return answer.body
}
async function expectError(answer: Promise<{ status: number; body: Body }>, status: number, errcode: string) {
  const { status: found, body } = await answer
  expect(found).toBe(status)
  expect(body).toMatchObject({ errcode, error: expect.any(String) })
  return body
}

async function backup(by: Device, auth_data: object = { public_key: 'abc' }): Promise<string> {
  return String((await ok(by, 'POST', 'version', { algorithm, auth_data })).version)
}
const key = (more: object = {}) => ({
  first_message_index: 1,
  forwarded_count: 0,
  is_verified: false,
  session_data: { ciphertext: 'x', ephemeral: 'y', mac: 'z' },
  ...more,
})
const place = (session: string, of = room) => `keys/${encode(of)}/${encode(session)}`

describe('client-server-api/#post_matrixclientv3room_keysversion', () => {
  test('a user has no backup, then one, then a newer one; the older stays', async () => {
    const alice = await person()
    await expectError(ask(alice, 'GET', 'version'), 404, 'M_NOT_FOUND')
    const first = await backup(alice, { public_key: 'one', signatures: { a: { b: 'c' } } })
    const second = await backup(alice, { public_key: 'two' })
    expect(second).not.toBe(first)
    expect(await ok(alice, 'GET', 'version')).toEqual({
      version: second,
      algorithm,
      auth_data: { public_key: 'two' },
      count: 0,
      etag: expect.any(String),
    })
    expect(await ok(alice, 'GET', `version/${first}`)).toMatchObject({
      version: first,
      auth_data: { public_key: 'one', signatures: { a: { b: 'c' } } },
    })
    await expectError(ask(await person(), 'GET', `version/${second}`), 404, 'M_NOT_FOUND')
  })

  test.each(['0', '01', '-1', 'x', '1.0', '99999999999999999999', '%00'])('version %s is none', async (version) => {
    const alice = await person()
    await backup(alice)
    const answer = await ask(alice, 'GET', `version/${version}`)
    expect(answer.status).toBe(404)
  })

  test('client-server-api/#put_matrixclientv3room_keysversionversion changes auth_data alone', async () => {
    const alice = await person()
    const version = await backup(alice)
    const { etag } = await ok(alice, 'GET', 'version')
    expect(await ok(alice, 'PUT', `version/${version}`, { algorithm, auth_data: { b: 2 }, version })).toEqual({})
    expect(await ok(alice, 'GET', 'version')).toEqual({ version, algorithm, auth_data: { b: 2 }, count: 0, etag })
    const put = (body: object, at = version) => ask(alice, 'PUT', `version/${at}`, { auth_data: {}, ...body })
    await expectError(put({ algorithm: 'another' }), 400, 'M_INVALID_PARAM')
    await expectError(put({ algorithm, version: '77' }), 400, 'M_INVALID_PARAM')
    await expectError(put({}), 400, 'M_MISSING_PARAM')
    await expectError(put({ algorithm }, '77'), 404, 'M_NOT_FOUND')
  })

  test('client-server-api/#delete_matrixclientv3room_keysversionversion: keys go, the number is not used again', async () => {
    const alice = await person()
    const first = await backup(alice)
    const second = await backup(alice)
    await ok(alice, 'PUT', `${place('s')}?version=${second}`, key())
    expect(await ok(alice, 'DELETE', `version/${second}`)).toEqual({})
    await expectError(ask(alice, 'DELETE', `version/${second}`), 404, 'M_NOT_FOUND')
    await expectError(ask(alice, 'GET', `version/${second}`), 404, 'M_NOT_FOUND')
    await expectError(ask(alice, 'GET', `keys?version=${second}`), 404, 'M_NOT_FOUND')
    await expectError(ask(alice, 'PUT', `version/${second}`, { algorithm, auth_data: {} }), 404, 'M_NOT_FOUND')
    const wrong = ask(alice, 'PUT', `${place('s')}?version=${second}`, key())
    expect(await expectError(wrong, 403, 'M_WRONG_ROOM_KEYS_VERSION')).toMatchObject({ current_version: first })
    expect(await ok(alice, 'GET', 'version')).toMatchObject({ version: first })
    expect(Number(await backup(alice))).toBeGreaterThan(Number(second))
    await expect.poll(async () => (await database.sql`select from ended_room_keys`).length).toBe(0)
    expect(await database.sql`select from room_keys where session_id = 's'`).toHaveLength(0)
  })
})

describe('client-server-api/#put_matrixclientv3room_keyskeys', () => {
  test("all, a room's, or one key, put and read", async () => {
    const alice = await person()
    const version = await backup(alice)
    const other = '!other:test.local'
    const one = await ok(alice, 'PUT', `${place('a/b \u0000')}?version=${version}`, key({ forwarded_count: 3 }))
    expect(one).toEqual({ count: 1, etag: expect.any(String) })
    const sessions = { two: key(), three: key({ is_verified: true }) }
    const two = await ok(alice, 'PUT', `keys/${encode(room)}?version=${version}`, { sessions })
    expect(two).toEqual({ count: 3, etag: expect.any(String) })
    expect(two.etag).not.toBe(one.etag)
    const all = { [room]: { sessions: { four: key() } }, [other]: { sessions: { four: key() } } }
    expect(await ok(alice, 'PUT', `keys?version=${version}`, { rooms: all })).toMatchObject({ count: 5 })
    const ofRoom = { 'a/b \u0000': key({ forwarded_count: 3 }), ...sessions, four: key() }
    expect(await ok(alice, 'GET', `keys?version=${version}`)).toEqual({
      rooms: { [room]: { sessions: ofRoom }, [other]: { sessions: { four: key() } } },
    })
    expect(await ok(alice, 'GET', `keys/${encode(room)}?version=${version}`)).toEqual({ sessions: ofRoom })
    expect(await ok(alice, 'GET', `${place('three')}?version=${version}`)).toEqual(key({ is_verified: true }))
    expect(await ok(alice, 'GET', 'version')).toMatchObject({ count: 5 })
  })

  test('where there is nothing', async () => {
    const alice = await person()
    await expectError(ask(alice, 'GET', 'keys?version=1'), 404, 'M_NOT_FOUND')
    await expectError(ask(alice, 'PUT', `${place('s')}?version=1`, key()), 404, 'M_NOT_FOUND')
    await expectError(ask(alice, 'DELETE', 'keys?version=1'), 404, 'M_NOT_FOUND')
    const version = await backup(alice)
    expect(await ok(alice, 'GET', `keys?version=${version}`)).toEqual({ rooms: {} })
    expect(await ok(alice, 'GET', `keys/${encode(room)}?version=${version}`)).toEqual({ sessions: {} })
    await expectError(ask(alice, 'GET', `${place('s')}?version=${version}`), 404, 'M_NOT_FOUND')
    await expectError(ask(alice, 'GET', 'keys'), 400, 'M_MISSING_PARAM')
    expect(await ok(alice, 'PUT', `keys?version=${version}`, { rooms: {} })).toMatchObject({ count: 0 })
    expect(await ok(alice, 'DELETE', `${place('s')}?version=${version}`)).toMatchObject({ count: 0 })
  })

  test('only the current backup takes keys', async () => {
    const alice = await person()
    const old = await backup(alice)
    await ok(alice, 'PUT', `${place('s')}?version=${old}`, key())
    const current = await backup(alice)
    const refused = ask(alice, 'PUT', `${place('t')}?version=${old}`, key())
    expect(await expectError(refused, 403, 'M_WRONG_ROOM_KEYS_VERSION')).toMatchObject({ current_version: current })
    expect(await ok(alice, 'GET', `keys?version=${old}`)).toEqual({ rooms: { [room]: { sessions: { s: key() } } } })
  })

  test.each([
    ['text for an index', { first_message_index: '1' }],
    ['a fraction', { first_message_index: 1.5 }],
    ['text for a flag', { is_verified: 'true' }],
    ['a list for data', { session_data: [] }],
    ['no data', { session_data: undefined }],
    ['a number beyond all', { forwarded_count: 2 ** 60 }],
  ])('%s is refused, and stores nothing', async (_, wrong) => {
    const alice = await person()
    const version = await backup(alice)
    const one = await ask(alice, 'PUT', `${place('s')}?version=${version}`, key(wrong))
    expect(one.status).toBe(400)
    const rooms = { [room]: { sessions: { s: key(), t: key(wrong) } } }
    expect((await ask(alice, 'PUT', `keys?version=${version}`, { rooms })).status).toBe(400)
    expect(await ok(alice, 'GET', 'version')).toMatchObject({ count: 0 })
  })

  const held = { is_verified: false, first_message_index: 10, forwarded_count: 5 }
  test.each([
    { why: 'verified', next: { is_verified: true, first_message_index: 99, forwarded_count: 99 }, replaces: true },
    { why: 'an earlier index', next: { ...held, first_message_index: 9, forwarded_count: 99 }, replaces: true },
    { why: 'forwarded less often', next: { ...held, forwarded_count: 4 }, replaces: true },
    { why: 'a later index', next: { ...held, first_message_index: 11, forwarded_count: 0 }, replaces: false },
    { why: 'forwarded more often', next: { ...held, forwarded_count: 6 }, replaces: false },
    { why: 'the same', next: held, replaces: false },
    { why: 'not verified', held: { is_verified: true }, next: { ...held, first_message_index: 0 }, replaces: false },
    {
      why: 'verified, later',
      held: { is_verified: true },
      next: { ...held, is_verified: true, first_message_index: 11 },
      replaces: false,
    },
    {
      why: 'verified, earlier',
      held: { is_verified: true },
      next: { ...held, is_verified: true, first_message_index: 9 },
      replaces: true,
    },
  ])('of two keys of a session the better one stays: $why', async (row) => {
    const alice = await person()
    const version = await backup(alice)
    const at = `${place('s')}?version=${version}`
    const before = key({ ...held, ...row.held })
    const after = key({ ...row.next, session_data: { another: true } })
    const first = await ok(alice, 'PUT', at, before)
    const second = await ok(alice, 'PUT', at, after)
    expect(await ok(alice, 'GET', at)).toEqual(row.replaces ? after : before)
    expect(second.count).toBe(1)
    if (row.replaces) expect(second.etag).not.toBe(first.etag)
    else expect(second.etag).toBe(first.etag)
  })

  test('clients that back up at the same time lose no key, and count right', async () => {
    const alice = await person()
    const version = await backup(alice)
    await Promise.all(
      Array.from({ length: 20 }, (_, i) =>
        ok(alice, 'PUT', `keys/${encode(room)}?version=${version}`, {
          sessions: { [`own${i}`]: key(), shared: key({ first_message_index: 50 - i }) },
        }),
      ),
    )
    expect(await ok(alice, 'GET', 'version')).toMatchObject({ count: 21 })
    expect(await ok(alice, 'GET', `${place('shared')}?version=${version}`)).toEqual(key({ first_message_index: 31 }))
  })
})

describe('client-server-api/#delete_matrixclientv3room_keyskeys', () => {
  test("one, a room's, or all", async () => {
    const alice = await person()
    const version = await backup(alice)
    const sessions = { a: key(), b: key(), c: key() }
    const rooms = { [room]: { sessions }, '!other:test.local': { sessions }, '!third:test.local': { sessions } }
    const put = await ok(alice, 'PUT', `keys?version=${version}`, { rooms })
    const one = await ok(alice, 'DELETE', `${place('a')}?version=${version}`)
    expect(one).toMatchObject({ count: 8 })
    expect(one.etag).not.toBe(put.etag)
    const none = await ok(alice, 'DELETE', `${place('a')}?version=${version}`)
    expect(none).toEqual(one)
    expect(await ok(alice, 'DELETE', `keys/${encode(room)}?version=${version}`)).toMatchObject({ count: 6 })
    expect(await ok(alice, 'GET', `keys/${encode(room)}?version=${version}`)).toEqual({ sessions: {} })
    const all = await ok(alice, 'DELETE', `keys?version=${version}`)
    expect(all).toMatchObject({ count: 0 })
    expect(await ok(alice, 'GET', `keys?version=${version}`)).toEqual({ rooms: {} })
    expect(await ok(alice, 'GET', 'version')).toMatchObject({ version, count: 0, etag: all.etag })
    // What comes after is not taken for what was there before.
    expect(await ok(alice, 'PUT', `${place('a')}?version=${version}`, key())).toMatchObject({ count: 1 })
    await expect.poll(async () => (await database.sql`select from ended_room_keys`).length).toBe(0)
    expect(await ok(alice, 'GET', `keys?version=${version}`)).toEqual({ rooms: { [room]: { sessions: { a: key() } } } })
  })

  test('a large backup is read whole, and a large room deleted, piece by piece', async () => {
    const alice = await person()
    const version = await backup(alice)
    const [{ key_set = 0 } = {}] = await database.sql<{ key_set: number }[]>`
      select key_set from room_key_versions where user_id = ${alice.user_id}`
    for (const [room_id, count] of [
      [room, 4_500],
      ['!second:test.local', 700],
    ] as const) {
      await database.sql`
        insert into room_keys select ${key_set}, ${room_id}, 's' || i, 1, 0, false, '{}' from generate_series(1, ${count}::int) i`
    }
    await database.sql`update room_key_versions set key_count = 5200 where key_set = ${key_set}`
    const { rooms } = (await ok(alice, 'GET', `keys?version=${version}`)) as {
      rooms: Record<string, { sessions: object }>
    }
    expect(Object.entries(rooms).map(([id, { sessions }]) => [id, Object.keys(sessions).length])).toEqual([
      [room, 4_500],
      ['!second:test.local', 700],
    ])
    expect(await ok(alice, 'DELETE', `keys/${encode(room)}?version=${version}`)).toMatchObject({ count: 700 })
    const rest = (await ok(alice, 'GET', `keys/${encode('!second:test.local')}?version=${version}`)) as {
      sessions: object
    }
    expect(Object.keys(rest.sessions)).toHaveLength(700)
  })

  test('a user who is deactivated leaves no backup', async () => {
    const alice = await person()
    const version = await backup(alice)
    await ok(alice, 'PUT', `${place('left')}?version=${version}`, key())
    const auth = {
      type: 'm.login.password',
      identifier: { type: 'm.id.user', user: alice.user_id },
      password: alice.password,
    }
    const begun = await http.request('POST', '/_matrix/client/v3/account/deactivate', alice.access_token, {})
    const { session } = JSON.parse(begun.body) as { session: string }
    await http.json('POST', '/_matrix/client/v3/account/deactivate', alice.access_token, { auth: { ...auth, session } })
    await expect.poll(async () => (await database.sql`select from room_keys where session_id = 'left'`).length).toBe(0)
  })
})
