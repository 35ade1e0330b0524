import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import fc from 'fast-check'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { systemClock } from '../../../shared/clock.ts'
import { shardCount } from '../../../shared/commands/shards.ts'
import type { Publisher } from '../../../shared/replication/replication.ts'
import { connectForWriting, type MainSql } from '../../../shared/storage/sql.ts'
import { type TestDatabase, testDatabase } from '../../../test/support/database.ts'
import { createCommitter } from '../persist/committer.ts'
import { claimAlone, leaseTable, WritersAtWorkError } from './lease-table.ts'
import { createShardLeases, LeaseLostError } from './leases.ts'

const timing = { ttlMs: 600, beatMs: 150 } as const

let database: TestDatabase
beforeAll(async () => {
  database = await testDatabase()
  await database.sql`create table test_writes (id bigserial, shard smallint, main text, owner text, epoch bigint)`
})
afterAll(() => database.drop())

const running = new Set<TestMain>()
beforeEach(async () => {
  await database.sql`delete from mains`
  await database.sql`update shards set owner = null`
})
afterEach(() => Promise.all([...running].map((main) => main.end())))

interface TestMain {
  readonly id: string
  readonly leases: Awaited<ReturnType<typeof createShardLeases>>
  readonly fatal: Error[]
  readonly published: { prev: number; position: number }[]
  /** Holds the shard, commits, and lets go; `refused` where it is not owned here. */
  write(shard: number): Promise<'stored' | 'refused' | 'failed'>
  /** As SIGSTOP: timers and the database's answers wait until `wake`. */
  freeze(): void
  wake(): void
  /** As SIGKILL. */
  kill(): void
  end(): Promise<void>
}

async function startMain(over: { standby?: boolean } = {}): Promise<TestMain> {
  const fatal: Error[] = []
  let frozen: PromiseWithResolvers<void> | undefined
  let dead = false
  const sql = connectForWriting({ url: database.url, connections: 2, applicationName: 'test-main' })
  const thawed = async () => {
    while (frozen) await frozen.promise
    if (dead) await new Promise(() => {})
  }
  const table = leaseTable(sql)
  const icy = Object.fromEntries(
    Object.entries(table).map(([name, say]) => [
      name,
      async (...args: unknown[]) => {
        await thawed()
        const answer = await (say as (...args: unknown[]) => Promise<unknown>)(...args)
        await thawed()
        return answer
      },
    ]),
  ) as unknown as typeof table
  const leases = await createShardLeases({
    id: `main-${randomUUID().slice(0, 8)}`,
    table: icy,
    clock: systemClock,
    url: '',
    standby: over.standby ?? false,
    log: { info() {}, warn() {}, error() {} },
    onFatal: (error) => fatal.push(error),
    ...timing,
  })
  const published: { prev: number; position: number }[] = []
  const publisher: Publisher = {
    publish: (_stream, { prev, position }) => published.push({ prev, position }),
    publishEphemeral() {
      throw new Error('nothing ephemeral is published here')
    },
  }
  const committer = createCommitter({
    sql,
    publisher,
    clock: systemClock,
    writer: leases.writer.name,
    owner: leases.writer.owner,
    onFatal: (error) => fatal.push(error),
  })
  leases.start()
  const main: TestMain = {
    id: leases.id,
    leases,
    fatal,
    published,
    async write(shard) {
      let leave: (() => void) | undefined
      try {
        leave = leases.enter(shard)
      } catch {
        return 'refused'
      }
      if (!leave) return 'refused'
      try {
        await thawed()
        await committer.commit({
          invalidations: [{ cache: 'room', key: `${shard}` }],
          also: (tx) => [
            tx`insert into test_writes (shard, main, owner, epoch)
              select shard, ${leases.id}, owner, epoch from shards where shard = ${shard}`,
          ],
        })
        return 'stored'
      } catch {
        return 'failed'
      } finally {
        leave()
      }
    },
    freeze() {
      frozen ??= Promise.withResolvers()
    },
    wake() {
      frozen?.resolve()
      frozen = undefined
    },
    kill() {
      dead = true
      running.delete(main)
      void close(sql)
    },
    async end() {
      running.delete(main)
      main.wake()
      await leases.release()
      await leases.leave()
      await committer.close()
      await close(sql)
    },
  }
  running.add(main)
  return main
}

async function close(sql: MainSql): Promise<void> {
  await sql.end({ timeout: 0 })
}

async function owners(): Promise<Map<string | null, number>> {
  const rows = await database.sql<{ owner: string | null; count: number }[]>`
    select owner, count(*)::integer as count from shards group by owner`
  return new Map(rows.map((row) => [row.owner, row.count]))
}

function until(check: () => void | Promise<void>): Promise<void> {
  return vi.waitFor(check, { timeout: 8_000, interval: 20 })
}

