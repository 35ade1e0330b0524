/** What commands and subscriptions do while Redis is killed, paused, cut off, moved: they fail soon, tell nothing that is secret,
 *  repeat nothing, and come back by themselves. */
import { connect, createServer, type Socket } from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'
import { openGate } from '../../test/support/gate.ts'
import { type RedisServer, redisInstalled, startRedis } from '../../test/support/redis.ts'
import { eventually } from '../../test/support/redis-contract.ts'
import { openRedis, type RedisConnection } from './connection.ts'
import { RedisAwayError } from './errors.ts'
import { openLink } from './link.ts'

/** Two seconds for a command, and the time to notice on a busy machine. */
const soonMs = 3_500

const cleanUps: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp()
})

async function server(...args: Parameters<typeof startRedis>): Promise<RedisServer> {
  const started = await startRedis(...args)
  cleanUps.push(started.stop)
  return started
}

function open(url: string): { redis: RedisConnection; logged: string[] } {
  const logged: string[] = []
  const log = { warn: (fields: Record<string, unknown>, text: string) => logged.push(JSON.stringify([fields, text])) }
  const redis = openRedis({ url, log })
  cleanUps.push(redis.close)
  return { redis, logged }
}

/** A subscription that writes down what happens to it. */
function listen(redis: RedisConnection, channel: string): string[] {
  const story: string[] = []
  redis.subscribe(channel, {
    message: (text) => story.push(text),
    up: () => story.push('(up)'),
    down: () => story.push('(down)'),
  })
  return story
}

async function failure(promise: Promise<unknown>): Promise<{ error: RedisAwayError; ms: number }> {
  const beganMs = performance.now()
  try {
    await promise
  } catch (error) {
    expect(error).toBeInstanceOf(RedisAwayError)
    return { error: error as RedisAwayError, ms: performance.now() - beganMs }
  }
  throw new Error('it was answered')
}

