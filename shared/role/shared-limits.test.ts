import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { redisInstalled, startRedis } from '../../test/support/redis.ts'
import { systemClock } from '../clock.ts'
import { configFrom } from '../config/load.ts'
import type { Limiter } from '../http/rate-limit.ts'
import { MatrixError } from '../matrix/matrix-error.ts'
import { memoryRedis, openRedis, type RedisConnection } from '../redis/connection.ts'
import { keyspace } from '../redis/keys.ts'
import { memoryServer } from '../redis/memory.ts'
import { createSharedLimiter } from './shared-limits.ts'

const warnings: unknown[] = []
const log = { warn: (fields: unknown) => void warnings.push(fields) }

interface Kind {
  open(): RedisConnection
  keys(prefix: string): Promise<unknown>
  stop(): Promise<void>
}

async function real(): Promise<Kind> {
  const server = await startRedis()
  return {
    open: () => openRedis({ url: server.url, log }),
    keys: async (prefix) => ((await server.command(`KEYS {${prefix}}*`)) === '*0\r\n' ? [] : ['some']),
    stop: () => server.stop(),
  }
}
async function inMemory(): Promise<Kind> {
  const server = memoryServer()
  const open = () => memoryRedis({ server })
  return { open, keys: (prefix) => open().client.keys(`{${prefix}}*`), stop: async () => undefined }
}

/** The wait that a refusal names; 0 where it was let through. */
async function take(limits: Limiter, key: string): Promise<number> {
  try {
    await limits.take('login', key)
    return 0
  } catch (error) {
    if (!(error instanceof MatrixError) || error.errcode !== 'M_LIMIT_EXCEEDED') throw error
    return Number(error.extra.retry_after_ms)
  }
}

describe.each([
  ['in Redis', real, redisInstalled],
  ['in memory', inMemory, true],
] as const)('limits shared by handlers, %s', (_, start, installed) => {
  let kind: Kind
  const connections: RedisConnection[] = []
  beforeAll(async () => {
    if (installed) kind = await start()
  })
  afterAll(async () => {
    await Promise.all(connections.map((one) => one.close()))
    await kind?.stop()
  })

  function limiter(prefix: string, limits: Record<string, unknown>) {
    const redis = kind.open()
    connections.push(redis)
    const { rate_limits } = configFrom({ server_name: 'test.local', rate_limits: limits })
    return createSharedLimiter({ limits: rate_limits, redis, keys: keyspace(prefix), clock: systemClock, log })
  }
  test.runIf(installed)('twenty handlers let through what one does', async () => {
    const handlers = Array.from({ length: 20 }, () => limiter('many', { login: { per_second: 0.001, burst: 7 } }))
    const waits = await Promise.all(handlers.flatMap((one) => [take(one, '@a:test'), take(one, '@a:test')]))
    expect(waits.filter((wait) => wait === 0).length).toBe(7)
    expect(await take(handlers[0] ?? limiter('many', {}), '@b:test')).toBe(0)
  })

  test.runIf(installed)('a refusal says when the next one is let through, and it is', async () => {
    const one = limiter('wait', { login: { per_second: 20, burst: 1 } })
    expect(await take(one, 'k')).toBe(0)
    const wait = await take(one, 'k')
    expect(wait).toBeGreaterThan(0)
    expect(wait).toBeLessThanOrEqual(50)
    await expect.poll(() => take(one, 'k'), { interval: wait }).toBe(0)
  })

  test.runIf(installed)('buckets are gone from Redis once they are full again', async () => {
    const one = limiter('gone', { login: { per_second: 1000, burst: 5 } })
    await take(one, 'k')
    await expect.poll(() => kind.keys('gone')).toEqual([])
  })

  test.runIf(installed)('a bucket that never refills refuses until further notice', async () => {
    const one = limiter('never', { login: { per_second: 0, burst: 1 } })
    expect(await take(one, 'k')).toBe(0)
    expect(await take(one, 'k')).toBe(3_600_000)
  })

  test.runIf(installed)('limits that are off ask nobody', () => {
    expect(limiter('off', { enabled: false }).take('login', 'k')).toBeUndefined()
  })
})

test.runIf(redisInstalled)('while Redis is away each handler limits by itself', async () => {
  const away = await startRedis()
  const redis = openRedis({ url: away.url, log })
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
  await redis.close()
})
