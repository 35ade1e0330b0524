/** The gateway's own promises: who may come in, what goes over the wire, what happens when either side leaves. */
import { spawn } from 'node:child_process'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { silentLogger } from '../../shared/logging.ts'
import { openRedis, openTransport, type RedisConnection } from '../../shared/redis/connection.ts'
import { RedisAwayError } from '../../shared/redis/errors.ts'
import { openGate } from '../../test/support/gate.ts'
import { type RedisServer, redisInstalled, startRedis } from '../../test/support/redis.ts'
import { eventually } from '../../test/support/redis-contract.ts'
import { createGateway, type Gateway } from './gateway.ts'

const token = 'current-token-of-the-gateway'
const nextToken = 'next-token-of-the-gateway'

describe.runIf(redisInstalled)('the Redis gateway', () => {
  let redis: RedisServer
  let gateway: Gateway
  let url: string
  const closings: (() => unknown)[] = []

  beforeAll(async () => {
    redis = await startRedis()
    const transport = openTransport({ url: redis.url, log: silentLogger })
    gateway = createGateway({
      transport,
      tokens: [token, nextToken],
      log: silentLogger,
      bodyBytesMax: 100_000,
      commandsMax: 100,
    })
    await new Promise<void>((resolve) => gateway.server.listen(0, '127.0.0.1', resolve))
    url = `http://127.0.0.1:${(gateway.server.address() as AddressInfo).port}`
    closings.push(() => gateway.close(), transport.close, redis.stop)
  })
  afterAll(async () => {
    for (const close of closings) await close()
  })

  function post(
    path: string,
    body: unknown,
    headers: Record<string, string> = {},
    signal?: AbortSignal,
  ): Promise<Response> {
    return fetch(url + path, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, ...headers },
      body: typeof body === 'string' ? body : JSON.stringify(body),
      ...(signal ? { signal } : {}),
    })
  }

  async function receivers(channel: string): Promise<number> {
    return Number(/:(\d+)\r\n$/.exec(await redis.command(`PUBSUB NUMSUB ${channel}`))?.[1])
  }

  describe.each([
    '/',
    '/pipeline',
    '/multi-exec',
    '/subscribe/a',
    '/psubscribe/a*',
    '/monitor',
    '/health',
    '/get/a',
    '/%00',
  ])('the path %s', (path) => {
    test.each([
      ['no token', {}],
      ['a wrong one', { authorization: 'Bearer wrong' }],
      ['an empty one', { authorization: 'Bearer ' }],
      ['the beginning of it', { authorization: `Bearer ${token.slice(0, -1)}` }],
      ['more than it', { authorization: `Bearer ${token}x` }],
      ['another scheme', { authorization: `Basic ${token}` }],
      ['both', { authorization: `Bearer ${token}, Bearer ${nextToken}` }],
    ])('is closed to %s', async (_, headers) => {
      for (const method of ['POST', 'GET', 'PUT', 'OPTIONS']) {
        const answer = await fetch(`${url}${path}?_token=${token}`, {
          method,
          headers: headers as Record<string, string>,
        })
        expect(answer.status).toBe(401)
        expect(await answer.text()).not.toContain('OK')
      }
    })
  })

  test('either of two tokens opens it', async () => {
    for (const each of [token, nextToken]) {
      const answer = await post('/', ['PING'], { authorization: `bearer ${each}` })
      expect(await answer.json()).toEqual({ result: 'PONG' })
    }
  })

  test('the wire format, plain and in base64', async () => {
    await post('/', ['SET', 'k', 'OK'])
    await post('/', ['RPUSH', 'l', 'OK', 'ü', ''])
    expect(await (await post('/', ['GET', 'k'])).json()).toEqual({ result: 'OK' })
    const commands = [
      ['GET', 'k'],
      ['LRANGE', 'l', 0, -1],
      ['GET', 'none'],
      ['INCR', 'n'],
      ['LPUSH', 'k', 'x'],
      ['SET', 'k', 1],
    ]
    const wrong = { error: 'WRONGTYPE Operation against a key holding the wrong kind of value' }
    expect(await (await post('/pipeline', commands)).json()).toEqual([
      { result: 'OK' },
      { result: ['OK', 'ü', ''] },
      { result: null },
      { result: 1 },
      wrong,
      { result: 'OK' },
    ])
    expect(await (await post('/pipeline', commands, { 'upstash-encoding': 'base64' })).json()).toEqual([
      { result: 'MQ==' },
      { result: ['T0s=', 'w7w=', ''] },
      { result: null },
      { result: 2 },
      wrong,
      { result: 'OK' },
    ])
  })

  test.each([
    ['GET', '/', undefined, 405],
    ['PUT', '/', '["PING"]', 405],
    ['POST', '/nowhere', '["PING"]', 404],
    ['POST', '/subscribe/a/b', '[]', 404],
    ['POST', '/subscribe/%zz', '[]', 400],
    ['POST', '/', 'not json with a secret', 400],
    ['POST', '/', '{}', 400],
    ['POST', '/', '[]', 400],
    ['POST', '/', '["SET","k",{"a":1}]', 400],
    ['POST', '/', '["SET","k",null]', 400],
    ['POST', '/pipeline', '["PING"]', 400],
    ['POST', '/pipeline', JSON.stringify(Array.from({ length: 101 }, () => ['PING'])), 400],
    ['POST', '/', JSON.stringify(['SET', 'k', 'x'.repeat(100_000)]), 413],
    ['POST', '/multi-exec', '[["SET","k","v"],["GET"]]', 400],
  ] as const)('%s %s with %s is answered with an error', async (method, path, body, status) => {
    const answer = await fetch(url + path, {
      method,
      headers: { authorization: `Bearer ${token}` },
      ...(body === undefined ? {} : { body }),
    })
    expect(answer.status).toBe(status)
    const { error } = (await answer.json()) as { error: string }
    expect(error).toMatch(/./)
    expect(error).not.toMatch(/secret|xxx/)
  })

  test.each([
    ['subscribe', 'a'],
    ['MULTI'],
    ['blpop', 'l', 0],
    ['SELECT', 1],
    ['CONFIG', 'GET', '*'],
    ['Monitor'],
    ['XREAD', 'BLOCK', 0, 'STREAMS', 's', '$'],
    ['QUIT'],
    ['SHUTDOWN'],
  ])('%s does not pass', async (...command) => {
    const single = await post('/', command)
    expect(single.status).toBe(400)
    expect((await post('/pipeline', [['PING'], command])).status).toBe(400)
    expect((await post('/multi-exec', [command])).status).toBe(400)
    expect(await (await post('/', ['PING'])).json()).toEqual({ result: 'PONG' })
  })

  test('a key may be called what an option is called', async () => {
    expect((await post('/', ['XREAD', 'STREAMS', 'BLOCK', '0'])).status).toBe(200)
  })

  test('a subscription is closed in Redis when its caller leaves', async () => {
    const leaving = new AbortController()
    const answer = await post('/subscribe/gw:leaving', [], { accept: 'text/event-stream' }, leaving.signal)
    expect(answer.headers.get('content-type')).toBe('text/event-stream')
    expect(await receivers('gw:leaving')).toBe(1)
    const reader = answer.body!.pipeThrough(new TextDecoderStream()).getReader()
    await redis.command('PUBLISH gw:leaving "a\\r\\nb"')
    let text = ''
    while (!text.includes('a b')) text += (await reader.read()).value ?? ''
    expect(text).toBe('data: subscribe,gw:leaving,1\n\ndata: message,gw:leaving,a b\n\n')
    leaving.abort()
    await reader.read().catch(() => undefined)
    await eventually(async () => expect(await receivers('gw:leaving')).toBe(0))
  })

  test('a pattern tells the channel of each message', async () => {
    const leaving = new AbortController()
    const answer = await post(`/psubscribe/${encodeURIComponent('gw:p*')}`, [], {}, leaving.signal)
    const reader = answer.body!.pipeThrough(new TextDecoderStream()).getReader()
    await redis.command('PUBLISH gw:pattern hello')
    let text = ''
    while (!text.includes('hello')) text += (await reader.read()).value ?? ''
    expect(text).toBe('data: psubscribe,gw:p*,1\n\ndata: pmessage,gw:p*,gw:pattern,hello\n\n')
    leaving.abort()
    await reader.read().catch(() => undefined)
  })

  test('Redis away: 503 with Retry-After, streams end, and everything comes back', async () => {
    const { client, subscribe, close } = clientOf(url)
    const story: string[] = []
    subscribe('gw:away', {
      message: (text) => story.push(text),
      up: () => story.push('(up)'),
      down: () => story.push('(down)'),
    })
    await client.set('before', '1')
    await eventually(() => expect(story).toEqual(['(up)']))
    await redis.kill()
    await eventually(() => expect(story).toEqual(['(up)', '(down)']))
    const answer = await post('/', ['PING'])
    expect(answer.status).toBe(503)
    expect(answer.headers.get('retry-after')).toBe('1')
    await expect(client.get('before')).rejects.toThrow(RedisAwayError)
    await redis.start()
    await eventually(async () => expect(await client.get('before')).toBeNull())
    await eventually(() => expect(story).toEqual(['(up)', '(down)', '(up)']))
    await client.publish('gw:away', 'heard')
    await eventually(() => expect(story.at(-1)).toBe('heard'))
    await close()
  })

  test('a stream that nobody ends and nothing comes on is found dead by its heartbeat', async () => {
    const gate = await openGate(url.replace('http:', 'redis:'))
    const { client, subscribe, close } = clientOf(gate.url.replace('redis:', 'http:'))
    const story: string[] = []
    subscribe('gw:frozen', {
      message: (text) => story.push(text),
      up: () => story.push('(up)'),
      down: () => story.push('(down)'),
    })
    await client.ping()
    await eventually(() => expect(story).toEqual(['(up)']))
    gate.frozen = true
    const beganMs = performance.now()
    await expect(client.get('a')).rejects.toThrow(RedisAwayError)
    expect(performance.now() - beganMs).toBeLessThan(3_500)
    // While it is away, one command at a time tries; the others fail at once.
    const againMs = performance.now()
    await expect(client.get('a')).rejects.toThrow(RedisAwayError)
    expect(performance.now() - againMs).toBeLessThan(200)
    await eventually(() => expect(story).toEqual(['(up)', '(down)']))
    gate.frozen = false
    await eventually(async () => expect(await client.ping()).toBe('PONG'))
    await eventually(() => expect(story).toEqual(['(up)', '(down)', '(up)']))
    await close()
    gate.close()
  })

  test('a wrong token is told as such, and neither it nor the command', async () => {
    const logged: unknown[] = []
    const log = { warn: (...line: unknown[]) => logged.push(line) }
    const wrong = openRedis({ url, token: 'wrong-hidden-token', log })
    const error = await wrong.client.set('hidden-key', 'hidden-value').catch((e: Error) => e)
    expect(error).toBeInstanceOf(RedisAwayError)
    expect(String(error)).toMatch(/token is refused/)
    expect(`${(error as Error).stack}${JSON.stringify(error)}${JSON.stringify(logged)}`).not.toMatch(/hidden/)
    await wrong.close()
  })

  test('commands that were lost are not sent again', async () => {
    const gate = await openGate(url.replace('http:', 'redis:'))
    const { client, close } = clientOf(gate.url.replace('redis:', 'http:'))
    await client.set('lost', '0')
    gate.frozen = true
    await expect(client.incr('lost')).rejects.toThrow(RedisAwayError)
    gate.frozen = false
    gate.cut()
    await eventually(async () => expect(await client.ping()).toBe('PONG'))
    expect(await client.get('lost')).toBe('0')
    await close()
    gate.close()
  })

  test('ganglion redis-gateway runs it, and ends on SIGTERM', async () => {
    const run = (env: Record<string, string>) =>
      spawn(process.execPath, ['infra/cli/ganglion.ts', 'redis-gateway', '--listen', '127.0.0.1:0'], {
        env: { PATH: process.env.PATH, ...env },
      })
    const ended = (child: ReturnType<typeof run>) =>
      new Promise<number | null>((resolve) => child.once('exit', resolve))
    expect(await ended(run({ REDIS_GATEWAY_REDIS_URL: redis.url }))).toBe(2)
    expect(await ended(run({ REDIS_GATEWAY_REDIS_URL: redis.url, REDIS_GATEWAY_TOKEN: 'short' }))).toBe(2)
    const child = run({ REDIS_GATEWAY_REDIS_URL: redis.url, REDIS_GATEWAY_TOKEN: token })
    const end = ended(child)
    let output = ''
    child.stdout.on('data', (data: Buffer) => {
      output += data.toString()
    })
    let port: string | undefined
    await eventually(() => {
      port = /"port":(\d+)/.exec(output)?.[1]
      expect(port).toBeDefined()
    })
    const { client, close } = clientOf(`http://127.0.0.1:${port}`)
    expect(await client.ping()).toBe('PONG')
    await close()
    child.kill('SIGTERM')
    expect(await end).toBe(0)
    expect(output).not.toContain(token)
  })

  function clientOf(at: string): RedisConnection {
    return openRedis({ url: at, token, log: { warn: () => undefined } })
  }
})
