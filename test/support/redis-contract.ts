/** What every kind of Redis must do alike, whichever transport leads to it. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { RedisConnection } from '../../shared/redis/connection.ts'
import { RedisAwayError } from '../../shared/redis/errors.ts'
import { defineScript } from '../../shared/redis/script.ts'

export interface RedisUnderTest {
  /** Opens one more connection to the same data. */
  open(): RedisConnection
  stop(): Promise<void>
}

/** Adds to a number up to a limit and tells both: keys, arguments, replies of several kinds, an error. */
const bounded = defineScript({
  name: 'bounded-add',
  lua: `
local now = tonumber(redis.call('GET', KEYS[1]) or '0')
if now + tonumber(ARGV[1]) > tonumber(ARGV[2]) then return {0, tostring(now), {}} end
local after = redis.call('INCRBY', KEYS[1], ARGV[1])
return {1, tostring(after), {'nested', false}}`,
  memory(call, [key = ''], [by = '0', limit = '0']) {
    const now = Number(call('GET', key) ?? '0')
    if (now + Number(by) > Number(limit)) return [0, String(now), []]
    return [1, String(call('INCRBY', key, by)), ['nested', null]]
  },
})

let next = 0

export function redisContract(name: string, start: () => Promise<RedisUnderTest>): void {
  describe(`Redis by ${name}`, () => {
    let under: RedisUnderTest
    let redis: RedisConnection
    let other: RedisConnection
    /** A fresh key of this run, on the node of all others. */
    const key = () => `{contract}:${next++}`

    beforeAll(async () => {
      under = await start()
      redis = under.open()
      other = under.open()
      await eventually(async () => expect(await redis.client.ping()).toBe('PONG'))
    })
    afterAll(async () => {
      await redis?.close()
      await other?.close()
      await under?.stop()
    })

    test.each([
      ['text', 'hello'],
      ['what looks like a number', '0123'],
      ['what looks like a boolean', 'true'],
      ['what looks like null', 'null'],
      ['JSON', '{"a":[1,"ü"]}'],
      ['the status', 'OK'],
      ['what looks like base64', 'abcd'],
      ['nothing', ''],
      ['characters of many bytes', 'Grüße 👋🏽 漢字'],
      ['line breaks and zeros', 'a\r\nb\u0000c'],
      ['a megabyte', 'x'.repeat(1_000_000)],
    ])('keeps %s as it is', async (_, value) => {
      const k = key()
      expect(await redis.client.set(k, value)).toBe('OK')
      expect(await other.client.get(k)).toBe(value)
      await redis.client.hset(`${k}h`, { [value || 'empty']: value })
      expect(await other.client.hgetall(`${k}h`)).toEqual([value || 'empty', value])
      expect(await other.client.mget(k, `${k}none`)).toEqual([value, null])
    })

    test('tells integers, null and nested arrays', async () => {
      const k = key()
      expect(await redis.client.get(k)).toBeNull()
      expect(await redis.client.incr(k)).toBe(1)
      expect(await redis.client.incrby(k, 41)).toBe(42)
      expect(await redis.client.get(k)).toBe('42')
      expect(await redis.client.type(k)).toBe('string')
      expect(await redis.client.exists(k, `${k}none`)).toBe(1)
      const [cursor, keys] = (await redis.client.scan(0, { match: k, count: 1000 })) as unknown as [string, string[]]
      expect(typeof cursor).toBe('string')
      expect(Array.isArray(keys)).toBe(true)
      const [seconds, microseconds] = (await redis.client.time()) as unknown as [string, string]
      expect(Math.abs(Number(seconds) * 1000 + Number(microseconds) / 1000 - Date.now())).toBeLessThan(60_000)
    })

    test('sorted sets only rise with GT, and NX keeps what is there', async () => {
      const k = key()
      expect(await redis.client.zadd(k, { gt: true }, { score: 5, member: 'events' })).toBe(1)
      expect(await redis.client.zadd(k, { gt: true, ch: true }, { score: 3, member: 'events' })).toBe(0)
      expect(await redis.client.zadd(k, { gt: true, ch: true }, { score: 9, member: 'events' })).toBe(1)
      expect(await redis.client.zadd(k, { nx: true }, { score: 1, member: 'events' })).toBe(0)
      expect(await redis.client.zscore(k, 'events')).toBe('9')
      await redis.client.zadd(k, { score: 1.5, member: 'b' }, { score: 1.5, member: 'a' }, { score: -2, member: 'ü' })
      expect(await redis.client.zrange(k, 0, -1, { withScores: true })).toEqual(
        ['ü', '-2', 'a', '1.5', 'b', '1.5', 'events', '9'], // equal scores: by name
      )
      expect(await redis.client.zrange(k, '(-2', '+inf', { byScore: true, offset: 1, count: 2 })).toEqual([
        'b',
        'events',
      ])
      expect(await redis.client.zrange(k, '+inf', '-inf', { byScore: true, rev: true, offset: 0, count: 1 })).toEqual([
        'events',
      ])
      expect(await redis.client.zrange(k, -2, -1)).toEqual(['b', 'events'])
      expect(await redis.client.zcount(k, 1.5, '(9')).toBe(2)
      expect(await redis.client.zmscore(k, ['a', 'none'])).toEqual(['1.5', null])
      expect(await redis.client.zincrby(k, 2, 'a')).toBe('3.5')
      expect(await redis.client.zrank(k, 'a')).toBe(2)
      expect(await redis.client.zremrangebyrank(k, 0, -3)).toBe(2)
      expect(await redis.client.zremrangebyscore(k, '-inf', 4)).toBe(1)
      expect(await redis.client.zcard(k)).toBe(1)
      expect(await redis.client.zrem(k, 'events')).toBe(1)
      expect(await redis.client.exists(k)).toBe(0)
    })

    test('hashes, sets and lists', async () => {
      const k = key()
      expect(await redis.client.hset(k, { a: '1', b: '2' })).toBe(2)
      expect(await redis.client.hincrby(k, 'a', 4)).toBe(5)
      expect(await redis.client.hmget(k, 'a', 'none')).toEqual(['5', null])
      expect(await redis.client.hdel(k, 'a', 'none')).toBe(1)
      expect(await redis.client.hlen(k)).toBe(1)
      expect(await redis.client.hgetall(`${k}none`)).toEqual([])
      expect(await redis.client.sadd(`${k}s`, 'x', 'y', 'x')).toBe(2)
      expect(((await redis.client.smembers(`${k}s`)) as string[]).toSorted()).toEqual(['x', 'y'])
      expect(await redis.client.smismember(`${k}s`, ['x', 'z'])).toEqual([1, 0])
      expect(await redis.client.srem(`${k}s`, 'x')).toBe(1)
      expect(await redis.client.rpush(`${k}l`, 'b', 'c')).toBe(2)
      expect(await redis.client.lpush(`${k}l`, 'a', '0')).toBe(4)
      expect(await redis.client.lrange(`${k}l`, 0, -1)).toEqual(['0', 'a', 'b', 'c'])
      expect(await redis.client.ltrim(`${k}l`, 1, 2)).toBe('OK')
      expect(await redis.client.rpop(`${k}l`)).toBe('b')
      expect(await redis.client.del(`${k}l`, `${k}s`, k)).toBe(3)
    })

    test('SET with its conditions, and expiry', async () => {
      const k = key()
      expect(await redis.client.set(k, 'a', { nx: true, px: 60 })).toBe('OK')
      expect(await redis.client.set(k, 'b', { nx: true })).toBeNull()
      expect(await redis.client.pttl(k)).toBeGreaterThan(0)
      await eventually(async () => expect(await redis.client.get(k)).toBeNull())
      expect(await redis.client.set(k, 'b', { xx: true })).toBeNull()
      await redis.client.set(k, 'c', { ex: 100 })
      expect(await redis.client.ttl(k)).toBeGreaterThanOrEqual(99)
      await redis.client.set(k, 'd', { keepTtl: true })
      expect(await redis.client.ttl(k)).toBeGreaterThanOrEqual(99)
      expect(await redis.client.persist(k)).toBe(1)
      expect(await redis.client.ttl(k)).toBe(-1)
      expect(await redis.client.pexpire(k, 1)).toBe(1)
      await eventually(async () => expect(await redis.client.exists(k)).toBe(0))
      expect(await redis.client.ttl(k)).toBe(-2)
    })

    test('a pipeline tells each command its own outcome', async () => {
      const k = key()
      const replies = await redis.client
        .pipeline()
        .set(k, 'text')
        .lpush(k, 'wrong')
        .get(k)
        .get(`${k}none`)
        .zrange(`${k}none`, 0, -1)
        .exec({ keepErrors: true })
      expect(replies.map(({ result }) => result)).toEqual(['OK', undefined, 'text', null, []])
      expect(replies[1]?.error).toMatch(/^WRONGTYPE/)
    })

    test('a transaction is done as a whole, and told item by item', async () => {
      const k = key()
      const replies = await redis.client.multi().set(k, '1').incr(k).lpush(k, 'wrong').get(k).exec({ keepErrors: true })
      expect(replies.map(({ result }) => result)).toEqual(['OK', 2, undefined, '2'])
      expect(replies[2]?.error).toMatch(/^WRONGTYPE/)
    })

    test('a transaction that Redis refuses rejects, and nothing of it is done', async () => {
      const k = key()
      const broken = redis.client.multi().set(k, 'secret-value')
      // The SDK checks no counts.
      await expect(
        broken
          .eval('return 1', [], [])
          .hset(k, {} as Record<string, string>)
          .exec(),
      ).rejects.toThrow(/EXECABORT|wrong number/)
      expect(await other.client.get(k)).toBeNull()
    })

    test('nobody comes between the commands of a transaction', async () => {
      const k = key()
      await Promise.all(
        Array.from({ length: 50 }, (_, i) => {
          const client = i % 2 ? redis.client : other.client
          return client.multi().incr(k).incr(k).incr(`${k}b`).exec()
        }).map(async (replies) => {
          const [first, second] = await replies
          expect(second).toBe(first + 1)
        }),
      )
      expect(await redis.client.mget(k, `${k}b`)).toEqual(['100', '50'])
    })

    test('scripts run in one step, known or not', async () => {
      const k = key()
      for (let i = 0; i < 2; i++) {
        expect(await bounded.run(redis.client, [k], [2, 5])).toEqual([1, String(2 * (i + 1)), ['nested', null]])
      }
      expect(await bounded.run(redis.client, [k], [2, 5])).toEqual([0, '4', []])
      await redis.client.scriptFlush().catch(() => undefined)
      expect(await bounded.run(other.client, [k], [1, 5])).toEqual([1, '5', ['nested', null]])
      await redis.client.lpush(`${k}l`, 'x')
      await expect(bounded.run(redis.client, [`${k}l`], [1, 5])).rejects.toThrow(/WRONGTYPE/)
      const many = await Promise.all(
        Array.from({ length: 40 }, (_, i) => bounded.run((i % 2 ? redis : other).client, [`${k}m`], [1, 10])),
      )
      expect(many.filter((reply) => (reply as unknown[])[0] === 1)).toHaveLength(10)
    })

    test('commands of one turn keep their order', async () => {
      const k = key()
      const replies = await Promise.all([
        redis.client.get(k),
        redis.client.set(k, 'first'),
        redis.client.get(k),
        redis.client.set(k, 'second'),
        redis.client.get(k),
      ])
      expect(replies).toEqual([null, 'OK', 'first', 'OK', 'second'])
    })

    test('each of many parallel commands gets its own answer', async () => {
      const k = key()
      const numbers = Array.from({ length: 2_000 }, (_, i) => i)
      await Promise.all(numbers.map((i) => redis.client.hset(k, { [i]: String(i * 7) })))
      const replies = await Promise.all(numbers.map((i) => other.client.hget(k, String(i))))
      expect(replies).toEqual(numbers.map((i) => String(i * 7)))
    })

    test('messages arrive once, in order, and no longer after the end', async () => {
      const channel = `contract:messages.${next++}`
      const heard: string[] = []
      let ups = 0
      const end = other.subscribe(channel, { message: (text) => heard.push(text), up: () => ups++, down: () => ups-- })
      const also: string[] = []
      const endAlso = other.subscribe(channel, {
        message: (text) => also.push(text),
        up: () => ups++,
        down: () => ups--,
      })
      await eventually(() => expect(ups).toBe(2))
      const sent = Array.from({ length: 100 }, (_, i) => `{"n":${i},"text":"ü,👋, data: x"}`)
      for (const text of sent) await redis.client.publish(channel, text)
      await redis.client.publish(`${channel}x`, 'elsewhere')
      await eventually(() => expect(heard).toHaveLength(100))
      expect(heard).toEqual(sent)
      endAlso()
      await redis.client.publish(channel, 'more')
      await eventually(() => expect(heard).toHaveLength(101))
      expect(also).toEqual(sent)
      end()
      await redis.client.publish(channel, 'unheard')
      const again: string[] = []
      let isUp = false
      const endAgain = other.subscribe(channel, {
        message: (text) => again.push(text),
        up: () => {
          isUp = true
        },
        down: () => undefined,
      })
      await eventually(() => expect(isUp).toBe(true))
      await redis.client.publish(channel, 'heard again')
      await eventually(() => expect(again).toEqual(['heard again']))
      expect(heard).toHaveLength(101)
      endAgain()
    })

    test("the SDK's own subscriptions work too", async () => {
      const channel = `contract:sdk.${next++}`
      const subscriber = other.client.subscribe(channel)
      const heard: unknown[] = []
      let open = false
      subscriber.on('subscribe', () => {
        open = true
      })
      subscriber.on('message', (message) => heard.push(message.message))
      await eventually(() => expect(open).toBe(true))
      await redis.client.publish(channel, 'plain, text')
      await eventually(() => expect(heard).toEqual(['plain, text']))
      await subscriber.unsubscribe()
    })

    test('errors quote neither commands nor values', async () => {
      const k = key()
      await redis.client.set(k, 'hidden-value')
      const failures = await Promise.all([
        redis.client.lpush(k, 'hidden-argument').catch(String),
        redis.client.incrby(k, 5).catch(String),
        redis.client.hincrby(`${k}h`, 'hidden-field', 'hidden-number' as unknown as number).catch(String),
        bounded.run(redis.client, [`${k}hidden`], ['hidden-argument', 'x']).catch(String),
      ])
      for (const failure of failures) {
        expect(failure).toMatch(/Error/)
        expect(failure).not.toMatch(/hidden/)
      }
      expect(failures[0]).toMatch(/WRONGTYPE/)
      expect(failures[1]).toMatch(/not an integer/)
    })

    test('a closed connection rejects at once', async () => {
      const closed = under.open()
      await closed.client.ping()
      await closed.close()
      await expect(closed.client.get(key())).rejects.toThrow(RedisAwayError)
    })
  })
}

/** Tries until it holds; fails with its last failure after ten seconds. */
export async function eventually(check: () => void | Promise<void>): Promise<void> {
  const untilMs = performance.now() + 10_000
  for (;;) {
    try {
      return await check()
    } catch (error) {
      if (performance.now() > untilMs) throw error
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
  }
}
