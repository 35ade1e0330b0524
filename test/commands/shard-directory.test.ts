/** Who owns which shard, as handlers find out: from Redis, and from Postgres where Redis is away, empty or wrong. */
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { systemClock } from '../../shared/clock.ts'
import { memoryRedis, type RedisConnection } from '../../shared/redis/connection.ts'
import { keyspace } from '../../shared/redis/keys.ts'
import { type MemoryServer, memoryServer } from '../../shared/redis/memory.ts'
import {
  controlChannel,
  createShardDirectory,
  ownersKey,
  type ShardDirectory,
  type ShardOwner,
} from '../../shared/replication/shard-directory.ts'
import { type TestDatabase, testDatabase } from '../support/database.ts'

const keys = keyspace('test')
let database: TestDatabase
let server: MemoryServer
let redis: RedisConnection
let warnings: string[]

beforeAll(async () => {
  database = await testDatabase()
})
afterAll(() => database.drop())
beforeEach(async () => {
  server = memoryServer()
  redis = memoryRedis({ server })
  warnings = []
  await database.sql`delete from mains`
  await database.sql`update shards set owner = null, epoch = 0`
})

const main = (id: string, epoch = 1): ShardOwner => ({ id, url: `http://${id}.test:1`, epoch })

async function announce(shard: number, owner: object | string): Promise<void> {
  const text = typeof owner === 'string' ? owner : JSON.stringify(owner)
  await redis.client.hset(keys.key(ownersKey), { [shard]: text })
}
async function store(shard: number, { id, url, epoch }: ShardOwner): Promise<void> {
  await database.sql`
    insert into mains (id, url, standby, alone, expires_at) values (${id}, ${url}, false, false, 'infinity')
    on conflict (id) do update set url = excluded.url`
  await database.sql`update shards set owner = ${id}, epoch = ${epoch} where shard = ${shard}`
}
function open(connection: Pick<RedisConnection, 'client' | 'subscribe'> = redis): ShardDirectory {
  const directory = createShardDirectory({
    redis: connection,
    keys,
    sql: database.read,
    clock: systemClock,
    log: { warn: (_fields, message) => void warnings.push(String(message)) },
  })
  onTestFinished(() => directory.close())
  return directory
}

describe('from Redis', () => {
  test('owners are there soon after the start, and each main takes its turn', async () => {
    await announce(0, main('a'))
    await announce(1, main('b', 7))
    await announce(2, main('a'))
    const directory = open()
    expect(directory.ownerOf(0)).toBeUndefined()
    await expect.poll(() => directory.ownerOf(1)).toEqual(main('b', 7))
    expect(directory.ownerOf(63)).toBeUndefined()
    expect(new Set([1, 2, 3].map(() => directory.anyMain()?.id))).toEqual(new Set(['a', 'b']))
    expect(directory.knows(main('a'))).toBe(true)
    expect(directory.knows({ ...main('a'), url: 'http://elsewhere:1' })).toBe(false)
    expect(warnings).toEqual([])
  })

  test('a message that shards have moved makes it look, and its listeners hear', async () => {
    await announce(0, main('a'))
    const directory = open()
    await expect.poll(() => directory.ownerOf(0)?.id).toBe('a')
    let changes = 0
    directory.onChange(() => changes++)
    await announce(0, main('b', 2))
    await redis.client.publish(keys.channel(controlChannel), 'moved')
    await expect.poll(() => directory.ownerOf(0)).toEqual(main('b', 2))
    expect(changes).toBe(1)
    await directory.refresh()
    expect(changes).toBe(1)
  })

  test('an announcement of the past changes nothing', async () => {
    await announce(0, main('b', 5))
    const directory = open()
    await expect.poll(() => directory.ownerOf(0)?.id).toBe('b')
    await announce(0, main('a', 4))
    await directory.refresh()
    expect(directory.ownerOf(0)).toEqual(main('b', 5))
  })
})

describe('from Postgres', () => {
  test('where Redis has nothing, as after FLUSHALL', async () => {
    await store(3, main('a', 4))
    const directory = open()
    await expect.poll(() => directory.ownerOf(3)).toEqual(main('a', 4))
    expect(directory.ownerOf(4)).toBeUndefined()
  })

  test('where Redis still names who turned a command away', async () => {
    await announce(0, main('a', 1))
    await store(0, main('b', 2))
    const directory = open()
    await expect.poll(() => directory.ownerOf(0)?.id).toBe('a')
    await directory.refresh()
    expect(directory.ownerOf(0)?.id).toBe('a')
    await directory.refresh({ shard: 0, owner: main('a', 1) })
    expect(directory.ownerOf(0)).toEqual(main('b', 2))
  })

  test('where Redis is away', async () => {
    await store(0, main('b', 2))
    const away = {
      client: { hgetall: () => Promise.reject(new Error('away')) } as unknown as RedisConnection['client'],
      subscribe: () => () => undefined,
    }
    const directory = open(away)
    await directory.refresh()
    expect(directory.ownerOf(0)).toEqual(main('b', 2))
    expect(warnings).toContain('Redis does not tell who owns the shards; Postgres is asked')
  })

  test.each([
    ['no JSON', '{'],
    ['no owner', '{}'],
    ['a URL that is none', JSON.stringify({ ...main('a'), url: 'file:///etc/passwd' })],
    ['a URL with a password', JSON.stringify({ ...main('a'), url: 'http://user:pass@a:1' })],
    ['an epoch that is none', JSON.stringify({ ...main('a'), epoch: '1' })],
  ])('where Redis holds %s', async (_what, text) => {
    await announce(0, text)
    await store(0, main('b', 2))
    const directory = open()
    await expect.poll(() => directory.ownerOf(0)).toEqual(main('b', 2))
  })

  test('where neither tells, what was known stays', async () => {
    await announce(0, main('a', 1))
    const directory = open()
    await expect.poll(() => directory.ownerOf(0)?.id).toBe('a')
    await redis.client.flushall()
    await database.sql`alter table shards rename to shards_away`
    try {
      await directory.refresh({ shard: 0, owner: main('a', 1) })
    } finally {
      await database.sql`alter table shards_away rename to shards`
    }
    expect(directory.ownerOf(0)?.id).toBe('a')
    expect(warnings).toContain('Postgres does not tell who owns the shards')
  })
})

test('those who look at one time share a look, and none of them gets an older one', async () => {
  let looks = 0
  let answer = Promise.withResolvers<string[]>()
  const counted = {
    client: {
      hgetall() {
        looks++
        return answer.promise
      },
    } as unknown as RedisConnection['client'],
    subscribe: () => () => undefined,
  }
  const directory = open(counted)
  expect(looks).toBe(1)
  const later = Promise.all([directory.refresh(), directory.refresh(), directory.refresh()])
  const first = answer
  answer = Promise.withResolvers()
  first.resolve(['0', JSON.stringify(main('a'))])
  await expect.poll(() => looks).toBe(2)
  answer.resolve(['0', JSON.stringify(main('b', 2))])
  await later
  expect(looks).toBe(2)
  expect(directory.ownerOf(0)).toEqual(main('b', 2))
})
