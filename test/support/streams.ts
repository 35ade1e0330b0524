/** Mains and handlers on a real Redis and a real database, with nothing but streams: rows of account data are committed and
 *  published as main does it. */
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, vi } from 'vitest'
import { systemClock } from '../../shared/clock.ts'
import type { RoomId, UserId } from '../../shared/matrix/ids.ts'
import { openRedis, type RedisConnection } from '../../shared/redis/connection.ts'
import { type Keyspace, keyspace } from '../../shared/redis/keys.ts'
import {
  createRedisReplication,
  type RedisReader,
  type RedisWriter,
} from '../../shared/replication/redis-replication.ts'
import type { ReadSql } from '../../shared/storage/sql.ts'
import type { AccountDataRow } from '../../shared/streams/account-data.ts'
import type { StreamPosition } from '../../shared/streams/define.ts'
import type { TypingRow } from '../../shared/streams/typing.ts'
import { type TestDatabase, testDatabase } from './database.ts'
import { openGate } from './gate.ts'
import { type RedisServer, startRedis } from './redis.ts'

const user_id = '@alice:hs' as UserId
export const someone = user_id
export const somewhere = '!room:hs' as RoomId

export interface StreamMain extends RedisWriter {
  readonly redis: RedisConnection
  /** Commits rows, publishes them, and waits until that may be acknowledged; returns the position. */
  commit(rows?: number): Promise<StreamPosition>
  /** The same without the publication. */
  store(rows?: number): Promise<{ prev: StreamPosition; position: StreamPosition; rows: AccountDataRow[] }>
  /** Its connections to Redis stand and carry nothing any more. */
  freeze(): void
}

export interface StreamHandler extends RedisReader {
  /** Positions of account data, and rows of typing, as they were heard. */
  readonly heard: number[]
  readonly typed: TypingRow[]
  /** Queries that it asked. */
  queries(): number
  freeze(): void
  /** Cuts its connections, and lets new ones work. */
  thaw(): void
}

export interface StreamFixture {
  readonly database: TestDatabase
  readonly server: RedisServer
  /** Of the current test. */
  readonly keys: Keyspace
  /** Reasons for which a process would have ended. */
  readonly fatal: ReturnType<typeof vi.fn>
  /** Where account data stood when the test began. */
  readonly base: number
  /** Positions after `base`, up to this one. */
  upTo(position: number): number[]
  main(mainId: string, url?: string): Promise<StreamMain>
  /** `loses` says which messages never reach it. */
  handler(options?: { loses?: (text: string) => boolean }): Promise<StreamHandler>
  /** Writes and reads until `stop`: what was acknowledged before a read is in what was read, whatever happens meanwhile. */
  load(writers: readonly StreamMain[], readers: readonly StreamHandler[]): CheckedLoad
  /** Before each test: nothing is in Redis under its names, and no main is known. */
  begin(): Promise<void>
  /** After each test. */
  end(): Promise<void>
  close(): Promise<void>
}

export interface CheckedLoad {
  readonly acknowledged: { position: number; slowestMs: number; reads: number }
  halt(): Promise<void>
  /** Also checks that every reader heard each row once, in order. */
  stop(): Promise<void>
}

/** Waits until every main vouches for what Redis says. */
export async function trusted(reader: RedisReader): Promise<void> {
  const vouched = async () => {
    await reader.fresh()
    return reader.view() !== undefined
  }
  await expect.poll(vouched, { timeout: 8_000, interval: 20 }).toBe(true)
}