async function untilShared(...mains: readonly { main: TestMain; shards: number }[]): Promise<void> {
  await until(async () => {
    const expected = new Map(mains.filter(({ shards }) => shards > 0).map(({ main, shards }) => [main.id, shards]))
    expect(await owners()).toEqual(expected)
    for (const { main, shards } of mains) expect(main.leases.owned).toHaveLength(shards)
  })
}

describe('shards', () => {
  test('one main takes all, a second one gets half, a third its share, and who ends leaves the others all', async () => {
    const a = await startMain()
    await untilShared({ main: a, shards: 64 })
    const b = await startMain()
    await untilShared({ main: a, shards: 32 }, { main: b, shards: 32 })
    const c = await startMain()
    await untilShared({ main: a, shards: 22 }, { main: b, shards: 22 }, { main: c, shards: 20 })
    await a.end()
    await untilShared({ main: b, shards: 32 }, { main: c, shards: 32 })
    await b.end()
    await untilShared({ main: c, shards: 64 })
    await c.end()
    expect(await owners()).toEqual(new Map([[null, 64]]))
  })

  test('a standby waits, takes over, and gives way again', async () => {
    const standby = await startMain({ standby: true })
    await untilShared({ main: standby, shards: 64 })
    const a = await startMain()
    await untilShared({ main: a, shards: 64 }, { main: standby, shards: 0 })
    a.kill()
    await untilShared({ main: standby, shards: 64 })
  })

  test('a frozen main is taken over from: it commits nothing when it wakes, and ends with the reason', async () => {
    const a = await startMain()
    const b = await startMain()
    await untilShared({ main: a, shards: 32 }, { main: b, shards: 32 })
    const shard = a.leases.owned[0] ?? 0
    expect(await a.write(shard)).toBe('stored')
    const held = a.leases.enter(shard)
    a.freeze()
    const late = a.write(shard)
    await untilShared({ main: b, shards: 64 })
    expect(await b.write(shard)).toBe('stored')
    a.wake()
    expect(await late).toBe('failed')
    held?.()
    await until(() => expect(a.fatal.length).toBeGreaterThan(0))
    expect(a.fatal.some((error) => error instanceof LeaseLostError || error.name === 'FencedError')).toBe(true)
    expect(await a.write(shard)).toBe('refused')
  })

  test('a shard is not given away while something works on it, and its next owner sees what was written', async () => {
    const a = await startMain()
    await untilShared({ main: a, shards: 64 })
    const leaves = Array.from({ length: shardCount }, (_, shard) => a.leases.enter(shard))
    const b = await startMain()
    await until(() => expect(a.leases.owned.length).toBe(32))
    expect(b.leases.owned).toEqual([])
    const leaving = Array.from({ length: shardCount }, (_, shard) => shard).filter((shard) => !a.leases.owns(shard))
    for (const shard of leaving) {
      expect(a.leases.holds(shard)).toBe(true)
      expect(a.leases.enter(shard)).toBeUndefined()
      // Work that is under way may need another shard that goes too.
      a.leases.enter(shard, true)?.()
    }
    const lost: number[] = []
    const enteredLate: number[] = []
    a.leases.onLost(async (shards) => {
      lost.push(...shards)
      // What is remembered of them is forgotten from here on: who came in now would bring it back.
      for (const turn of [1, 2]) {
        await sleep(turn)
        enteredLate.push(...shards.filter((shard) => a.leases.enter(shard, true) || a.leases.holds(shard)))
      }
    })
    for (const leave of leaves) {
      leave?.()
      // Nor in the turn in which the last one leaves.
      enteredLate.push(...leaving.filter((shard) => leaves.indexOf(leave) === shard && a.leases.enter(shard, true)))
    }
    await untilShared({ main: a, shards: 32 }, { main: b, shards: 32 })
    expect(enteredLate).toEqual([])
    expect(lost.sort((x, y) => x - y)).toEqual(leaving)
  })

  test('a lease that nobody took over goes on, after a pause without the database too', async () => {
    const a = await startMain()
    await untilShared({ main: a, shards: 64 })
    a.freeze()
    await sleep(timing.ttlMs * 1.5)
    expect(() => a.leases.enter(3)).toThrow('cannot store anything')
    a.wake()
    await until(async () => expect(await a.write(3)).toBe('stored'))
    expect(a.fatal).toEqual([])
  })
})

