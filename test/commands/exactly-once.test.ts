/** Commands whose connection is cut at any byte of request or answer, whose main froze, or whose shard moved: one effect, and
 *  the answer of it. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { MainClient } from '../../shared/commands/registry.ts'
import { shardCount } from '../../shared/commands/shards.ts'
import type { RoomId, UserId } from '../../shared/matrix/ids.ts'
import { type CommandMains, commandMains, type RunningMain } from '../support/command-mains.ts'
import {
  type CommandName,
  commandScenarios,
  rowCounts,
  type Scenarios,
  scenarioConfig,
} from '../support/command-scenarios.ts'

let mains: CommandMains
beforeAll(async () => {
  mains = await commandMains()
})
afterAll(() => mains.close())

async function counts(): Promise<Record<string, number>> {
  return rowCounts(mains.database.sql)
}
function difference(before: Record<string, number>, after: Record<string, number>): Record<string, number> {
  return Object.fromEntries(Object.entries(after).map(([name, n]) => [name, n - (before[name] ?? 0)]))
}

describe('a connection that is cut', () => {
  let one: RunningMain
  let scenarios: Scenarios
  beforeAll(async () => {
    one = await mains.start({ config: scenarioConfig })
    await mains.settled(one)
    scenarios = commandScenarios(one.main.commands, mains.signingKey)
  })
  afterAll(() => one.stop())

  const cases: CommandName[] = [
    'sendEvent',
    'createRoom',
    'changeMembership',
    'upgradeRoom',
    'register',
    'login',
    'createAlias',
    'deleteAlias',
    'deletePushRule',
    'authenticateInteractively',
    'setProfileField',
    'sendReceipts',
    'uploadKeys',
    'claimKeys',
    'uploadSignatures',
  ]
  test.each(cases)('%s', async (name) => {
    const send = async (main: MainClient, request: unknown) =>
      (main[name] as (request: unknown) => Promise<unknown>)(request)
    const { main, sent } = mains.client()
    await main.deviceSeen(await scenarios.deviceSeen())
    // Once undisturbed, on a connection that is open: what it does, and how many bytes it takes.
    const example = await scenarios[name]()
    const before = await counts()
    const bytes = one.proxy.bytes
    await send(main, example)
    const effect = difference(before, await counts())
    const length = one.proxy.bytes - bytes
    expect(length).toBeGreaterThan(100)
    const steps = 8
    for (let step = 0; step <= steps; step++) {
      const request = await scenarios[name]()
      const start = await counts()
      const { cuts } = one.proxy
      one.proxy.cutAfter(Math.floor(((length - 4) * step) / steps))
      await send(main, request)
      expect(one.proxy.cuts).toBe(cuts + 1)
      expect(difference(start, await counts()), `cut at ${step}/${steps}`).toEqual(effect)
      expect(sent.at(-1)).toMatchObject({ name, outcome: 'ok', attempts: 2 })
    }
  })

  test('the answer of the second sending is that of the first', async () => {
    const { main } = mains.client()
    const request = await scenarios.createRoom()
    const bytes = one.proxy.bytes
    await main.createRoom(await scenarios.createRoom())
    one.proxy.cutAfter(one.proxy.bytes - bytes - 5)
    const { room_id } = await main.createRoom(request)
    const rooms = await mains.database.sql<{ room_id: RoomId }[]>`
      select room_id from rooms where creator = ${request.user_id}`
    expect(rooms.map((row) => row.room_id)).toEqual([room_id])
  })
})

describe('shards that move', () => {
  /** Sends to many rooms all the while, each message with text of its own; gives what was answered. */
  function load(main: MainClient, rooms: readonly { room_id: RoomId; user_id: UserId }[]) {
    let going = true
    const answered = new Map<string, string>()
    const failed: unknown[] = []
    const senders = rooms.map(async ({ room_id, user_id }, sender) => {
      for (let i = 0; going; i++) {
        const body = `${sender}.${i}`
        try {
          // State without a transaction id: nothing but the command's key tells a repetition.
          const content = { body }
          const { event_id } =
            i % 2 === 0
              ? await main.sendEvent({ room_id, user_id, type: 'x.state', state_key: body, content })
              : await main.sendEvent({ room_id, user_id, txn_id: body, type: 'x.message', content })
          answered.set(body, event_id)
        } catch (error) {
          failed.push(error)
        }
      }
    })
    return {
      answered,
      failed,
      async end() {
        going = false
        await Promise.all(senders)
      },
    }
  }

  /** What was sent is stored once, under the id that was answered, and nothing else is. */
  async function check(answered: ReadonlyMap<string, string>): Promise<void> {
    const rows = await mains.database.sql<{ event_id: string; content: string }[]>`
      select event_id, content from events where type in ('x.state', 'x.message') and position is not null`
    const stored = new Map<string, string[]>()
    for (const { event_id, content } of rows) {
      const { body } = JSON.parse(content) as { body: string }
      stored.set(body, [...(stored.get(body) ?? []), event_id])
    }
    for (const [body, event_id] of answered) expect(stored.get(body), body).toEqual([event_id])
    expect(stored.size).toBe(answered.size)
    const [gaps] = await mains.database.sql<{ gaps: number }[]>`
      select (max(position) - min(position) + 1 - count(*))::integer as gaps from events where position is not null`
    expect(gaps?.gaps).toBe(0)
  }

  async function manyRooms(main: MainClient, name: string) {
    const user_id = await mains.user(name)
    return Promise.all(
      Array.from({ length: 12 }, async () => ({
        user_id,
        ...(await main.createRoom({ user_id, preset: 'public_chat' })),
      })),
    )
  }

  test('mains come and go in good order: no command fails, none is done twice', async () => {
    const first = await mains.start()
    await mains.settled(first)
    const { main } = mains.client()
    const rooms = await manyRooms(main, 'rolling')
    const work = load(main, rooms)
    const second = await mains.start()
    await mains.settled(first, second)
    expect(first.leases.owned.length).toBe(shardCount / 2)
    await first.stop()
    await mains.settled(second)
    const third = await mains.start()
    await mains.settled(second, third)
    await third.stop()
    await work.end()
    expect(work.failed).toEqual([])
    expect(work.answered.size).toBeGreaterThan(50)
    await check(work.answered)
    await second.stop()
  })

  test('a main that froze and wakes up: its shards go on elsewhere, and what it still writes is refused', async () => {
    await mains.database.sql`truncate idempotency`
    await mains.database.sql`update events set type = 'y.before' where type in ('x.state', 'x.message')`
    const frozen = await mains.start()
    const standby = await mains.start()
    await mains.settled(frozen, standby)
    const { main } = mains.client()
    const rooms = await manyRooms(main, 'frozen')
    const work = load(main, rooms)
    await expect.poll(() => work.answered.size).toBeGreaterThan(30)
    frozen.freeze()
    await mains.settled(standby)
    const { size } = work.answered
    await expect.poll(() => work.answered.size, { timeout: 10_000 }).toBeGreaterThan(size + 30)
    await work.end()
    expect(work.failed).toEqual([])
    await check(work.answered)
    await standby.stop()
  })

  test('a handler whose secret is wrong is told apart from a main that is away', async () => {
    const only = await mains.start()
    await mains.settled(only)
    const { main } = mains.client({ secret: 'wrong', timeoutMs: 2_000 })
    await expect(main.createLoginToken({ user_id: await mains.user('nobody') })).rejects.toThrow('secret, status 401')
    await only.stop()
  })
})