describe.runIf(redisInstalled)('Redis away', () => {
  test('killed and started again: commands fail at once, subscriptions come back', async () => {
    const { url, kill, start } = await server().then((s) => Object.assign(s, { url: s.url }))
    const { redis } = open(url)
    const story = listen(redis, 'faults:killed')
    await eventually(() => expect(story).toEqual(['(up)']))
    await redis.client.set('a', '1')
    await kill()
    expect((await failure(redis.client.get('a'))).ms).toBeLessThan(500)
    expect((await failure(redis.client.get('a'))).ms).toBeLessThan(100)
    await eventually(() => expect(story).toEqual(['(up)', '(down)']))
    await start()
    const startedMs = performance.now()
    await eventually(async () => expect(await redis.client.get('a')).toBeNull())
    await eventually(() => expect(story).toEqual(['(up)', '(down)', '(up)']))
    expect(performance.now() - startedMs).toBeLessThan(2_000)
    await redis.client.publish('faults:killed', 'heard')
    await eventually(() => expect(story.at(-1)).toBe('heard'))
  })

  test('paused: commands give up within their time, later ones at once', async () => {
    const redisServer = await server()
    const { redis } = open(redisServer.url)
    const story = listen(redis, 'faults:paused')
    await redis.client.set('a', '1')
    await eventually(() => expect(story).toEqual(['(up)']))
    redisServer.pause()
    const { error, ms } = await failure(redis.client.get('a'))
    expect(error.sent).toBe(true)
    expect(ms).toBeLessThan(soonMs)
    await eventually(() => expect(story).toEqual(['(up)', '(down)']))
    // The first attempt to connect again is waited for, the later ones are not.
    await failure(redis.client.get('a'))
    expect((await failure(redis.client.get('a'))).ms).toBeLessThan(100)
    redisServer.resume()
    await eventually(async () => expect(await redis.client.get('a')).toBe('1'))
    await eventually(() => expect(story).toEqual(['(up)', '(down)', '(up)']))
  })

  test('half-open: a connection that nobody answers on is found dead though no command is sent', async () => {
    const redisServer = await server()
    const gate = await openGate(redisServer.url)
    cleanUps.push(gate.close)
    const { redis, logged } = open(gate.url)
    const story = listen(redis, 'faults:half-open')
    await redis.client.ping()
    await eventually(() => expect(story).toEqual(['(up)']))
    gate.frozen = true
    await eventually(() => expect(story).toEqual(['(up)', '(down)']))
    await eventually(() => expect(logged.filter((line) => line.includes('commands'))).not.toEqual([]))
    gate.frozen = false
    await eventually(async () => expect(await redis.client.ping()).toBe('PONG'))
    await eventually(() => expect(story).toEqual(['(up)', '(down)', '(up)']))
  })

  test('a command whose answer was lost is not sent again', async () => {
    const redisServer = await server()
    let cut = false
    const proxy = createServer((client: Socket) => {
      const upstream = connect(redisServer.port, redisServer.host)
      client.on('data', (bytes) => upstream.write(bytes)).on('close', () => upstream.destroy())
      upstream.on('data', (bytes) => (cut ? client.destroy() : client.write(bytes)))
      for (const socket of [client, upstream]) socket.on('error', () => socket.destroy())
    })
    await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve))
    cleanUps.push(() => proxy.close())
    const { redis } = open(`redis://127.0.0.1:${(proxy.address() as { port: number }).port}`)
    await redis.client.ping()
    cut = true
    const lost = [
      redis.client.incr('n'),
      redis.client.multi().incr('n').incr('n').exec(),
      redis.client.pipeline().incr('n').exec(),
    ]
    for (const { error } of await Promise.all(lost.map(failure))) expect(error.sent).toBe(true)
    cut = false
    await eventually(async () => expect(await redis.client.ping()).toBe('PONG'))
    expect(await redis.client.get('n')).toBe('4')
  })

  test('never reached: commands fail, nothing is queued without bound', async () => {
    const link = openLink({
      target: () => ({ at: { host: '127.0.0.1', port: 1 }, database: 0 }),
      log: { warn: () => undefined },
      name: 'nowhere',
    })
    cleanUps.push(() => link.close())
    const { error } = await failure(link.send(['PING']))
    expect(error.message).toMatch(/ECONNREFUSED/)
    expect(error.sent).toBe(false)
  })

  test('a paused Redis is sent so much and no more', async () => {
    const redisServer = await server()
    const link = openLink({
      target: () => ({ at: { host: redisServer.host, port: redisServer.port }, database: 0 }),
      log: { warn: () => undefined },
      name: 'full',
    })
    cleanUps.push(() => link.close())
    await link.send(['PING'])
    redisServer.pause()
    const results = await Promise.allSettled(Array.from({ length: 100_050 }, () => link.send(['PING'])))
    const reasons = results.map((result) =>
      result.status === 'rejected' ? (result.reason as RedisAwayError) : undefined,
    )
    expect(reasons.filter((reason) => reason?.message.includes('too many'))).toHaveLength(50)
    expect(reasons.every((reason) => reason !== undefined)).toBe(true)
  })

  test('neither passwords nor commands are in errors and logs', async () => {
    const redisServer = await server({ arguments: ['--requirepass', 'right-hidden'] })
    const { redis, logged } = open(`redis://user-hidden:wrong-hidden@${redisServer.host}:${redisServer.port}`)
    const { error } = await failure(redis.client.set('key-hidden', 'value-hidden'))
    expect(error.message).toMatch(/WRONGPASS/)
    const right = open(`redis://:right-hidden@${redisServer.host}:${redisServer.port}`)
    await right.redis.client.ping()
    await redisServer.kill()
    const lost = await failure(right.redis.client.set('key-hidden', 'value-hidden'))
    const told = [error, lost.error].map((e) => `${e.message} ${e.stack} ${JSON.stringify(e)} ${String(e.cause)}`)
    expect([...told, ...logged, ...right.logged].join()).not.toMatch(/-hidden/)
  })
})
