import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { redisInstalled } from '../../test/support/redis.ts'
import {
  type StreamFixture,
  type StreamMain,
  someone,
  somewhere,
  streamFixture,
  trusted,
} from '../../test/support/streams.ts'
import { createAuthenticate } from '../auth/authenticate.ts'
import { newToken, tokenHash, tokenHashBytes } from '../auth/tokens.ts'
import { systemClock } from '../clock.ts'
import type { RequestInfo } from '../http/route.ts'
import type { InvalidationRow } from '../streams/invalidations.ts'
import type { Mark } from './shared-cache.ts'

let streams: StreamFixture
beforeAll(async () => {
  if (redisInstalled) streams = await streamFixture()
})
beforeEach(() => streams?.begin())
afterEach(() => streams?.end())
afterAll(() => streams?.close())

async function invalidate(main: StreamMain, cache: InvalidationRow['cache'], key: string): Promise<void> {
  const [row] = await streams.database.sql<{ position: InvalidationRow['position'] }[]>`
    with moved as (update streams set position = position + 1 where name = 'invalidations' returning position)
    insert into invalidations (position, cache, key) select position, ${cache}, ${key} from moved returning position`
  const position = row!.position
  main.publish('invalidations', { prev: (position - 1) as never, position, rows: [{ position, cache, key }] })
  await main.acknowledged()
}

describe.skipIf(!redisInstalled)('what handlers share', () => {
  const entry = { name: 'profile:x', marks: [`profile:${someone}`] as Mark[] }

  test('one reads what another put; what was invalidated is gone, and cannot be put back', async () => {
    const [main, a, b] = [await streams.main('a'), await streams.handler(), await streams.handler()]
    await Promise.all([trusted(a), trusted(b)])
    const slot = await a.cache.look(entry)
    expect(slot?.value).toBeUndefined()
    slot?.put('1')
    await expect.poll(async () => (await b.cache.look(entry))?.value).toBe('1')
    // Read before the invalidation, and slow.
    const slow = await b.cache.look(entry)
    await invalidate(main, 'profile', someone)
    expect((await a.cache.look(entry))?.value).toBeUndefined()
    slow?.put('1')
    await a.fresh()
    expect((await a.cache.look(entry))?.value).toBeUndefined()
    const others = await a.cache.lookAll([entry, { name: 'other', marks: [] }, entry])
    expect(others?.map(({ name, value }) => [name, value])).toEqual([
      ['profile:x', undefined],
      ['other', undefined],
      ['profile:x', undefined],
    ])
  })

  test('where invalidations may have been missed, nothing from before is used', async () => {
    const [main, reader] = [await streams.main('a'), await streams.handler()]
    await trusted(reader)
    const slot = await reader.cache.look(entry)
    slot?.put('1')
    await expect.poll(async () => (await reader.cache.look(entry))?.value).toBe('1')
    main.freeze()
    await expect.poll(() => reader.fresh().then(() => reader.view()), { timeout: 5_000 }).toBeUndefined()
    // Nobody vouches for what Redis holds.
    expect(reader.cache.look(entry)).toBeUndefined()
    await streams.database.sql`delete from mains`
    await streams.main('b')
    await trusted(reader)
    expect((await reader.cache.look(entry))?.value).toBeUndefined()
  })

  test('a session is read from Postgres once for all handlers, and ends for all at once', async () => {
    const [main, a, b] = [await streams.main('a'), await streams.handler(), await streams.handler()]
    await Promise.all([trusted(a), trusted(b)])
    const { sql, read } = streams.database
    const token = newToken('gat', someone)
    await sql`insert into users (user_id, created_ts) values (${someone}, 0) on conflict do nothing`
    await sql`insert into access_tokens (token_hash, user_id, device_id)
      values (${tokenHashBytes(tokenHash(token))}, ${someone}, 'D')`
    let queries = 0
    const counted = new Proxy(read, {
      apply(target, self, parameters) {
        queries++
        return Reflect.apply(target, self, parameters)
      },
    })
    const request = { ip: '192.0.2.1', userAgent: 'agent' } as RequestInfo
    const authenticate = (replication: typeof a) => {
      const none = { deviceSeen() {}, confirmRefresh: async () => ({}) }
      return createAuthenticate({ sql: counted, clock: systemClock, replication, ...none })
    }
    const [onA, onB] = [authenticate(a), authenticate(b)]
    expect(await onA(token, request)).toMatchObject({ user_id: someone, device_id: 'D', admin: false })
    expect(queries).toBe(1)
    await expect
      .poll(async () => (await b.cache.look({ name: `token:${tokenHash(token)}`, marks: [] }))?.value)
      .toBeDefined()
    expect(await onB(token, request)).toMatchObject({ user_id: someone, device_id: 'D', admin: false })
    expect(queries).toBe(1)
    await sql`delete from access_tokens`
    await invalidate(main, 'user_tokens', someone)
    const cold = authenticate(b)
    for (const [reader, asked] of [
      [a, onA],
      [b, onB],
      [b, cold],
    ] as const) {
      await reader.fresh()
      await expect((async () => asked(token, request))()).rejects.toMatchObject({ errcode: 'M_UNKNOWN_TOKEN' })
    }
  })

  test('a member event makes all forget how its user stands to the room', async () => {
    const [main, reader] = [await streams.main('a'), await streams.handler()]
    await trusted(reader)
    const standing = { name: 'standing', marks: [`member:${somewhere} ${someone}`] as Mark[] }
    const slot = await reader.cache.look(standing)
    slot?.put('1')
    await expect.poll(async () => (await reader.cache.look(standing))?.value).toBe('1')
    const position = (main.positions().events + 1) as never
    const row = { position, type: 'm.room.member', state_key: someone, room_id: somewhere }
    main.publish('events', { prev: main.positions().events, position, rows: [row as never] })
    await main.acknowledged()
    expect((await reader.cache.look(standing))?.value).toBeUndefined()
  })
})
