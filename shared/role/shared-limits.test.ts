import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type RedisServer, redisInstalled, startRedis } from '../../test/support/redis.ts'
import { systemClock } from '../clock.ts'
import { configFrom } from '../config/load.ts'
import { MatrixError } from '../matrix/matrix-error.ts'
import { openRedis, type RedisConnection } from '../redis/connection.ts'
import { keyspace } from '../redis/keys.ts'
import { createSharedLimiter } from './shared-limits.ts'

describe.runIf(redisInstalled)('limits shared by handlers', () => {
  let server: RedisServer
  const connections: RedisConnection[] = []
  const warnings: unknown[] = []
  const log = { warn: (fields: unknown) => void warnings.push(fields) }
  beforeAll(async () => {
    server = await startRedis()
  })
  afterAll(async () => {
    await Promise.all(connections.map((one) => one.close()))
    await server.stop()
  })

  function limiter(prefix: string, limits: Record<string, unknown>) {
    const redis = openRedis({ url: server.url, log })
    connections.push(redis)
    const { rate_limits } = configFrom({ server_name: 'test.local', rate_limits: limits })
    return createSharedLimiter({ limits: rate_limits, redis, keys: keyspace(prefix), clock: systemClock, log })
  }
  /** The wait that a refusal names; 0 where it was let through. */
  async function take(limits: ReturnType<typeof limiter>, key: string): Promise<number> {
    try {
      await limits.take('login', key)
      return 0
    } catch (error) {
      if (!(error instanceof MatrixError) || error.errcode !== 'M_LIMIT_EXCEEDED') throw error
      return Number(error.extra.retry_after_ms)
    }
  }

  test('twenty handlers let through what one does', async () => {
    const handlers = Array.from({ length: 20 }, () => limiter('many', { login: { per_second: 0.001, burst: 7 } }))
    const waits = await Promise.all(handlers.flatMap((one) => [take(one, '@a:test'), take(one, '@a:test')]))
    expect(waits.filter((wait) => wait === 0).length).toBe(7)
    expect(await take(handlers[0] ?? limiter('many', {}), '@b:test')).toBe(0)
  })

  test('a refusal says when the next one is let through, and it is', async () => {
    const one = limiter('wait', { login: { per_second: 20, burst: 1 } })
    expect(await take(one, 'k')).toBe(0)
    const wait = await take(one, 'k')
    expect(wait).toBeGreaterThan(0)
    expect(wait).toBeLessThanOrEqual(50)
    await expect.poll(() => take(one, 'k'), { interval: wait }).toBe(0)
  })

  test('buckets are gone from Redis once they are full again', async () => {
    const one = limiter('gone', { login: { per_second: 1000, burst: 5 } })
    await take(one, 'k')
    await expect.poll(async () => await server.command('KEYS {gone}*')).toBe('*0\r\n')
  })

  test('a bucket that never refills refuses until further notice', async () => {
    const one = limiter('never', { login: { per_second: 0, burst: 1 } })
    expect(await take(one, 'k')).toBe(0)
    expect(await take(one, 'k')).toBe(3_600_000)
  })

  test('limits that are off ask nobody', () => {
    expect(limiter('off', { enabled: false }).take('login', 'k')).toBeUndefined()
  })

  test('while Redis is away each handler limits by itself', async () => {
    const away = await startRedis()
    const redis = openRedis({ url: away.url, log })
    connections.push(redis)
    const { rate_limits } = configFrom({
      server_name: 'test.local',
      rate_limits: { login: { per_second: 0, burst: 2 } },
    })
    const one = createSharedLimiter({ limits: rate_limits, redis, keys: keyspace('away'), clock: systemClock, log })
    expect(await take(one, 'k')).toBe(0)
    await away.stop()
    warnings.length = 0
    const waits = [await take(one, 'k'), await take(one, 'k'), await take(one, 'k')]
    expect(waits).toEqual([0, 0, 3_600_000])
    expect(warnings.length).toBeGreaterThan(0)
  })
})
