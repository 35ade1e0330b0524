/** What happens when another server takes over: Sentinel's failovers. */
import { afterEach, describe, expect, test } from 'vitest'
import { redisInstalled } from '../../test/support/redis.ts'
import { eventually } from '../../test/support/redis-contract.ts'
import { startSentinels } from '../../test/support/redis-topologies.ts'
import { openRedis, type RedisConnection } from './connection.ts'

const cleanUps: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp()
})

function open(url: string): { redis: RedisConnection; story: string[] } {
  const redis = openRedis({ url, log: { warn: () => undefined } })
  cleanUps.push(redis.close)
  const story: string[] = []
  redis.subscribe('sentinel', {
    message: (text) => story.push(text),
    up: () => story.push('(up)'),
    down: () => story.push('(down)'),
  })
  return { redis, story }
}

describe.runIf(redisInstalled)('another server takes over', () => {
  test('the master dies', async () => {
    const sentinels = await startSentinels()
    cleanUps.push(sentinels.stop)
    const { redis, story } = open(sentinels.url)
    await redis.client.set('a', '1')
    await eventually(() => expect(story).toEqual(['(up)']))
    const before = await sentinels.masterPort()
    await sentinels.killMaster()
    await eventually(async () => expect(await redis.client.set('a', '2')).toBe('OK'))
    expect(await sentinels.masterPort()).not.toBe(before)
    await eventually(() => expect(story).toEqual(['(up)', '(down)', '(up)']))
    await redis.client.publish('sentinel', 'heard')
    await eventually(() => expect(story.at(-1)).toBe('heard'))
  })

  test('the master is demoted while it lives, and nobody writes to it any more', async () => {
    const sentinels = await startSentinels()
    cleanUps.push(sentinels.stop)
    const { redis, story } = open(sentinels.url)
    await redis.client.set('a', '1')
    const before = await sentinels.masterPort()
    await sentinels.failOver()
    await eventually(async () => expect(await sentinels.masterPort()).not.toBe(before))
    await eventually(() => expect(story).toContain('(down)'))
    await eventually(async () => {
      expect(await redis.client.set('b', '2')).toBe('OK')
      const { redis: master } = open(`redis://127.0.0.1:${await sentinels.masterPort()}`)
      expect(await master.client.get('b')).toBe('2')
    })
  })
})
