import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { type TestDatabase, testDatabase } from '../../test/support/database.ts'
import { openGate } from '../../test/support/gate.ts'
import { type RedisServer, redisInstalled, startRedis } from '../../test/support/redis.ts'
import { systemClock } from '../clock.ts'
import type { RoomId, UserId } from '../matrix/ids.ts'
import { openRedis, type RedisConnection } from '../redis/connection.ts'
import { keyspace } from '../redis/keys.ts'
import type { ReadSql } from '../storage/sql.ts'
import type { AccountDataRow } from '../streams/account-data.ts'
import type { StreamPosition } from '../streams/define.ts'
import type { TypingRow } from '../streams/typing.ts'
import { createRedisReplication, type RedisReader, type RedisWriter } from './redis-replication.ts'

const keys = keyspace('ganglion')
const user_id = '@alice:hs' as UserId
const room_id = '!room:hs' as RoomId
const log = { warn: vi.fn(), info: vi.fn() }

let database: TestDatabase
let server: RedisServer
const undo: (() => Promise<unknown>)[] = []

beforeEach(async () => {
  if (!redisInstalled) return
  ;[database, server] = await Promise.all([testDatabase(), startRedis()])
})
afterEach(async () => {
  server?.resume()
  for (const step of undo.splice(0).reverse()) await step()
  await Promise.all([database?.drop(), server?.stop()])
  fatal.mockClear()
})

interface Main extends RedisWriter {
  /** Commits rows of account data, as a main does: the table, the position, then the publication. */
  commit(rows?: number): Promise<StreamPosition>
  /** The same without the publication. */
  store(rows?: number): Promise<{ prev: StreamPosition; position: StreamPosition; rows: AccountDataRow[] }>
  /** Its connections to Redis stand and carry nothing any more. */
  freeze(): void
}

async function main(mainId: string, url = server.url): Promise<Main> {
  const gate = await openGate(url)
  const redis = openRedis({ url: gate.url, log })
  await database.sql`insert into mains (id, url, standby, alone, expires_at)
    values (${mainId}, 'x', false, false, now() + interval '1 hour') on conflict do nothing`
  const replication = await createRedisReplication({
    redis,
    keys,
    sql: database.sql as never,
    clock: systemClock,
    log,
    writer: { mainId },
    onFatal: fatal,
  })
  undo.push(async () => {
    await replication.close()
    await redis.close()
    gate.cut()
    gate.close()
  })
  async function store(count = 1) {
    let position = 0
    const rows: AccountDataRow[] = []
    await database.transaction(async (tx) => {
      const [moved] = await tx<{ position: number }[]>`
        update streams set position = position + ${count} where name = 'account_data' returning position`
      position = moved!.position
      for (let at = position - count + 1; at <= position; at++) {
        const row = { position: at as StreamPosition, user_id, room_nid: 0, type: `t${at}`, content: '{}' }
        await tx`insert into account_data ${tx({ ...row })}`
        rows.push(row)
      }
    })
    return { prev: (position - count) as StreamPosition, position: position as StreamPosition, rows }
  }
  return {
    ...replication,
    store,
    freeze() {
      gate.frozen = true
    },
    async commit(count) {
      const update = await store(count)
      replication.publish('account_data', update)
      await replication.acknowledged()
      return update.position
    },
  }
}

interface Handler extends RedisReader {
  /** Positions of account data, and rows of typing, as they were heard. */
  readonly heard: number[]
  readonly typed: TypingRow[]
}

/** `loses` says which messages never reach it. */
async function handler(options: { url?: string; loses?: (text: string) => boolean } = {}): Promise<Handler> {
  const connection = openRedis({ url: options.url ?? server.url, log })
  const redis: RedisConnection = {
    ...connection,
    subscribe: (channel, on) =>
      connection.subscribe(channel, {
        ...on,
        message: (text) => {
          if (!options.loses?.(text)) on.message(text)
        },
      }),
  }
  const replication = await createRedisReplication({
    redis,
    keys,
    sql: counting(database.read),
    clock: systemClock,
    log,
    onFatal: fatal,
  })
  undo.push(async () => {
    await replication.close()
    await connection.close()
  })
  const heard: number[] = []
  const typed: TypingRow[] = []
  replication.subscribe('account_data', ({ rows }) => heard.push(...rows.map((row) => row.position)))
  replication.subscribe('typing', ({ rows }) => typed.push(...rows))
  return { ...replication, heard, typed }
}

