import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { redisInstalled } from '../../test/support/redis.ts'
import { type StreamFixture, someone, somewhere, streamFixture, trusted } from '../../test/support/streams.ts'
import type { StreamPosition } from '../streams/define.ts'
import { createRedisEphemeralStore } from './redis-ephemeral-store.ts'

let streams: StreamFixture
beforeAll(async () => {
  if (redisInstalled) streams = await streamFixture()
})
beforeEach(() => streams?.begin())
afterEach(() => streams?.end())
afterAll(() => streams?.close())

describe.skipIf(!redisInstalled)('streams by way of Redis', () => {
  test('a reader knows what was acknowledged, by whichever main, and hears each row once', async () => {
    const [a, b] = [await streams.main('a'), await streams.main('b')]
    const [reader, other] = [await streams.handler(), await streams.handler()]
    await trusted(reader)
    const load = streams.load([a, b, a], [reader, other, reader])
    await expect.poll(() => load.acknowledged.position - streams.base, { timeout: 10_000 }).toBeGreaterThan(50)
    await load.stop()
    await Promise.all([a.fresh(), b.fresh()])
    expect(a.positions()).toEqual(b.positions())
  })

  test('an answer that is fresh costs one round trip to Redis for all who wait, and no query', async () => {
    const [a, reader] = [await streams.main('a'), await streams.handler()]
    await trusted(reader)
    await a.commit()
    await reader.fresh()
    const [queries, commands] = [reader.queries(), await commandsRun()]
    for (let i = 0; i < 20; i++) await Promise.all(Array.from({ length: 50 }, () => reader.fresh()))
    // Beats and the look at the counter run meanwhile; without sharing it would be four thousand.
    expect((await commandsRun()) - commands).toBeLessThan(20 * 2 * 4 + 100)
    expect(reader.queries()).toBe(queries)
    // What is delivered costs none either.
    const position = await a.commit(5)
    await reader.fresh()
    expect(reader.heard.at(-1)).toBe(position)
    expect(reader.queries()).toBe(queries)
  })

  test.each(['account_data', 'typing', 'beat'])(
    'messages of %s that never arrive are read within two seconds',
    async (lost) => {
      const reader = await streams.handler({ loses: (text) => text.includes(`"${lost}"`) })
      const a = await streams.main('a')
      await trusted(reader)
      const position = await a.commit(3)
      const typing = { room_id: somewhere, user_ids: [someone] }
      const typedAt = a.publishEphemeral('typing', [typing])
      await expect.poll(() => reader.heard, { timeout: 2_000 }).toEqual(streams.upTo(position))
      await expect.poll(() => reader.typed, { timeout: 2_000 }).toEqual([{ ...typing, position: typedAt }])
      const load = streams.load([a], [reader])
      await sleep(300)
      await load.stop()
    },
  )

  test('a log that was trimmed or lost sends readers to Postgres', async () => {
    const a = await streams.main('a')
    await a.commit(2_000)
    const reader = await streams.handler({ loses: (text) => text.includes('"updates"') })
    await trusted(reader)
    const from = reader.positions().account_data
    const position = await a.commit(1_300)
    await streams.server.command(`DEL ${streams.keys.key('log', 'account_data')}`)
    await reader.fresh()
    expect(reader.heard).toEqual(streams.upTo(position).slice(from - streams.base))
  })

  test('who comes late knows who types and who is online; what ended while it was away has ended', async () => {
    const a = await streams.main('a')
    const store = createRedisEphemeralStore({ redis: a.redis, keys: streams.keys, publisher: a })
    await store.take()
    const types = (user_ids: (typeof someone)[]) => {
      store.setTyping(somewhere, user_ids)
      a.publishEphemeral('typing', [{ room_id: somewhere, user_ids }])
    }
    types([someone])
    const online = { user_id: someone, presence: 'online' as const, last_active_ts: 1, currently_active: true }
    store.setPresence(online)
    a.publishEphemeral('presence', [online])
    await a.acknowledged()
    const late = await streams.handler({ loses: () => true })
    await trusted(late)
    expect(late.typed.map((row) => row.user_ids)).toEqual([[someone]])
    const read = createRedisEphemeralStore({ redis: a.redis, keys: streams.keys })
    expect(await read.typingIn(somewhere)).toEqual([someone])
    expect((await read.presenceOf([someone])).get(someone)).toEqual(online)
    types([])
    await a.acknowledged()
    await streams.server.command(`DEL ${streams.keys.key('log', 'typing')}`)
    await late.fresh()
    expect(late.typed.map((row) => row.user_ids)).toEqual([[someone], []])
    expect(await read.typingIn(somewhere)).toEqual([])
    // Emptied, Redis gets it all again.
    types([someone])
    await a.acknowledged()
    await streams.server.flush()
    await expect.poll(() => read.typingIn(somewhere), { timeout: 3_000 }).toEqual([someone])
    expect((await read.presenceOf([someone])).get(someone)).toEqual(online)
    const later = await streams.handler()
    await trusted(later)
    await expect.poll(() => later.typed.map((row) => row.user_ids)).toEqual([[someone]])
  })

  test('a position that the record does not have is told as such, one that was not published is read', async () => {
    const [a, reader] = [await streams.main('a'), await streams.handler()]
    await trusted(reader)
    const stored = await a.store(2)
    const at = (position: number) => ({ account_data: position as StreamPosition })
    expect(reader.reach(at(streams.base))).toBeUndefined()
    expect(await reader.reach(at(stored.position))).toBe(true)
    expect(reader.heard).toEqual(streams.upTo(stored.position))
    expect(await reader.reach(at(stored.position + 1))).toBe(false)
    a.publish('account_data', stored)
    await a.commit()
    await reader.fresh()
    expect(reader.heard).toEqual(streams.upTo(stored.position + 1))
  })
})

async function commandsRun(): Promise<number> {
  const stats = await streams.server.command('INFO stats')
  return Number(/total_commands_processed:(\d+)/.exec(stats)?.[1])
}
