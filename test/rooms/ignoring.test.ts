import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { RoomId, UserId } from '../../shared/matrix/ids.ts'
import { type TestMain, testMain } from '../support/main.ts'

let main: TestMain
let alice: UserId
let bob: UserId
let room_id: RoomId

beforeAll(async () => {
  main = await testMain()
  alice = await main.user('alice')
  bob = await main.user('bob')
  ;({ room_id } = await main.commands.createRoom({ user_id: alice, preset: 'public_chat' }))
  await main.commands.changeMembership({ room_id, user_id: bob, target: bob, action: 'join' })
})
afterAll(() => main.drop())

async function ignore(on: TestMain, users: readonly UserId[]): Promise<void> {
  const content = JSON.stringify({ ignored_users: Object.fromEntries(users.map((user) => [user, {}])) })
  await on.commands.setAccountData({ user_id: alice, type: 'm.ignored_user_list', content })
}

/** What a message of Bob's, naming Alice, does to her: 0 nothing, 1 notifies, 3 highlights. */
async function pushForAlice(on: TestMain): Promise<number> {
  const content = { msgtype: 'm.text', body: 'hello', 'm.mentions': { user_ids: [alice] } }
  const { event_id } = await on.commands.sendEvent({ room_id, user_id: bob, type: 'm.room.message', content })
  const [row] = await on.database.sql<{ push: number }[]>`
    select coalesce(d.push, e.push)::int as push from events e
    left join push_deviations d on d.room_nid = e.room_nid and d.position = e.position and d.user_id = ${alice}
    where e.event_id = ${event_id}`
  return row?.push ?? -1
}

describe('client-server-api/#ignoring-users', () => {
  test('an ignored sender notifies nobody who ignores them, from the next event on and after a restart', async () => {
    expect(await pushForAlice(main)).toBe(3)
    await ignore(main, [bob])
    expect(await pushForAlice(main)).toBe(0)
    await main.close()
    main = await main.restarted()
    expect(await pushForAlice(main)).toBe(0)
    await ignore(main, [])
    expect(await pushForAlice(main)).toBe(3)
  })
})
