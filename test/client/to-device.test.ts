/** client-server-api/#send-to-device-messaging: sent over HTTP, received through sync, by one server process. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { sendToDevice } from '../../functions/client/to-device/send.ts'
import { type TestDatabase, testDatabase } from '../support/database.ts'
import { HttpClient } from '../support/http-client.ts'
import { type ServerProcess, serverProcess } from '../support/server-process.ts'

const v3 = '/_matrix/client/v3'
const encode = encodeURIComponent

interface Device {
  readonly user_id: string
  readonly device_id: string
  readonly access_token: string
}
interface Event {
  readonly sender: string
  readonly type: string
  readonly content: Record<string, unknown>
}
interface Sync {
  readonly next_batch: string
  readonly to_device?: { readonly events: readonly Event[] }
}

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

/** Another device of the user, or the same one anew. */
async function login(user: Device & { readonly password: string }, device_id?: string): Promise<Device> {
  return http.json('POST', `${v3}/login`, undefined, {
    type: 'm.login.password',
    identifier: { type: 'm.id.user', user: user.user_id },
    password: user.password,
    ...(device_id === undefined ? {} : { device_id }),
  })
}

let transactions = 0
function put(from: Device, messages: unknown, txnId = `t${++transactions}`, type = 'm.test') {
  return http.request('PUT', `${v3}/sendToDevice/${encode(type)}/${encode(txnId)}`, from.access_token, { messages })
}
async function send(from: Device, messages: unknown, txnId?: string, type?: string): Promise<void> {
  const answer = await put(from, messages, txnId, type)
  expect(answer).toEqual({ status: 200, body: '{}' })
}
const to = (device: Device, content: object) => ({ [device.user_id]: { [device.device_id]: content } })

async function sync(device: Device, since?: string, timeout = 0): Promise<Sync> {
  return http.json('GET', `${v3}/sync?timeout=${timeout}${since ? `&since=${since}` : ''}`, device.access_token)
}
const contents = (answer: Sync) => (answer.to_device?.events ?? []).map((event) => event.content)

async function held(device: Device): Promise<number> {
  const [row] = await database.sql<{ count: number }[]>`
    select count(*)::integer as count from to_device
    where user_id = ${device.user_id} and device_id = ${device.device_id}`
  return row?.count ?? 0
}

