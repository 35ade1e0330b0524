/** What happens when another server takes over: a cluster's failover, and slots that move. */
import { afterEach, describe, expect, test } from 'vitest'
import { redisInstalled } from '../../test/support/redis.ts'
import { eventually } from '../../test/support/redis-contract.ts'
import { startCluster } from '../../test/support/redis-topologies.ts'
import { keySlot } from './cluster-slots.ts'
import { openRedis, type RedisConnection } from './connection.ts'

const cleanUps: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp()
})

function open(url: string): { redis: RedisConnection; story: string[] } {
  const redis = openRedis({ url, log: { warn: () => undefined } })
  cleanUps.push(redis.close)
  const story: string[] = []
  redis.subscribe('cluster', {
    message: (text) => story.push(text),
    up: () => story.push('(up)'),
    down: () => story.push('(down)'),
  })
  return { redis, story }
}

describe.runIf(redisInstalled)('another server takes over', () => {
  test('commands and transactions follow a slot that moves', async () => {
    const cluster = await startCluster()
    cleanUps.push(cluster.stop)
    const { redis } = open(cluster.url)
    const key = '{moves}:a'
    const slot = keySlot(key)
    const owner = Math.floor(slot / Math.ceil(16_384 / 3))
    await redis.client.incr(key)
    await redis.client.del(key)
    await cluster.moveSlot(slot, (owner + 1) % 3)
    expect(await redis.client.incr(key)).toBe(1)
    await redis.client.del(key)
    await cluster.moveSlot(slot, (owner + 2) % 3)
    expect(await redis.client.multi().incr(key).incr(key).exec()).toEqual([1, 2])
    expect(await redis.client.pipeline().get(key).incr('{elsewhere}:b').exec()).toEqual(['2', 1])
  })

  test('a slot under way is asked for at its new place', async () => {
    const cluster = await startCluster()
    cleanUps.push(cluster.stop)
    const { redis } = open(cluster.url)
    const key = '{asked}:a'
    const slot = keySlot(key)
    const from = Math.floor(slot / Math.ceil(16_384 / 3))
    const to = (from + 1) % 3
    await redis.client.get(key)
    await cluster.nodes[to]!.command(`CLUSTER SETSLOT ${slot} IMPORTING ${await cluster.id(cluster.nodes[from]!)}`)
    await cluster.nodes[from]!.command(`CLUSTER SETSLOT ${slot} MIGRATING ${await cluster.id(cluster.nodes[to]!)}`)
    expect(await redis.client.set(key, 'new')).toBe('OK')
    expect(await redis.client.get(key)).toBe('new')
    expect(await cluster.nodes[from]!.command(`GET ${key}`)).toMatch(/^-ASK/)
  })

  test('a replica takes over from a master that died', async () => {
    const cluster = await startCluster({ replica: true })
    cleanUps.push(cluster.stop)
    const { redis, story } = open(cluster.url)
    // A key of the first master, which has a replica.
    const key = Array.from({ length: 1000 }, (_, i) => `{k${i}}`).find((k) => keySlot(k) < 5_000)!
    await redis.client.set(key, '1')
    await eventually(() => expect(story).toEqual(['(up)']))
    await cluster.nodes[0]!.kill()
    await eventually(async () => expect(await redis.client.set(key, '2')).toBe('OK'))
    await eventually(() => expect(story.at(-1)).toBe('(up)'))
    await redis.client.publish('cluster', 'heard')
    await eventually(() => expect(story.at(-1)).toBe('heard'))
  })
})
