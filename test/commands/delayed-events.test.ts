/** MSC4140: events that wait while their user's shard moves from main to main. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { RoomId, UserId } from '../../shared/matrix/ids.ts'
import { type CommandMains, commandMains, type RunningMain } from '../support/command-mains.ts'

const type = 'com.example.delayed'
let mains: CommandMains
beforeAll(async () => {
  mains = await commandMains()
})
afterAll(() => mains.close())

let names = 0
async function roomOf(main: RunningMain): Promise<{ user_id: UserId; room_id: RoomId }> {
  const user_id = await mains.user(`user${++names}`)
  const { room_id } = await main.main.commands.createRoom({ user_id, preset: 'public_chat' })
  return { user_id, room_id }
}
const sent = async () =>
  (
    await mains.database.sql<{ n: number }[]>`
      select (content::json ->> 'n')::integer as n from events where type = ${type} order by position`
  ).map((row) => row.n)

async function schedule(main: RunningMain, delays: readonly number[]): Promise<void> {
  await mains.database.sql`update events set type = 'before' where type = ${type}`
  for (const [n, delay_ms] of delays.entries()) {
    const at = await roomOf(main)
    await main.main.commands.scheduleDelayedEvent({ ...at, type, content: { n }, delay_ms })
  }
}

test('a main that starts alone goes on with all that wait, whenever they are due', async () => {
  const first = await mains.start()
  await mains.settled(first)
  await schedule(first, [600, 1_800, 2_600])
  await first.stop()
  const second = await mains.start()
  await expect.poll(sent, { timeout: 15_000, interval: 20 }).toEqual([0, 1, 2])
  await second.stop()
})

test.each(['stop', 'freeze'] as const)('whose main is gone in the middle (%s), each is sent once', async (end) => {
  const first = await mains.start()
  const second = await mains.start()
  await mains.settled(first, second)
  await schedule(first, [500, 700, 900, 1_100, 1_300, 1_500, 1_700, 1_900, 2_100, 2_300, 2_500, 2_700])
  await expect.poll(async () => (await sent()).length, { timeout: 5_000, interval: 10 }).toBeGreaterThan(2)
  await first[end]()
  await expect.poll(async () => (await sent()).length, { timeout: 15_000, interval: 20 }).toBe(12)
  await mains.settled(second)
  expect((await sent()).toSorted((a, b) => a - b)).toEqual(Array.from({ length: 12 }, (_, n) => n))
  const rows = await mains.database.sql`select from delayed_events where event_id is null or error is not null`
  expect(rows).toHaveLength(0)
  await first.stop()
  await second.stop()
})