describe('client-server-api/#send-to-device-messaging', () => {
  test('a message comes with the next sync of the device that it is for, and of no other', async () => {
    const [alice, bob] = [await person(), await person()]
    const second = await login(bob)
    const [{ next_batch: since }, other] = [await sync(bob), await sync(second)]
    await send(alice, to(bob, { my_key: 'my_value', nul: '\u0000\u0001', deep: [{ '': null }] }), 'one', 'my.test.type')
    const answer = await sync(bob, since)
    expect(answer.to_device).toEqual({
      events: [
        {
          sender: alice.user_id,
          type: 'my.test.type',
          content: { my_key: 'my_value', nul: '\u0000\u0001', deep: [{ '': null }] },
        },
      ],
    })
    expect((await sync(second, other.next_batch)).to_device).toBeUndefined()
  })

  test('* stands for all devices of the user', async () => {
    const [alice, bob] = [await person(), await person()]
    const second = await login(bob)
    await send(alice, { [bob.user_id]: { '*': { n: 1 } }, [alice.user_id]: { '*': { n: 2 } } })
    expect(contents(await sync(bob))).toEqual([{ n: 1 }])
    expect(contents(await sync(second))).toEqual([{ n: 1 }])
    expect(contents(await sync(alice))).toEqual([{ n: 2 }])
  })

  test('users and devices that are not there are left out, and stop no other message', async () => {
    const [alice, bob] = [await person(), await person()]
    await send(alice, {
      '@nobody:test.local': { '*': { n: 1 }, GHOST: { n: 1 } },
      '@someone:elsewhere.example': { '*': { n: 1 } },
      'no user at all': { '*': { n: 1 } },
      [bob.user_id]: { GHOST: { n: 1 }, '': { n: 1 }, [bob.device_id]: { n: 2 } },
    })
    expect(contents(await sync(bob))).toEqual([{ n: 2 }])
    const answer = await put(alice, {})
    expect(answer.status).toBe(200)
  })

  test.each([
    ['messages are missing', undefined, 400, 'M_MISSING_PARAM'],
    ['messages are a list', [], 400, 'M_BAD_JSON'],
    ['messages of a user are text', { '@a:test.local': 'x' }, 400, 'M_BAD_JSON'],
    ['a message is text', { '@a:test.local': { D: 'x' } }, 400, 'M_BAD_JSON'],
    ['a message is too large', { '@a:test.local': { D: { x: 'x'.repeat(70_000) } } }, 413, 'M_TOO_LARGE'],
  ])('%s', async (_, messages, status, errcode) => {
    const answer = await put(await person(), messages)
    expect(answer.status).toBe(status)
    expect(JSON.parse(answer.body)).toMatchObject({ errcode })
  })

  test('client-server-api/#transaction-identifiers: a transaction has one effect, a device and type', async () => {
    const [alice, bob] = [await person(), await person()]
    const second = await login(alice)
    await send(alice, to(bob, { n: 1 }), 'same')
    await send(alice, to(bob, { n: 2 }), 'same')
    await Promise.all([send(alice, to(bob, { n: 3 }), 'both'), send(alice, to(bob, { n: 3 }), 'both')])
    await send(alice, to(bob, { n: 4 }), 'same', 'm.another')
    await send(second, to(bob, { n: 5 }), 'same')
    expect(contents(await sync(bob))).toEqual([{ n: 1 }, { n: 3 }, { n: 4 }, { n: 5 }])
  })

  test('what was handed out comes again until the token that came with it is used, and then never', async () => {
    const [alice, bob] = [await person(), await person()]
    const first = await sync(bob)
    await send(alice, to(bob, { n: 1 }))
    const lost = await sync(bob, first.next_batch)
    expect(contents(lost)).toEqual([{ n: 1 }])
    await send(alice, to(bob, { n: 2 }))
    const second = await sync(bob, first.next_batch)
    expect(contents(second)).toEqual([{ n: 1 }, { n: 2 }])
    expect(await held(bob)).toBe(2)
    await send(alice, to(bob, { n: 3 }))
    const third = await sync(bob, second.next_batch)
    expect(contents(third)).toEqual([{ n: 3 }])
    expect(await held(bob)).toBe(1)
    // With nothing new to tell, what it had is acknowledged all the same.
    expect(contents(await sync(bob, third.next_batch))).toEqual([])
    expect(await held(bob)).toBe(0)
    expect(contents(await sync(bob))).toEqual([])
    expect(contents(await sync(bob, first.next_batch))).toEqual([])
  })

  test('a device that begins anew gets what it has not acknowledged', async () => {
    const [alice, bob] = [await person(), await person()]
    await send(alice, to(bob, { n: 1 }))
    expect(contents(await sync(bob))).toEqual([{ n: 1 }])
    await send(alice, to(bob, { n: 2 }))
    expect(contents(await sync(bob))).toEqual([{ n: 1 }, { n: 2 }])
  })

  test('a long list comes in order, 100 an answer, each once', async () => {
    const [alice, bob, carol] = [await person(), await person(), await person()]
    const { next_batch } = await sync(bob)
    for (let i = 0; i < 125; i++) {
      await send(alice, to(bob, { from: 'alice', i }))
      await send(carol, to(bob, { from: 'carol', i }))
    }
    const all: Record<string, unknown>[] = []
    const sizes: number[] = []
    let since = next_batch
    for (let i = 0; i < 4; i++) {
      const answer = await sync(bob, since)
      all.push(...contents(answer))
      sizes.push(contents(answer).length)
      since = answer.next_batch
    }
    expect(sizes).toEqual([100, 100, 50, 0])
    for (const from of ['alice', 'carol']) {
      expect(all.filter((content) => content.from === from).map((content) => content.i)).toEqual(
        Array.from({ length: 125 }, (_, i) => i),
      )
    }
    expect(await held(bob)).toBe(0)
  })

  test('large messages come fewer an answer', async () => {
    const [alice, bob] = [await person(), await person()]
    const text = 'x'.repeat(60_000)
    for (let i = 0; i < 50; i++) await send(alice, to(bob, { i, text }))
    const first = await sync(bob)
    expect(contents(first).length).toBeGreaterThan(10)
    expect(contents(first).length).toBeLessThan(50)
    const second = await sync(bob, first.next_batch)
    expect([...contents(first), ...contents(second)].map((content) => content.i)).toEqual(
      Array.from({ length: 50 }, (_, i) => i),
    )
  })

  test('it wakes who waits', async () => {
    const [alice, bob] = [await person(), await person()]
    const second = await login(bob)
    const { next_batch } = await sync(bob)
    const other = await sync(second)
    const mine = sync(bob, next_batch, 20_000)
    const others = sync(second, other.next_batch, 1_000)
    await send(alice, to(bob, { n: 1 }))
    expect(contents(await mine)).toEqual([{ n: 1 }])
    expect(contents(await others)).toEqual([])
  })

  test('a device that is logged out takes its messages along', async () => {
    const [alice, bob] = [await person(), await person()]
    const gone = await login(bob, 'GONE')
    await login(bob, 'STAYS')
    for (let i = 0; i < 3; i++) await send(alice, { [bob.user_id]: { '*': { i } } })
    await http.json('POST', `${v3}/logout`, gone.access_token, {})
    await send(alice, to(gone, { late: true }))
    await expect.poll(() => held(gone)).toBe(0)
    await expect.poll(async () => (await database.sql`select from ended_inboxes`).length).toBe(0)
    const again = await login(bob, 'GONE')
    const since = await sync(again)
    expect(contents(since)).toEqual([])
    await send(alice, to(again, { n: 1 }))
    expect(contents(await sync(again, since.next_batch))).toEqual([{ n: 1 }])
    expect(await held({ ...bob, device_id: 'STAYS' })).toBe(3)
  })

  test('a device of a former one with its name has none of its messages, also before they are deleted', async () => {
    const [alice, bob] = [await person(), await person()]
    const first = await login(bob, 'PHOENIX')
    await send(alice, to(first, { n: 1 }))
    const [last] = await database.sql<{ position: number }[]>`
      select max(position) as position from to_device where user_id = ${bob.user_id}`
    // As if a main had ended between the commit and the deletion.
    await database.sql`insert into ended_inboxes values (${bob.user_id}, 'PHOENIX', ${last?.position ?? 0})`
    expect(contents(await sync(first))).toEqual([])
    await send(alice, to(first, { n: 2 }))
    expect(contents(await sync(first))).toEqual([{ n: 2 }])
    const another = await login(bob)
    await http.json('POST', `${v3}/logout`, another.access_token, {})
    await expect.poll(() => held(first)).toBe(1)
    expect(contents(await sync(first))).toEqual([{ n: 2 }])
  })

  test('a new login of a known device keeps what waits for it', async () => {
    const [alice, bob] = [await person(), await person()]
    await send(alice, to(bob, { n: 1 }))
    const again = await login(bob, bob.device_id)
    expect(contents(await sync(again))).toEqual([{ n: 1 }])
  })

  test('client-server-api/#guest-access: guests may send', () => expect(sendToDevice.auth).toBe('guest'))
})
