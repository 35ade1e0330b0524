/** MSC4186 Connections, where handlers run apart: any of them goes on with any connection. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { fakeClock } from '../../../shared/clock.ts'
import type { DeviceId, UserId } from '../../../shared/matrix/ids.ts'
import { memoryRedis, openRedis, type RedisConnection } from '../../../shared/redis/connection.ts'
import { keyspace } from '../../../shared/redis/keys.ts'
import { memoryServer } from '../../../shared/redis/memory.ts'
import { type TestDatabase, testDatabase } from '../../../test/support/database.ts'
import { type RedisServer, redisInstalled, startRedis } from '../../../test/support/redis.ts'
import { type SyncFixture, syncFixture } from '../../../test/support/sync-fixture.ts'
import { type ConnectionState, connectionState, nothingSent, parseConnectionState } from './connection-state.ts'
import { connectionStore } from './connection-store.ts'
import { connectionOwner } from './position.ts'
import { requiredFromPairs } from './required-state.ts'

const keys = keyspace('test')
const alice = '@alice:test' as UserId
const config = requiredFromPairs(
  [
    ['m.room.name', ''],
    ['m.room.member', '$LAZY'],
  ],
  alice,
)
const sent = {
  required: config,
  limit: 20,
  events: undefined,
  receipts: 'live',
  accountData: true,
  dm: false,
  staleTyping: false,
  staleCounts: false,
  members: [],
} as const

const told = { globalAccountData: true, threadSubscriptions: true }
const untold = { globalAccountData: false, threadSubscriptions: false }

describe('the state of a connection', () => {
  test('what is stored is what was told; its name comes from its contents', () => {
    const rooms = new Map([
      [5, { ...sent, dm: true, staleCounts: true }],
      [1_000_001, sent],
      [1_000_002, { ...sent, receipts: 'never', accountData: false, staleTyping: true } as const],
      [7, { ...sent, events: 12, receipts: 3, members: [alice, '@b:test'] }],
    ])
    const state = connectionState(rooms, told)
    const stored = parseConnectionState(state.text)
    expect(Object.fromEntries(stored?.rooms ?? [])).toEqual(Object.fromEntries(rooms))
    expect(stored).toMatchObject({ ...told, id: state.id })
    const some = { ...told, threadSubscriptions: false }
    expect(parseConnectionState(connectionState(rooms, some).text)).toMatchObject(some)
    expect(connectionState(rooms, some).id).not.toBe(state.id)
    expect(connectionState(new Map([...rooms].reverse()), told).id).toBe(state.id)
    expect(connectionState(new Map([[5, sent]]), told).id).not.toBe(state.id)
  })
  test('1,500 rooms are few kilobytes', () => {
    const rooms = new Map(Array.from({ length: 1_500 }, (_, i) => [40_000_000 + i * 1_024, sent]))
    expect(connectionState(rooms, told).text.length).toBeLessThan(8_000)
  })
  test.each([
    '',
    '{',
    '[]',
    '{"v":2}',
    '{"v":1,"g":true,"r":[],"u":[],"s":[[0,1,1,"a"]],"x":[]}',
    '{"v":1,"g":true,"r":[[]],"u":[],"s":[[0,1,1,"-"]],"x":[]}',
  ])('%j is none', (text) => expect(parseConnectionState(text)).toBeUndefined())
})

const owner = (device: string, connection: string) => {
  const requester = {
    user_id: alice,
    device_id: device as DeviceId,
    admin: false,
    guest: false,
    locked: false,
    suspended: false,
    token_hash: '',
  }
  return { requester, owner: connectionOwner(requester, connection) }
}
const stateOf = (nid: number): ConnectionState => connectionState(new Map([[nid, sent]]), untold)

describe.each(['memory', ...(redisInstalled ? ['redis'] : [])])('states that handlers share (%s)', (kind) => {
  let server: RedisServer | undefined
  const memory = memoryServer()
  const open: RedisConnection[] = []
  const redis = () => {
    const log = { warn: () => undefined }
    const made = server ? openRedis({ url: server.url, log }) : memoryRedis({ server: memory })
    open.push(made)
    return made
  }
  const store = (clock = fakeClock()) => connectionStore({ clock, shared: { redis: redis(), keys } })
  beforeAll(async () => {
    if (kind === 'redis') server = await startRedis()
  })
  afterAll(async () => {
    await Promise.all(open.map((one) => one.close()))
    await server?.stop()
  })

  test('one saves, another loads', async () => {
    const state = stateOf(1)
    await store().save(owner('A', ''), state, nothingSent)
    expect((await store().load(owner('A', ''), state.id))?.text).toBe(state.text)
    expect(await store().load(owner('B', ''), state.id)).toBeUndefined()
    expect(await store().load(owner('A', 'x'), state.id)).toBeUndefined()
    expect(await store().load(owner('A', 'x'), nothingSent.id)).toBe(nothingSent)
  })
  test('however many answers are lost, where the client is stays', async () => {
    const here = stateOf(1)
    await store().save(owner('E', ''), here, nothingSent)
    for (let i = 0; i < 20; i++) await store().save(owner('E', ''), stateOf(10 + i), here)
    expect(await store().load(owner('E', ''), here.id)).toBeDefined()
    expect(await store().load(owner('E', ''), stateOf(29).id)).toBeDefined()
  })
  test('a state that comes back is there again, also where this process has it still', async () => {
    const writer = store()
    const [here, back] = [stateOf(1), stateOf(2)]
    await writer.save(owner('F', ''), back, nothingSent)
    for (let i = 0; i < 20; i++) await writer.save(owner('F', ''), stateOf(10 + i), here)
    expect(await store().load(owner('F', ''), back.id)).toBeUndefined()
    await writer.save(owner('F', ''), back, here)
    expect(await store().load(owner('F', ''), back.id)).toBeDefined()
  })
  test('a connection keeps its latest states, a device its latest connections', async () => {
    const clock = fakeClock()
    const writer = store(clock)
    const states = Array.from({ length: 12 }, (_, i) => stateOf(i + 1))
    for (const [i, state] of states.entries()) await writer.save(owner('C', ''), state, states[i - 1] ?? nothingSent)
    const reader = store(clock)
    expect(await reader.load(owner('C', ''), states[0]?.id ?? '')).toBeUndefined()
    expect(await reader.load(owner('C', ''), states.at(-2)?.id ?? '')).toBeDefined()
    for (let i = 0; i < 20; i++) {
      clock.advance(1)
      await writer.save(owner('C', `c${i}`), stateOf(99), nothingSent)
    }
    expect(await reader.load(owner('C', ''), states.at(-1)?.id ?? '')).toBeUndefined()
    expect(await reader.load(owner('C', 'c3'), stateOf(99).id)).toBeUndefined()
    expect(await reader.load(owner('C', 'c19'), stateOf(99).id)).toBeDefined()
  })
  if (kind !== 'redis') return
  test('without Redis a handler goes on with what it knows', async () => {
    const state = stateOf(5)
    const writer = store()
    await server?.kill()
    await writer.save(owner('D', ''), state, nothingSent)
    expect(await writer.load(owner('D', ''), state.id)).toBe(state)
    expect(await store().load(owner('D', ''), state.id)).toBeUndefined()
  })
})

describe('two handlers', () => {
  let database: TestDatabase
  let server: SyncFixture
  beforeAll(async () => {
    database = await testDatabase()
    server = await syncFixture(database, {}, { redis: memoryRedis(), keys })
  })
  afterAll(async () => {
    server.close()
    await database.drop()
  })
  test('each goes on where the other was', async () => {
    const id = await server.room('!handlers')
    await server.send({ room: id, type: 'm.room.create', state_key: '', sender: alice, content: {} })
    await server.member(id, alice, 'join')
    const other = server.start()
    const body = {
      lists: { all: { timeline_limit: 5, required_state: [['m.room.member', '$LAZY']], ranges: [[0, 9]] } },
    }
    let { pos } = await server.sliding(alice, body)
    for (let i = 0; i < 6; i++) {
      await server.message(id, alice, `${i}`)
      const answer = await server.sliding(alice, { ...body, pos }, i % 2 === 0 ? { at: other } : {})
      expect(answer.rooms[id]).toMatchObject({ timeline: [{ content: { body: `${i}` } }], limited: false })
      expect(answer.rooms[id]).not.toHaveProperty('initial')
      expect(answer.rooms[id]).not.toHaveProperty('required_state')
      pos = answer.pos
    }
    other.close()
  })
})