const fatal = vi.fn()
/** Queries of all handlers. */
let asked = 0
function counting(sql: ReadSql): ReadSql {
  return new Proxy(sql, {
    apply(target, self, parameters) {
      asked++
      return Reflect.apply(target, self, parameters)
    },
  })
}
const upTo = (last: number) => Array.from({ length: last }, (_, i) => i + 1)

async function trusted(reader: RedisReader): Promise<void> {
  const vouched = async () => {
    await reader.fresh()
    return reader.view() !== undefined
  }
  await expect.poll(vouched, { timeout: 8_000, interval: 20 }).toBe(true)
}

/** Writes and reads until `stop`: what was acknowledged before a read is in what was read. */
function checkedLoad(writers: readonly Main[], readers: readonly Handler[]) {
  let running = true
  const acknowledged = { position: 0, slowestMs: 0, reads: 0 }
  const write = async (writer: Main) => {
    while (running) {
      const begunMs = performance.now()
      const position = await writer.commit()
      acknowledged.position = Math.max(acknowledged.position, position)
      acknowledged.slowestMs = Math.max(acknowledged.slowestMs, performance.now() - begunMs)
      await sleep(5)
    }
  }
  const read = async (reader: Handler) => {
    while (running) {
      const { position } = acknowledged
      await reader.fresh()
      expect(reader.positions().account_data).toBeGreaterThanOrEqual(position)
      acknowledged.reads++
      await sleep(3)
    }
  }
  const done = Promise.all([...writers.map(write), ...readers.map(read)])
  done.catch(() => {
    running = false
  })
  return {
    acknowledged,
    async halt() {
      running = false
      await done
    },
    async stop() {
      await this.halt()
      for (const reader of readers) {
        await reader.fresh()
        expect(reader.heard).toEqual(upTo(reader.positions().account_data))
        expect(reader.positions().account_data).toBeGreaterThanOrEqual(acknowledged.position)
      }
      expect(fatal).not.toHaveBeenCalled()
    },
  }
}

