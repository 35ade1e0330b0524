/** A one-time key is given out once, and no key is lost: whoever claims at the same time, whatever connection is cut, shard
 *  moved or process killed, and however often it was uploaded. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import type { RequestOf, ResponseOf } from '../../shared/commands/define.ts'
import type { keyCommands } from '../../shared/commands/keys.ts'
import type { MainClient } from '../../shared/commands/registry.ts'
import { shardOf } from '../../shared/commands/shards.ts'
import type { DeviceId, UserId } from '../../shared/matrix/ids.ts'
import type { MainSql } from '../../shared/storage/sql.ts'
import { type CommandMains, commandMains, type RunningMain } from '../support/command-mains.ts'
import { type TestDatabase, testDatabase } from '../support/database.ts'
import { HttpClient } from '../support/http-client.ts'
import { seeded } from '../support/random.ts'
import { type ServerProcess, serverProcess } from '../support/server-process.ts'

const algorithm = 'signed_curve25519'
type Claimed = ResponseOf<(typeof keyCommands)['claimKeys']>['keys']

interface Device {
  readonly user_id: UserId
  readonly device_id: DeviceId
}

const claimOf = (devices: readonly Device[]): RequestOf<(typeof keyCommands)['claimKeys']> => ({
  shard: shardOf(String(devices[0]?.user_id)),
  claims: devices.map(({ user_id, device_id }) => ({ user_id, device_id, algorithm })),
})
const keysOf = (count: number, from = 0) =>
  Array.from({ length: count }, (_, i) => ({
    algorithm,
    key_id: `K${from + i}`,
    key: `{"key":"${from + i}","signatures":{}}`,
  }))
const named = (keys: Claimed) => keys.map(({ user_id, device_id, key_id }) => `${user_id} ${device_id} ${key_id}`)

/** What is there of a user's keys, and what was given out. */
async function stored(sql: MainSql, user_id: UserId): Promise<{ left: number; given: number }> {
  const [row] = await sql<{ left: number; given: number }[]>`
    select (select count(*) from one_time_keys where user_id = ${user_id}) as left,
      (select count(*) from claimed_keys where user_id = ${user_id}) as given`
  return row ?? { left: 0, given: 0 }
}

/** Set while a test's claimers go on; a test that fails leaves none behind. */
let going = false
afterEach(() => {
  going = false
})

describe('client-server-api/#one-time-and-fallback-keys, over several mains', () => {
  let mains: CommandMains
  let first: RunningMain
  let main: MainClient
  let names = 0
  beforeAll(async () => {
    mains = await commandMains()
    first = await mains.start()
    await mains.settled(first)
    main = mains.client().main
  })
  afterAll(() => mains.close())

  async function device(keys: number): Promise<Device> {
    const session = { refreshable: false }
    const user_id = `@user${++names}:hs1` as UserId
    const made = await main.register({ user_id, kind: 'user', admin: false, session })
    const device_id = made.session?.device_id as DeviceId
    await main.uploadKeys({ user_id, device_id, one_time_keys: keysOf(keys), fallback_keys: [] })
    return { user_id, device_id }
  }

  test('claimers at the same time get different keys, in the order of the uploads', async () => {
    const one = await device(60)
    const answers = await Promise.all(Array.from({ length: 80 }, () => main.claimKeys(claimOf([one]))))
    const given = named(answers.flatMap((answer) => answer.keys))
    expect(given).toHaveLength(60)
    expect(new Set(given).size).toBe(60)
    expect(await stored(mains.database.sql, one.user_id)).toEqual({ left: 0, given: 60 })
  })

  test('connections are cut, mains come and go, keys are sent again: each key goes out once, and each answer is right', async () => {
    const random = seeded(7)
    const devices = await Promise.all(Array.from({ length: 16 }, () => device(200)))
    const given = new Map<string, number>()
    going = true
    const failed: unknown[] = []
    const claimer = async (client: MainClient) => {
      while (going) {
        const { keys } = await client.claimKeys(claimOf([random.pick(devices)])).catch((error: unknown) => {
          failed.push(error)
          return { keys: [] }
        })
        for (const name of named(keys)) given.set(name, (given.get(name) ?? 0) + 1)
      }
    }
    /** Who never saw the answer to the upload. */
    const uploader = async (client: MainClient) => {
      while (going) {
        const { user_id, device_id } = random.pick(devices)
        const one_time_keys = keysOf(50, random.below(100))
        await client
          .uploadKeys({ user_id, device_id, one_time_keys, fallback_keys: [] })
          .catch((error) => failed.push(error))
      }
    }
    const clients = Array.from({ length: 4 }, () => mains.client().main)
    const work = Promise.all([...clients.map(claimer), uploader(mains.client().main)])
    const second = await mains.start()
    await mains.settled(first, second)
    for (let i = 0; i < 30; i++) {
      const proxy = random.pick([first, second]).proxy
      const { cuts } = proxy
      proxy.cutAfter(random.below(2_000))
      await expect.poll(() => proxy.cuts, { timeout: 5_000 }).toBeGreaterThan(cuts)
    }
    // One that sleeps while it gives keys out may not go on when it wakes.
    second.freeze()
    await mains.settled(first)
    going = false
    await work
    expect(failed).toEqual([])
    expect([...given].filter(([, times]) => times > 1)).toEqual([])
    // Every claim was answered, so what was given out is what was answered.
    for (const { user_id } of devices) {
      const answered = [...given.keys()].filter((name) => name.startsWith(`${user_id} `)).length
      expect(await stored(mains.database.sql, user_id)).toEqual({ left: 200 - answered, given: answered })
    }
  })

  test('a device that is logged out while its keys are claimed', async () => {
    for (let i = 0; i < 10; i++) {
      const one = await device(20)
      const claims = Array.from({ length: 15 }, () => main.claimKeys(claimOf([one])))
      const ended = main.deleteDevices({ user_id: one.user_id, device_ids: [one.device_id] })
      const given = named((await Promise.all(claims)).flatMap(({ keys }) => keys))
      await ended
      expect(new Set(given).size).toBe(given.length)
      expect(await stored(mains.database.sql, one.user_id)).toEqual({ left: 0, given: 0 })
      expect((await main.claimKeys(claimOf([one]))).keys).toEqual([])
    }
  })

  test('the database itself refuses to give a key out twice', async () => {
    const one = await device(1)
    const { database } = mains
    const rest = { claims: [{ ...one, algorithm, key_id: 'K0' }], now: 1 }
    const give = () => database.sql`select commit_keys('nobody', 0, 0, ${JSON.stringify(rest)}::text::jsonb)`
    await give()
    await expect(give()).rejects.toMatchObject({ code: 'GN002' })
  })
})

