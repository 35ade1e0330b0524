import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { redisInstalled } from '../../test/support/redis.ts'
import { type StreamFixture, streamFixture, trusted } from '../../test/support/streams.ts'

let streams: StreamFixture
beforeAll(async () => {
  if (redisInstalled) streams = await streamFixture()
})
beforeEach(() => streams?.begin())
afterEach(() => streams?.end())
afterAll(() => streams?.close())

describe.skipIf(!redisInstalled)('streams under faults', () => {
  test.each([
    [
      'is killed and comes back empty',
      async () => {
        await streams.server.kill()
        await sleep(500)
        await streams.server.start()
      },
    ],
    ['is emptied', () => streams.server.flush()],
    [
      'is paused',
      async () => {
        streams.server.pause()
        await sleep(2_500)
        streams.server.resume()
      },
    ],
  ])('while Redis %s no answer is stale, nothing is lost or doubled, and it is used again soon', async (_, fault) => {
    const [a, b] = [await streams.main('a'), await streams.main('b')]
    const [reader, other] = [await streams.handler(), await streams.handler()]
    await trusted(reader)
    const load = streams.load([a, b], [reader, other])
    await sleep(200)
    await fault()
    const backMs = performance.now()
    await trusted(reader)
    expect(performance.now() - backMs).toBeLessThan(4_000)
    await sleep(200)
    await load.stop()
    // As long as a beat is fresh, and the two seconds after which a command counts as lost.
    expect(load.acknowledged.slowestMs).toBeLessThan(5_000)
  })

  test('connections that carry nothing any more make answers slower, not stale', async () => {
    const [a, b, reader] = [await streams.main('a'), await streams.main('b'), await streams.handler()]
    await trusted(reader)
    const load = streams.load([a, b], [reader])
    await sleep(200)
    reader.freeze()
    await sleep(1_000)
    reader.thaw()
    await trusted(reader)
    a.freeze()
    await expect.poll(() => reader.view(), { timeout: 4_000 }).toBeUndefined()
    await sleep(300)
    await load.stop()
  })

  test('a main that never reaches Redis is vouched for by nobody, and its writes are read from Postgres', async () => {
    const [a, reader] = [await streams.main('a'), await streams.handler()]
    await trusted(reader)
    // A port where nobody listens.
    const lonely = await streams.main('lonely', 'redis://127.0.0.1:1')
    const load = streams.load([a, lonely], [reader])
    await expect.poll(() => reader.view(), { timeout: 5_000 }).toBeUndefined()
    await expect.poll(() => load.acknowledged.slowestMs, { timeout: 8_000 }).toBeGreaterThan(3_000)
    await load.stop()
  })

  test('a main that was killed holds nobody up once its shards are taken over', async () => {
    await streams.main('a')
    const [b, reader] = [await streams.main('b'), await streams.handler()]
    await trusted(reader)
    const stored = await b.store()
    b.freeze()
    await expect.poll(() => reader.fresh().then(() => reader.view()), { timeout: 5_000 }).toBeUndefined()
    await streams.database.sql`delete from mains where id = 'b'`
    await trusted(reader)
    expect(reader.heard).toEqual(streams.upTo(stored.position))
  })

  test('a main that ends in good order is missed by nobody', async () => {
    const [a, b, reader] = [await streams.main('a'), await streams.main('b'), await streams.handler()]
    await trusted(reader)
    await a.close()
    const until = performance.now() + 2_600
    while (performance.now() < until) {
      await reader.fresh()
      expect(reader.view()).toBeDefined()
      await sleep(50)
    }
    await b.commit()
    await reader.fresh()
    expect(reader.heard).toEqual(streams.upTo(streams.base + 1))
  })

  test('the database went back: whoever remembers more ends, and who comes anew starts from it', async () => {
    const [a, reader] = [await streams.main('a'), await streams.handler()]
    await trusted(reader)
    await a.commit(10)
    await reader.fresh()
    expect(streams.fatal).not.toHaveBeenCalled()
    a.freeze()
    const back = streams.base + 4
    await streams.database.sql`update streams set position = ${back} where name = 'account_data'`
    await streams.database.sql`delete from account_data where position > ${back}`
    await streams.database.sql`delete from mains where id = 'a'`
    const b = await streams.main('b')
    await expect.poll(() => streams.fatal.mock.calls.length, { timeout: 5_000 }).toBeGreaterThan(0)
    expect(String(streams.fatal.mock.calls[0]?.[0])).toContain('restored from a backup')
    const anew = await streams.handler()
    await trusted(anew)
    const load = streams.load([b], [anew])
    await sleep(300)
    await load.halt()
    await anew.fresh()
    expect(anew.heard).toEqual(streams.upTo(anew.positions().account_data).slice(4))
  })
})
