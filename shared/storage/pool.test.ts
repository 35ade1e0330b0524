/** Against a real PostgreSQL, behind a gate that can be frozen. */
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type TestDatabase, testDatabase } from '../../test/support/database.ts'
import { type Gate, openGate } from '../../test/support/gate.ts'
import { isDatabaseAway } from './database-away.ts'
import { connectForReading } from './sql.ts'

let database: TestDatabase
let gate: Gate
beforeAll(async () => {
  database = await testDatabase()
  gate = await openGate(database.url)
})
afterAll(async () => {
  gate?.close()
  await database?.drop()
})

test('connections that are ended under load leave no query open, and none of them is spoilt', async () => {
  const victim = connectForReading({ url: database.url, connections: 4, applicationName: 'pool-test-victim' })
  const open = new Set<Promise<unknown>>()
  const strange: unknown[] = []
  let answered = 0
  const ask = () => {
    const asked = victim`select ${1}::int`.then(
      () => answered++,
      (error: unknown) => isDatabaseAway(error) || strange.push(error),
    )
    open.add(asked)
    asked.finally(() => open.delete(asked))
  }
  // In all phases of the event loop: what is asked between a socket's end and its close is what the driver forgets.
  let running = true
  const load = () => {
    if (!running) return
    ask()
    setImmediate(() => {
      ask()
      setTimeout(load, 0)
    })
  }
  load()
  for (let i = 0; i < 30; i++) {
    await sleep(20)
    await database.sql`select pg_terminate_backend(pid) from pg_stat_activity
      where application_name = 'pool-test-victim'`
  }
  running = false
  // At worst, one waits for the driver's connection time-out.
  await expect.poll(() => open.size, { timeout: 10_000 }).toBe(0)
  expect(strange).toEqual([])
  expect(answered).toBeGreaterThan(0)
  await Promise.all(Array.from({ length: 16 }, () => victim`select 1`))
  await victim.end()
})

test('a server that says nothing fails its queries in time, and the next ones find it again', async () => {
  const pool = connectForReading({ url: gate.url, connections: 2, applicationName: 'pool-test', answerMs: 400 })
  await Promise.all([pool`select 1`, pool`select 2`])
  gate.frozen = true
  const beganMs = performance.now()
  const asked = await Promise.allSettled(Array.from({ length: 6 }, () => pool`select ${1}::int`))
  expect(performance.now() - beganMs).toBeLessThan(1_500)
  for (const outcome of asked) expect(outcome.status === 'rejected' && isDatabaseAway(outcome.reason)).toBe(true)
  // Also those that have to connect first.
  await expect(pool`select 3`).rejects.toSatisfy(isDatabaseAway)
  gate.frozen = false
  await expect.poll(() => pool`select 4 as n`.then(([row]) => row?.n, String), { timeout: 2_000 }).toBe(4)
  await pool.end({ timeout: 1 })
})

test('a query that is merely slow does not take others with it', async () => {
  const pool = connectForReading({ url: database.url, connections: 2, applicationName: 'pool-test', answerMs: 400 })
  const slow = pool`select pg_sleep(3)`
  slow.catch(() => undefined)
  for (let i = 0; i < 20; i++) {
    await pool`select 1`
    await sleep(30)
  }
  await expect(slow).rejects.toSatisfy(isDatabaseAway)
  await pool.end({ timeout: 1 })
})

test('a server whose socket is gone is away; a file that is missing is not', async () => {
  const gone = connectForReading({
    url: 'postgres://nobody@localhost/none?host=/nowhere/at/all',
    connections: 1,
    applicationName: 'pool-test-gone',
  })
  await expect(gone`select 1`).rejects.toSatisfy(isDatabaseAway)
  await gone.end({ timeout: 0 })
  const missing = Object.assign(new Error('open'), { code: 'ENOENT', syscall: 'open' })
  expect(isDatabaseAway(missing)).toBe(false)
})