describe.skipIf(!redisInstalled)('streams by way of Redis', () => {
  test('a reader knows what was acknowledged, by whichever main, and hears each row once', async () => {
    const [a, b, reader, other] = [await main('a'), await main('b'), await handler(), await handler()]
    await trusted(reader)
    const load = checkedLoad([a, b, a], [reader, other, reader])
    await sleep(1_500)
    await load.stop()
    expect(load.acknowledged.position).toBeGreaterThan(50)
    expect(a.positions()).toEqual(b.positions())
  })

  test('an answer that is fresh costs one round trip to Redis for all who wait, and no query', async () => {
    const [a, reader] = [await main('a'), await handler()]
    await trusted(reader)
    await a.commit()
    await reader.fresh()
    const [queries, commands] = [asked, await commandsRun()]
    for (let i = 0; i < 20; i++) await Promise.all(Array.from({ length: 50 }, () => reader.fresh()))
    // Beats and the look at the counter run meanwhile; without sharing it would be four thousand.
    expect((await commandsRun()) - commands).toBeLessThan(20 * 2 * 4 + 60)
    expect(asked - queries).toBe(0)
  })

  test.each([
    [
      'is killed and comes back empty',
      async () => {
        await server.kill()
        await sleep(800)
        await server.start()
      },
    ],
    ['is emptied', () => server.flush()],
    [
      'is paused',
      async () => {
        server.pause()
        await sleep(3_000)
        server.resume()
      },
    ],
  ])('while Redis %s no answer is stale, nothing is lost or doubled, and it is used again soon', async (_, fault) => {
    const [a, b, reader, other] = [await main('a'), await main('b'), await handler(), await handler()]
    await trusted(reader)
    const load = checkedLoad([a, b], [reader, other])
    await sleep(300)
    await fault()
    const backMs = performance.now()
    await trusted(reader)
    expect(performance.now() - backMs).toBeLessThan(4_000)
    await sleep(300)
    await load.stop()
    // As long as a beat is fresh, and the two seconds after which a command counts as lost.
    expect(load.acknowledged.slowestMs).toBeLessThan(5_000)
  })

  test.each(['account_data', 'typing', 'beat'])(
    'messages of %s that never arrive are read, within two seconds',
    async (lost) => {
      const reader = await handler({ loses: (text) => text.includes(`"${lost}"`) })
      const a = await main('a')
      await trusted(reader)
      const position = await a.commit(3)
      const typedAt = a.publishEphemeral('typing', [{ room_id, user_ids: [user_id] }])
      await expect.poll(() => reader.heard, { timeout: 2_000 }).toEqual(upTo(position))
      await expect
        .poll(() => reader.typed, { timeout: 2_000 })
        .toEqual([{ room_id, user_ids: [user_id], position: typedAt }])
      const load = checkedLoad([a], [reader])
      await sleep(500)
      await load.stop()
    },
  )

  test('a main that never reaches Redis is vouched for by nobody, and its writes are read from Postgres', async () => {
    const [a, reader] = [await main('a'), await handler()]
    await trusted(reader)
    // A port where nobody listens.
    const lonely = await main('lonely', 'redis://127.0.0.1:1')
    const load = checkedLoad([a, lonely], [reader])
    await expect.poll(() => reader.view(), { timeout: 5_000 }).toBeUndefined()
    await expect.poll(() => load.acknowledged.slowestMs, { timeout: 8_000 }).toBeGreaterThan(3_000)
    await load.stop()
  })

  test('a main that was killed holds nobody up once its shards are taken over', async () => {
    await main('a')
    const [b, reader] = [await main('b'), await handler()]
    await trusted(reader)
    const stored = await b.store()
    b.freeze()
    await expect.poll(() => reader.fresh().then(() => reader.view()), { timeout: 5_000 }).toBeUndefined()
    await database.sql`delete from mains where id = 'b'`
    await trusted(reader)
    expect(reader.positions().account_data).toBe(stored.position)
    expect(reader.heard).toEqual(upTo(stored.position))
  })

  test('a log that was trimmed or lost sends readers to Postgres', async () => {
    const a = await main('a')
    await a.commit(2_000)
    const reader = await handler({ loses: (text) => text.includes('"updates"') })
    await trusted(reader)
    const from = reader.positions().account_data
    await a.commit(1_300)
    await server.command('DEL {ganglion}:log:account_data')
    await reader.fresh()
    expect(reader.heard).toEqual(upTo(from + 1_300).slice(from))
  })

  test('the database went back: whoever remembers more ends, and who comes anew starts from it', async () => {
    const [a, reader] = [await main('a'), await handler()]
    await trusted(reader)
    await a.commit(10)
    await reader.fresh()
    expect(await reader.reach({ ...reader.positions(), account_data: 12 as StreamPosition })).toBe(false)
    expect(fatal).not.toHaveBeenCalled()
    a.freeze()
    await database.sql`update streams set position = 4 where name = 'account_data'`
    await database.sql`delete from account_data where position > 4`
    await database.sql`delete from mains where id = 'a'`
    const b = await main('b')
    await expect.poll(() => fatal.mock.calls.length, { timeout: 5_000 }).toBeGreaterThan(0)
    expect(String(fatal.mock.calls[0]?.[0])).toContain('restored from a backup')
    fatal.mockClear()
    const anew = await handler()
    await trusted(anew)
    const load = checkedLoad([b], [anew])
    await sleep(300)
    await load.halt()
    expect(anew.positions().account_data).toBeGreaterThan(4)
    expect(anew.heard).toEqual(upTo(anew.positions().account_data).slice(4))
  })
})

async function commandsRun(): Promise<number> {
  const stats = await server.command('INFO stats')
  return Number(/total_commands_processed:(\d+)/.exec(stats)?.[1])
}
