import { describe, expect, test } from 'vitest'
import { fakeClock } from '../clock.ts'
import { silentLogger } from '../logging.ts'
import { memoryRedis } from '../redis/connection.ts'
import { keyspace } from '../redis/keys.ts'
import { ownStatus, reportStatus, statusesIn } from './process-status.ts'

const keys = keyspace('status-test')

describe('the status of processes', () => {
  test('is in Redis while they say so, and for ten seconds after', async () => {
    const clock = fakeClock()
    const redis = memoryRedis({ clock })
    const store = { redis, keys }
    const deps = { ...store, clock, log: silentLogger }
    const end = reportStatus(ownStatus({ role: 'sync', id: 'sync-1', url: 'http://10.0.0.1:8008' }), deps)
    await expect.poll(() => statusesIn(store)).toHaveLength(1)
    // Says nothing more: its clock stands still.
    reportStatus(ownStatus({ role: 'main', id: 'main-1' }), { ...deps, clock: fakeClock() })
    await expect.poll(async () => (await statusesIn(store)).map(({ id }) => id).sort()).toEqual(['main-1', 'sync-1'])
    for (let i = 0; i < 6; i++) {
      clock.advance(2_000)
      await new Promise((resolve) => setImmediate(resolve))
    }
    const [left, ...others] = await statusesIn(store)
    expect(others).toEqual([])
    expect(left).toMatchObject({ id: 'sync-1', role: 'sync', url: 'http://10.0.0.1:8008', pid: process.pid })
    await end()
    expect(await statusesIn(store)).toEqual([])
    expect(await redis.client.smembers(keys.key('processes'))).toEqual([])
    await redis.close()
  })

  test('of what is none is left out', async () => {
    const redis = memoryRedis()
    await redis.client.sadd(keys.key('processes'), 'a', 'b')
    await redis.client.set(keys.key('process', 'a'), '{"id":')
    await redis.client.set(keys.key('process', 'b'), '{"id":"b"}')
    expect(await statusesIn({ redis, keys })).toEqual([])
    await redis.close()
  })

  test('tells how busy a process was since it last said so', () => {
    const status = ownStatus({ role: 'client' })
    const { busy, memory_bytes, id } = status.read()
    expect(busy).toBeGreaterThanOrEqual(0)
    expect(busy).toBeLessThanOrEqual(1)
    expect(memory_bytes).toBeGreaterThan(1e6)
    expect(id).toMatch(/^client-[0-9a-f]{8}$/)
  })
})