export async function streamFixture(): Promise<StreamFixture> {
  const [database, server] = await Promise.all([testDatabase(), startRedis()])
  const log = { warn: vi.fn(), info: vi.fn() }
  const fatal = vi.fn()
  let undo: (() => Promise<unknown>)[] = []
  let keys = keyspace('none')
  let base = 0
  let tests = 0

  async function main(mainId: string, url = server.url): Promise<StreamMain> {
    const gate = await openGate(url)
    const redis = openRedis({ url: gate.url, log })
    await database.sql`insert into mains (id, url, standby, alone, expires_at)
      values (${mainId}, 'x', false, false, now() + interval '1 hour')`
    const { sql } = database
    const options = { redis, keys, sql: sql as unknown as ReadSql, clock: systemClock, log, onFatal: fatal }
    const replication = await createRedisReplication({ ...options, writer: { mainId } })
    undo.push(async () => {
      gate.cut()
      await replication.close()
      await redis.close()
      gate.cut()
      gate.close()
    })
    async function store(count = 1) {
      let position = 0
      await database.transaction(async (tx) => {
        const [moved] = await tx<{ position: number }[]>`
          update streams set position = position + ${count} where name = 'account_data' returning position`
        position = moved?.position ?? 0
        await tx`insert into account_data (user_id, room_nid, type, content, position)
          select ${user_id}, 0, 't' || at, '{}', at
          from generate_series(${position - count + 1}::bigint, ${position}::bigint) at`
      })
      const rows = Array.from({ length: count }, (_, i): AccountDataRow => {
        const at = (position - count + 1 + i) as StreamPosition
        return { position: at, user_id, room_nid: 0, type: `t${at}`, content: '{}' }
      })
      return { prev: (position - count) as StreamPosition, position: position as StreamPosition, rows }
    }
    return {
      ...replication,
      redis,
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

  async function handler(options: { loses?: (text: string) => boolean } = {}): Promise<StreamHandler> {
    const gate = await openGate(server.url)
    const connection = openRedis({ url: gate.url, log })
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
    let queries = 0
    const sql = new Proxy(database.read, {
      apply(target, self, parameters) {
        queries++
        return Reflect.apply(target, self, parameters)
      },
    })
    const replication = await createRedisReplication({ redis, keys, sql, clock: systemClock, log, onFatal: fatal })
    undo.push(async () => {
      gate.cut()
      await replication.close()
      await connection.close()
      gate.close()
    })
    const heard: number[] = []
    const typed: TypingRow[] = []
    replication.subscribe('account_data', ({ rows }) => heard.push(...rows.map((row) => row.position)))
    replication.subscribe('typing', ({ rows }) => typed.push(...rows))
    return {
      ...replication,
      heard,
      typed,
      queries: () => queries,
      freeze() {
        gate.frozen = true
      },
      thaw() {
        gate.frozen = false
        gate.cut()
      },
    }
  }

  const fixture: StreamFixture = {
    database,
    server,
    fatal,
    get keys() {
      return keys
    },
    get base() {
      return base
    },
    upTo: (position) => Array.from({ length: position - base }, (_, i) => base + i + 1),
    main,
    handler,
    load: (writers, readers) => checkedLoad(fixture, writers, readers),
    async begin() {
      tests++
      keys = keyspace(`test${tests}`)
      fatal.mockClear()
      await database.sql`delete from mains`
      const [at] = await database.sql<{ position: number }[]>`
        select position from streams where name = 'account_data'`
      base = at?.position ?? 0
    },
    async end() {
      server.resume()
      const steps = undo
      undo = []
      await Promise.all(steps.map((step) => step()))
    },
    async close() {
      await Promise.all([database.drop(), server.stop()])
    },
  }
  return fixture
}

function checkedLoad(
  fixture: StreamFixture,
  writers: readonly StreamMain[],
  readers: readonly StreamHandler[],
): CheckedLoad {
  let running = true
  const acknowledged = { position: 0, slowestMs: 0, reads: 0 }
  const write = async (writer: StreamMain) => {
    while (running) {
      const begunMs = performance.now()
      const position = await writer.commit()
      acknowledged.position = Math.max(acknowledged.position, position)
      acknowledged.slowestMs = Math.max(acknowledged.slowestMs, performance.now() - begunMs)
      await sleep(5)
    }
  }
  const read = async (reader: StreamHandler) => {
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
        expect(reader.heard).toEqual(fixture.upTo(reader.positions().account_data))
        expect(reader.positions().account_data).toBeGreaterThanOrEqual(acknowledged.position)
      }
      expect(fixture.fatal).not.toHaveBeenCalled()
    },
  }
}
