/** The parts that need no server: URLs, names, slots, and the clock of the Redis in memory. */
import { describe, expect, test } from 'vitest'
import { fakeClock } from '../clock.ts'
import { firstKey, keySlot } from './cluster-slots.ts'
import { memoryRedis } from './connection.ts'
import { RedisUrlError, withoutArguments } from './errors.ts'
import { keyspace } from './keys.ts'
import { globPattern } from './memory-command.ts'
import { parseRedisUrl } from './url.ts'

describe('redis.url', () => {
  test.each([
    ['redis://localhost', { kind: 'node', tls: false, at: { host: 'localhost', port: 6379 }, database: 0 }],
    [
      'rediss://ann:p%40ss@[::1]:7000/3',
      { kind: 'node', tls: true, at: { host: '::1', port: 7000 }, username: 'ann', password: 'p@ss', database: 3 },
    ],
    ['redis://:a:b@h/', { kind: 'node', password: 'a:b', database: 0 }],
    ['redis+unix:///run/redis.sock?database=2', { kind: 'node', at: { path: '/run/redis.sock' }, database: 2 }],
    [
      'redis+sentinel://:pw@a,b:1/mymaster/1?sentinel_password=x',
      {
        kind: 'sentinel',
        sentinels: [
          { host: 'a', port: 26379 },
          { host: 'b', port: 1 },
        ],
        sentinelCredentials: { password: 'x' },
        master: 'mymaster',
        password: 'pw',
        database: 1,
      },
    ],
    ['rediss+cluster://a:1,b', { kind: 'cluster', tls: true, seeds: [{ port: 1 }, { host: 'b', port: 6379 }] }],
    ['https://eu1.upstash.io/', { kind: 'rest', url: 'https://eu1.upstash.io' }],
    ['memory:', { kind: 'memory' }],
  ])('%s', (url, expected) => expect(parseRedisUrl(url)).toMatchObject(expected))

  test.each([
    'secret',
    'redis://',
    'redis://a,b',
    'redis://secret@h:99999',
    'redis://h/secret',
    'redis+sentinel://secret@a',
    'redis+cluster://a/1secret',
    'redis+sentinel+cluster://secret',
    'https://user:secret@h',
    'https://h?token=secret',
    'redis://%zz-secret@h',
  ])('refuses %s without quoting it', (url) => {
    expect(() => parseRedisUrl(url)).toThrow(RedisUrlError)
    expect(() => parseRedisUrl(url)).not.toThrow(/secret/)
  })
})

test('keys lie under one hash tag, and channels have names that travel in a path', () => {
  const space = keyspace('ganglion')
  expect(space.key('log', 'events')).toBe('{ganglion}:log:events')
  expect(space.key('shard', 3)).toBe('{ganglion}:shard:3')
  expect(space.channel('streams')).toBe('ganglion:streams')
  for (const bad of ['a,b', 'a/b', 'a?b', 'A', 'a b', 'a\n']) expect(() => space.channel(bad)).toThrow(TypeError)
})

test.each([
  // The cluster specification's own example, and tags.
  ['123456789', 12739],
  ['{user1000}.following', keySlot('user1000')],
  ['foo{}{bar}', keySlot('foo{}{bar}')],
  ['foo{{bar}}zap', keySlot('{bar')],
  ['foo{bar}{zap}', keySlot('bar')],
])('the slot of %s', (key, slot) => expect(keySlot(key)).toBe(slot))

test('the first key of a command', () => {
  expect(firstKey(['GET', 'a'])).toBe('a')
  expect(firstKey(['EVALSHA', 'f00', '2', 'a', 'b', 'c'])).toBe('a')
  expect(firstKey(['EVAL', 'return 1', '0', 'c'])).toBeUndefined()
  expect(firstKey(['XREAD', 'COUNT', '5', 'STREAMS', 'a', '0'])).toBe('a')
  expect(firstKey(['PUBLISH', 'channel', 'text'])).toBeUndefined()
  expect(firstKey(['ZUNION', '2', 'a', 'b'])).toBe('a')
})

test('error replies lose the arguments that Redis quotes', () => {
  expect(withoutArguments("ERR unknown command 'FOO', with args beginning with: 'secret' ")).not.toMatch(/secret/)
})

test.each([
  ['a*', 'abc', true],
  ['a?c', 'abc', true],
  ['a[bx]c', 'abc', true],
  ['a[^b]c', 'abc', false],
  ['a\\*c', 'abc', false],
  ['a\\*c', 'a*c', true],
  ['a.c', 'abc', false],
])('the glob %s against %s: %s', (glob, text, matches) => expect(globPattern(glob).test(text)).toBe(matches))

test('the Redis in memory goes by the given clock', async () => {
  const clock = fakeClock()
  const { client } = memoryRedis({ clock })
  await client.set('a', '1', { px: 1000 })
  clock.advance(999)
  expect(await client.pttl('a')).toBe(1)
  clock.advance(1)
  expect(await client.get('a')).toBeNull()
  await client.zadd('beats', { score: 5, member: 'main' })
  await client.pexpire('beats', 10)
  clock.advance(10)
  expect(await client.zrange('beats', 0, -1)).toEqual([])
  const [time] = await client.pipeline().time().exec()
  expect(time).toEqual([String(Math.floor(clock.now() / 1000)), String((clock.now() % 1000) * 1000)])
})
