import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { fakeClock } from '../../../shared/clock.ts'
import { type TestDatabase, testDatabase } from '../../../test/support/database.ts'
import { createDelayedSends, type DelayedSends } from './delayed-sends.ts'

let database: TestDatabase
let clock: ReturnType<typeof fakeClock>
let sends: DelayedSends
let sent: string[]
let errors: unknown[]
/** What becomes of one that is sent; by default it is not scheduled any more. */
let outcome: (id: string) => Promise<void>

beforeAll(async () => {
  database = await testDatabase()
})
afterAll(() => database.drop())
beforeEach(async () => {
  await database.sql`truncate delayed_events`
  clock = fakeClock()
  sent = []
  errors = []
  outcome = finalise
  sends = createDelayedSends({
    sql: database.sql,
    clock,
    async send({ delay_id }) {
      sent.push(delay_id)
      await outcome(delay_id)
      return {}
    },
    onError: (error) => errors.push(error),
  })
  sends.gained([0])
})
afterEach(() => sends.close())

async function finalise(id: string): Promise<void> {
  await database.sql`update delayed_events set finalised_ts = ${clock.now()} where delay_id = ${id}`
}
async function add(id: string, delayMs: number, { room = '!r:x', shard = 0 } = {}): Promise<void> {
  const at = clock.now() + delayMs
  await database.sql`
    insert into delayed_events (delay_id, shard, user_id, room_id, type, content, delay_ms, scheduled_ts, send_ts)
    values (${id}, ${shard}, '@a:x', ${room}, 't', '{}', ${delayMs}, ${clock.now()}, ${at})`
}
/** Added, and told of. */
async function schedule(id: string, delayMs: number): Promise<void> {
  await add(id, delayMs)
  sends.dueAt(clock.now() + delayMs)
}
const soon = <T>(read: () => T) => expect.poll(read, { timeout: 5_000, interval: 5 })
/** Until what was asked of the database is answered. */
async function settled(): Promise<void> {
  for (let i = 0; i < 3; i++) await database.sql`select 1`
  await new Promise((resolve) => setImmediate(resolve))
}

test('the timer is on the next, whichever was scheduled first', async () => {
  await schedule('later', 2_000)
  await schedule('sooner', 1_000)
  clock.advance(999)
  await settled()
  expect(sent).toEqual([])
  clock.advance(1)
  await soon(() => sent).toEqual(['sooner'])
  await settled()
  clock.advance(1_000)
  await soon(() => sent).toEqual(['sooner', 'later'])
})

test('what is further off than a timer reaches is not forgotten', async () => {
  const days = 30 * 86_400_000
  await schedule('far', days)
  for (let hours = 0; hours < 30 * 24 - 1; hours++) {
    clock.advance(3_600_000)
    if (hours % 100 === 0) await settled()
  }
  await settled()
  expect(sent).toEqual([])
  await soon(() => {
    clock.advance(3_600_000)
    return sent
  }).toEqual(['far'])
})

test('those of users of other processes are left to them, until they come here', async () => {
  await add('mine', 100, { shard: 2 })
  await add('theirs', 50, { shard: 3 })
  clock.advance(100)
  sends.gained([1, 2])
  await soon(() => sent).toEqual(['mine'])
  await settled()
  sends.gained([3])
  await soon(() => sent).toEqual(['mine', 'theirs'])
  sends.lost([0, 1, 2, 3])
  await add('nobodys', 0, { shard: 3 })
  sends.dueAt(clock.now())
  await settled()
  expect(sent).toEqual(['mine', 'theirs'])
})

test('those of one room go one after the other, in the order in which they are due', async () => {
  const gates = new Map<string, () => void>()
  outcome = async (id) => {
    await new Promise<void>((resolve) => gates.set(id, resolve))
    await finalise(id)
  }
  await add('third', 30)
  await add('first', 10)
  await add('second', 20)
  await add('elsewhere', 25, { room: '!other:x' })
  clock.advance(30)
  sends.gained([0])
  await soon(() => sent.toSorted()).toEqual(['elsewhere', 'first'])
  for (const [id, then] of [
    ['first', 'second'],
    ['second', 'third'],
  ] as const) {
    gates.get(id)?.()
    await soon(() => sent.at(-1)).toBe(then)
  }
  gates.get('third')?.()
  gates.get('elsewhere')?.()
  await settled()
  expect(sent).toHaveLength(4)
})

test('what fails is tried again a second later, and holds up no other room', async () => {
  let failures = 2
  outcome = async (id) => {
    if (id === 'bad' && failures-- > 0) throw new Error('away')
    await finalise(id)
  }
  await add('bad', 10, { room: '!bad:x' })
  await add('good', 10)
  clock.advance(10)
  sends.gained([0])
  await soon(() => sent.toSorted()).toEqual(['bad', 'good'])
  await settled()
  for (let i = 2; i <= 3; i++) {
    expect(sent.filter((id) => id === 'bad')).toHaveLength(i - 1)
    clock.advance(1_000)
    await soon(() => sent.filter((id) => id === 'bad')).toHaveLength(i)
    await settled()
  }
  expect(errors).toHaveLength(2)
  clock.advance(10_000)
  await settled()
  expect(sent).toHaveLength(4)
})

test('however many are due, so many are sent at a time', async () => {
  let under = 0
  let most = 0
  outcome = async (id) => {
    most = Math.max(most, ++under)
    await finalise(id)
    under--
  }
  await database.sql`
    insert into delayed_events (delay_id, shard, user_id, room_id, type, content, delay_ms, scheduled_ts, send_ts)
    select 'd' || i, 0, '@a:x', '!' || i || ':x', 't', '{}', 1, 1, i from generate_series(1, 1000) i`
  sends.gained([0])
  await soon(() => sent.length).toBe(1000)
  await settled()
  expect(new Set(sent).size).toBe(1000)
  expect(most).toBeGreaterThan(10)
  expect(most).toBeLessThanOrEqual(128)
})

test('closed, it begins nothing more', async () => {
  await schedule('never', 100)
  await sends.close()
  clock.advance(1_000)
  sends.gained([0])
  sends.dueAt(clock.now())
  await settled()
  expect(sent).toEqual([])
})
