import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type RedisServer, redisInstalled, startRedis } from '../../test/support/redis.ts'
import { systemClock } from '../clock.ts'
import { openRedis, type RedisConnection } from '../redis/connection.ts'
import { type Keyspace, keyspace } from '../redis/keys.ts'
import { announceHandler, handlerDirectory } from './handler-registry.ts'

describe.runIf(redisInstalled)('who serves a role', () => {
  let server: RedisServer
  let redis: RedisConnection
  const log = { warn() {} }
  const clock = systemClock
  beforeAll(async () => {
    server = await startRedis()
    redis = openRedis({ url: server.url, log })
  })
  afterAll(async () => {
    await redis.close()
    await server.stop()
  })
  const announce = (keys: Keyspace, url: string) => announceHandler({ redis, keys, role: 'sync', url, clock, log })
  const now = async (keys: Keyspace) => [...(await handlerDirectory({ redis, keys, clock }).of('sync'))].sort()

  test('handlers come by announcing themselves, and go by ending that', async () => {
    const keys = keyspace('come')
    const one = announce(keys, 'http://10.0.0.1:8008')
    const two = announce(keys, 'http://10.0.0.2:8008')
    await expect.poll(() => now(keys)).toEqual(['http://10.0.0.1:8008', 'http://10.0.0.2:8008'])
    await one.end()
    expect(await now(keys)).toEqual(['http://10.0.0.2:8008'])
    await two.end()
    expect(await now(keys)).toEqual([])
  })

  test('one that says no more is no longer listed', async () => {
    const keys = keyspace('silent')
    const [seconds = '0'] = /\d{10}/.exec(await server.command('TIME')) ?? []
    const longAgo = Number(seconds) * 1000 - 6_000
    await server.command(`ZADD {silent}:handlers:sync ${longAgo} http://10.0.0.9:8008`)
    expect(await now(keys)).toEqual([])
    const one = announce(keys, 'http://10.0.0.1:8008')
    await expect.poll(() => now(keys)).toEqual(['http://10.0.0.1:8008'])
    // And it is not kept for ever.
    expect(await server.command('ZCARD {silent}:handlers:sync')).toBe(':1\r\n')
    await one.end()
  })

  test('a directory that knew handlers stands an emptied Redis, and one that is away', async () => {
    const own = await startRedis()
    const connection = openRedis({ url: own.url, log })
    const keys = keyspace('emptied')
    const one = announceHandler({ redis: connection, keys, role: 'media', url: 'http://10.0.0.1:1', clock, log })
    const directory = handlerDirectory({ redis: connection, keys, clock: { ...clock, now: () => nowMs } })
    let nowMs = 1_000_000
    await expect.poll(() => directory.of('media')).toEqual(['http://10.0.0.1:1'])
    await own.command('DEL {emptied}:handlers:media')
    nowMs += 1_500
    expect(await directory.of('media')).toEqual(['http://10.0.0.1:1'])
    await own.kill()
    nowMs += 60_000
    expect(await directory.of('media')).toEqual(['http://10.0.0.1:1'])
    await one.end()
    await connection.close()
    await own.stop()
  })

  test('what is no list of URLs is refused', async () => {
    const keys = keyspace('wrong')
    await server.command(`ZADD {wrong}:handlers:sync ${Date.now() + 1000} rubbish`)
    await expect(handlerDirectory({ redis, keys, clock }).of('sync')).rejects.toThrow()
  })
})