test('too much for one room is refused at once, and no more of it is done than was answered', async () => {
  const one = await mains.start({ config: { commands: { queue_per_room: 5 } } })
  await mains.settled(one)
  const { main } = mains.client()
  const user_id = await mains.user('flood')
  const { room_id } = await main.createRoom({ user_id, preset: 'public_chat' })
  const content = { body: 'flood' }
  const sends = Array.from({ length: 200 }, () => main.sendEvent({ room_id, user_id, type: 'x.flood', content }))
  const answers = await Promise.allSettled(sends)
  const refused = answers.filter((answer) => answer.status === 'rejected').map((answer) => answer.reason as unknown)
  expect(refused.length).toBeGreaterThan(100)
  for (const error of refused) {
    expect(error).toMatchObject({ errcode: 'M_LIMIT_EXCEEDED', status: 429, extra: { retry_after_ms: 1_000 } })
  }
  const stored = await mains.database.sql`select from events where type = 'x.flood'`
  expect(stored.length).toBe(answers.length - refused.length)
  await one.stop()
})

test('what crosses shards is carried out by their owners', async () => {
  const [one, two] = [await mains.start(), await mains.start()]
  await mains.settled(one, two)
  const { main } = mains.client()
  const { sql } = mains.database
  const user = await mains.user('everywhere')
  const rooms = await Promise.all(
    Array.from({ length: 8 }, () => main.createRoom({ user_id: user, preset: 'public_chat' })),
  )
  await main.setProfileField({ user_id: user, field: 'displayname', value: '"Everywhere"' })
  const names = await sql<{ display_name: string }[]>`
    select display_name from memberships where user_id = ${user} and membership = 'join'`
  expect(names.map((row) => row.display_name)).toEqual(rooms.map(() => 'Everywhere'))
  await main.deactivateAccount({ user_id: user, erase: false })
  const left = await sql`select from memberships where user_id = ${user} and membership = 'leave'`
  expect(left.length).toBe(rooms.length)
  await one.stop()
  await two.stop()
})
