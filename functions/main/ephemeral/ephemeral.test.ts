import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { fakeClock } from '../../../shared/clock.ts'
import type { RoomId, UserId } from '../../../shared/matrix/ids.ts'
import { createMemoryEphemeralStore } from '../../../shared/replication/ephemeral-store.ts'
import { createInProcessReplication } from '../../../shared/replication/in-process.ts'
import { type TestDatabase, testDatabase } from '../../../test/support/database.ts'
import { createPresence } from './presence.ts'
import { createTyping } from './typing.ts'

const room = '!room:test' as RoomId
const alice = '@alice:test' as UserId
const bob = '@bob:test' as UserId

describe('client-server-api/#typing-notifications', () => {
  function start() {
    const clock = fakeClock()
    const replication = createInProcessReplication({}, clock)
    const store = createMemoryEphemeralStore()
    const lists: string[][] = []
    replication.subscribe('typing', ({ rows }) => lists.push(...rows.map((row) => [...row.user_ids])))
    return { clock, store, lists, typing: createTyping({ publisher: replication, store, clock }) }
  }

  test('a timeout ends it', async () => {
    const { clock, store, lists, typing } = start()
    typing.set(room, alice, true, 10_000)
    expect(await store.typingIn(room)).toEqual([alice])
    clock.advance(9_999)
    expect(await store.typingIn(room)).toEqual([alice])
    clock.advance(1)
    expect(await store.typingIn(room)).toEqual([])
    expect(lists).toEqual([[alice], []])
  })

  test('typing on prolongs it, and tells nobody', () => {
    const { clock, lists, typing } = start()
    typing.set(room, alice, true, 10_000)
    clock.advance(9_000)
    typing.set(room, alice, true, 10_000)
    clock.advance(9_000)
    expect(lists).toEqual([[alice]])
  })

  test('each change is the whole list', () => {
    const { lists, typing } = start()
    typing.set(room, alice, true, 10_000)
    typing.set(room, bob, true, 10_000)
    typing.set(room, alice, false, 0)
    typing.stop(room, bob)
    typing.stop(room, bob)
    expect(lists).toEqual([[alice], [alice, bob], [bob], []])
  })

  test('a timeout is bounded', async () => {
    const { clock, store, typing } = start()
    typing.set(room, alice, true, Number.MAX_SAFE_INTEGER)
    clock.advance(120_000)
    expect(await store.typingIn(room)).toEqual([])
  })
})

describe('client-server-api/#presence', () => {
  let database: TestDatabase
  beforeEach(async () => {
    database = await testDatabase()
  })
  afterEach(() => database.drop())

  function start() {
    const clock = fakeClock()
    const replication = createInProcessReplication({}, clock)
    const store = createMemoryEphemeralStore()
    const told: string[] = []
    replication.subscribe('presence', ({ rows }) => {
      for (const row of rows) told.push(`${row.presence}${row.currently_active ? ' active' : ''}`)
    })
    const onError = (error: unknown) => {
      throw error
    }
    const presence = createPresence({ sql: database.sql, publisher: replication, store, clock, onError })
    /** Lets the sweeps of this span happen one by one. */
    const pass = (ms: number) => {
      for (let passed = 0; passed < ms; passed += 5_000) clock.advance(5_000)
    }
    return { clock, store, told, presence, pass }
  }

  test('who stops polling goes offline', async () => {
    const { told, presence, pass } = start()
    presence.set({ user_id: alice, presence: 'online', source: 'sync' })
    pass(40_000)
    expect(told).toEqual(['online active'])
    pass(10_000)
    expect(told).toEqual(['online active', 'offline'])
    await presence.close()
  })

  test('polling on tells nobody anything new', async () => {
    const { told, presence, pass } = start()
    for (let i = 0; i < 10; i++) {
      presence.set({ user_id: alice, presence: 'online', source: 'sync' })
      pass(25_000)
    }
    expect(told).toEqual(['online active'])
    await presence.close()
  })

  test('a status message stays until it is taken away', async () => {
    const { store, presence } = start()
    presence.set({ user_id: alice, presence: 'online', status_msg: 'here', source: 'client' })
    presence.set({ user_id: alice, presence: 'online', source: 'sync' })
    expect((await store.presenceOf([alice])).get(alice)?.status_msg).toBe('here')
    presence.set({ user_id: alice, presence: 'unavailable', status_msg: '', source: 'client' })
    expect((await store.presenceOf([alice])).get(alice)).toMatchObject({ presence: 'unavailable' })
    expect((await store.presenceOf([alice])).get(alice)?.status_msg).toBeUndefined()
    await presence.close()
  })

  test('5,000 users who come and go write nothing to Postgres until the next flush', async () => {
    const { presence, clock } = start()
    const users = Array.from({ length: 5_000 }, (_, i) => `@u${i}:test` as UserId)
    for (const presenceState of ['online', 'unavailable', 'online'] as const) {
      for (const user_id of users) presence.set({ user_id, presence: presenceState, source: 'client' })
    }
    const stored = async () => (await database.sql`select count(*)::int as count from presence`)[0]?.count
    expect(await stored()).toBe(0)
    await presence.close()
    expect(await stored()).toBe(5_000)
    expect((await database.sql`select last_active_ts from presence limit 1`)[0]?.last_active_ts).toBe(clock.now())
  })
})