describe('one process alone', () => {
  test('is refused while mains live, and takes over where they are dead', async () => {
    const a = await startMain()
    await untilShared({ main: a, shards: 64 })
    await expect(claimAlone(database.sql, 'me')).rejects.toThrow(WritersAtWorkError)
    a.kill()
    const leave = await claimAlone(database.sql, 'me')
    expect(await owners()).toEqual(new Map([['main', 64]]))
    await leave()
    expect(await owners()).toEqual(new Map([[null, 64]]))
  })

  test('can commit nothing any more once a main has joined; an earlier version can not even begin', async () => {
    await claimAlone(database.sql, 'me')
    const fatal: Error[] = []
    const publisher = { publish() {}, publishEphemeral: () => 0 as never }
    const alone = (owner?: string) =>
      createCommitter({
        sql: database.sql,
        publisher,
        clock: systemClock,
        onFatal: (error) => fatal.push(error),
        ...(owner === undefined ? {} : { owner }),
      })
    const committer = alone('me')
    await committer.commit({ invalidations: [{ cache: 'room', key: 'x' }] })
    const a = await startMain()
    await untilShared({ main: a, shards: 64 })
    await expect(committer.commit({ invalidations: [{ cache: 'room', key: 'x' }] })).rejects.toThrow()
    expect(fatal.map((error) => error.name)).toEqual(['FencedError'])
    await committer.close()
    const former = alone()
    await expect(former.commit({ invalidations: [{ cache: 'room', key: 'x' }] })).rejects.toThrow()
    expect(fatal[1]?.message).toMatch(/main processes .* write this database/)
    await former.close()
  })
})

const step = fc.oneof(
  { weight: 3, arbitrary: fc.constant('join' as const) },
  { weight: 2, arbitrary: fc.constant('kill' as const) },
  { weight: 2, arbitrary: fc.constant('freeze' as const) },
  { weight: 2, arbitrary: fc.constant('wake' as const) },
  { weight: 2, arbitrary: fc.constant('end' as const) },
  { weight: 3, arbitrary: fc.constant('wait' as const) },
)

test('whoever joins, dies, freezes, wakes or ends: every write is its owner’s, and positions have no gaps', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.tuple(step, fc.nat()), { minLength: 8, maxLength: 14 }), async (steps) => {
      await database.sql`truncate test_writes`
      const mains: TestMain[] = []
      const asleep = new Set<TestMain>()
      const all: TestMain[] = []
      let stopped = false
      const pick = (n: number, from: readonly TestMain[]) => from[n % Math.max(1, from.length)]
      const load = (async () => {
        for (let n = 0; !stopped; n++) {
          // Everybody tries each shard: that is what handlers with old news do.
          await Promise.all(mains.map((main) => (asleep.has(main) ? undefined : main.write(n % shardCount))))
          await sleep(2)
        }
      })()
      for (const [what, n] of steps) {
        const main = pick(n, mains)
        if (what === 'join' && mains.length < 4) {
          const joined = await startMain({ standby: n % 5 === 0 })
          mains.push(joined)
          all.push(joined)
        } else if (what === 'kill' && main) {
          main.kill()
          mains.splice(mains.indexOf(main), 1)
          asleep.delete(main)
        } else if (what === 'freeze' && main) {
          main.freeze()
          asleep.add(main)
          void main.write(n % shardCount)
        } else if (what === 'wake' && main) {
          main.wake()
          asleep.delete(main)
        } else if (what === 'end' && main) {
          mains.splice(mains.indexOf(main), 1)
          asleep.delete(main)
          await main.end()
        } else await sleep(n % 400)
      }
      for (const main of asleep) main.wake()
      asleep.clear()
      mains.push(await startMain())
      all.push(mains[mains.length - 1]!)
      await until(async () => {
        const living = new Set(mains.filter((main) => main.fatal.length === 0).map((main) => main.id))
        for (const owner of (await owners()).keys()) expect(living).toContain(owner)
      })
      stopped = true
      await load
      const wrong = await database.sql`select * from test_writes where owner is distinct from main`
      expect(wrong).toEqual([])
      const seen = all.flatMap((main) => main.published).sort((x, y) => x.position - y.position)
      const prevs = new Set(seen.map(({ prev }) => prev))
      expect(prevs.size).toBe(seen.length)
      for (const main of [...mains]) await main.end()
    }),
    { numRuns: 3 },
  )
}, 60_000)

test('before it starts it takes nothing, whatever it hears: nobody follows yet what it gains', async () => {
  const sql = connectForWriting({ url: database.url, connections: 1, applicationName: 'test-main' })
  let moved = () => {}
  const leases = await createShardLeases({
    table: leaseTable(sql),
    clock: systemClock,
    url: '',
    standby: false,
    announcer: {
      owned() {},
      moved: async () => {},
      onMoved(look) {
        moved = look
        return () => {}
      },
    },
    log: { info() {}, warn() {}, error() {} },
    onFatal(error) {
      throw error
    },
    ...timing,
  })
  moved()
  await sleep(timing.beatMs * 2)
  expect(leases.owned).toEqual([])
  const gained: number[] = []
  leases.onGained((shards) => void gained.push(...shards))
  leases.start()
  await vi.waitFor(() => expect(gained).toHaveLength(shardCount))
  await leases.release()
  await leases.leave()
  await sql.end()
})