describe('client-server-api/#post_matrixclientv3keysclaim, while the server is killed', () => {
  let database: TestDatabase
  let server: ServerProcess
  beforeAll(async () => {
    database = await testDatabase()
    server = await serverProcess({ databaseUrl: database.url })
    await server.start()
  })
  afterAll(async () => {
    await server?.close()
    await database?.drop()
  })

  test('no key is seen twice, and none is both given out and there', async () => {
    const random = seeded(11)
    const http = new HttpClient('127.0.0.1', server.port)
    const people = await Promise.all([0, 1, 2].map((i) => server.register(`person${i}`)))
    const v3 = '/_matrix/client/v3'
    for (const { access_token } of people) {
      const one_time_keys = Object.fromEntries(
        keysOf(900).map(({ key_id, key }) => [`${algorithm}:${key_id}`, JSON.parse(key)]),
      )
      await http.json('POST', `${v3}/keys/upload`, access_token, { one_time_keys })
    }
    http.close()
    const given: string[] = []
    let up: Promise<unknown> = Promise.resolve()
    const claimer = async () => {
      while (going) {
        const client = new HttpClient('127.0.0.1', server.port)
        try {
          while (going) {
            const { user_id, device_id, access_token } = random.pick(people)
            const wanted = { one_time_keys: { [user_id]: { [device_id]: algorithm } } }
            const answer = await client.json<{ one_time_keys: Record<string, Record<string, object>> }>(
              'POST',
              `${v3}/keys/claim`,
              access_token,
              wanted,
            )
            const [key] = Object.keys(answer.one_time_keys[user_id]?.[device_id] ?? {})
            if (key) given.push(`${user_id} ${key}`)
          }
        } catch {
          // It was killed: whether a key was given out for this request, nobody was told.
          await up
        } finally {
          client.close()
        }
      }
    }
    going = true
    const claimers = Promise.all(Array.from({ length: 8 }, claimer))
    for (let kills = 0; kills < 2; kills++) {
      const before = given.length
      await expect.poll(() => given.length, { timeout: 10_000 }).toBeGreaterThan(before + 40 + random.below(60))
      up = server.kill().then(() => server.start())
      await up
    }
    going = false
    await claimers
    expect(new Set(given).size).toBe(given.length)
    const left = new Set(
      (await database.sql<{ user_id: string; key_id: string }[]>`select user_id, key_id from one_time_keys`).map(
        ({ user_id, key_id }) => `${user_id} ${algorithm}:${key_id}`,
      ),
    )
    expect(given.filter((key) => left.has(key))).toEqual([])
    const [claimed] = await database.sql<{ n: number }[]>`select count(*) as n from claimed_keys`
    expect(left.size + (claimed?.n ?? 0)).toBe(2_700)
    expect(claimed?.n).toBeGreaterThanOrEqual(given.length)
  })
})
