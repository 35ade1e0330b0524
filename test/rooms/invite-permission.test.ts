import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { RoomId, UserId } from '../../shared/matrix/ids.ts'
import type { JsonObject } from '../../shared/matrix/json-value.ts'
import { type TestMain, testMain } from '../support/main.ts'

let main: TestMain
let alice: UserId
let users = 0
beforeAll(async () => {
  main = await testMain({ config: { server_notices: { localpart: '_notices' } } })
  alice = await main.user('alice')
})
afterAll(() => main.drop())

const stable = 'm.invite_permission_config'
const proposed = 'org.matrix.msc4155.invite_permission_config'

async function invitee(type: string, content: JsonObject): Promise<UserId> {
  const user_id = await main.user(`invitee${++users}`)
  await main.commands.setAccountData({ user_id, type, content: JSON.stringify(content) })
  return user_id
}
const room = async (options: object = {}) => (await main.commands.createRoom({ user_id: alice, ...options })).room_id
const invite = (room_id: RoomId, target: UserId) =>
  main.commands.changeMembership({ room_id, user_id: alice, target, action: 'invite' })
const blocked = expect.objectContaining({ errcode: 'M_INVITE_BLOCKED', status: 403 })

/** What the invite does to the user: undefined where the event says nothing about them. */
async function pushOf(room_id: RoomId, user_id: UserId): Promise<number | undefined> {
  const [row] = await main.database.sql<{ push: number }[]>`
    select d.push::int as push from memberships m join push_deviations d using (room_nid, position)
    join rooms r using (room_nid) where r.room_id = ${room_id} and m.user_id = ${user_id} and d.user_id = ${user_id}`
  return row?.push
}

describe('client-server-api/#invite-permission', () => {
  test.each<[string, JsonObject]>([
    [stable, { default_action: 'block' }],
    [proposed, { blocked_users: ['@alice:*'] }],
  ])('who blocks invites by %s is not invited, whichever way it is asked', async (type, content) => {
    const [room_id, target] = [await room(), await invitee(type, content)]
    await expect(invite(room_id, target)).rejects.toEqual(blocked)
    const member = { type: 'm.room.member', state_key: target, content: { membership: 'invite' } }
    await expect(main.commands.sendEvent({ room_id, user_id: alice, ...member })).rejects.toEqual(blocked)
    await expect(room({ invite: [target] })).rejects.toEqual(blocked)
    await expect(room({ initial_state: [member] })).rejects.toEqual(blocked)
    const other = { ...member, content: { membership: 'ban' } }
    await main.commands.sendEvent({ room_id, user_id: alice, ...other })
    const rooms = await main.database.sql`select from memberships where user_id = ${target} and membership = 'invite'`
    expect(rooms).toHaveLength(0)
  })

  test('what is no state invites nobody', async () => {
    const room_id = await room()
    const content = { membership: 'invite' }
    const sending = main.commands.sendEvent({ room_id, user_id: alice, type: 'm.room.member', content })
    await expect(sending).rejects.toMatchObject({ errcode: 'M_FORBIDDEN' })
  })

  test('who takes invites again gets them', async () => {
    const [room_id, target] = [await room(), await invitee(stable, { default_action: 'block' })]
    await expect(invite(room_id, target)).rejects.toEqual(blocked)
    await main.commands.setAccountData({ user_id: target, type: stable, content: '{}' })
    await invite(room_id, target)
    expect(await pushOf(room_id, target)).toBe(1)
  })

  test('an ignored sender is told nothing, and the invite notifies nobody', async () => {
    const target = await invitee(proposed, { ignored_servers: ['hs?'] })
    const room_id = await room()
    await invite(room_id, target)
    const made = await room({ invite: [target] })
    for (const id of [room_id, made]) expect(await pushOf(id, target)).toBe(0)
  })

  test('nor does an invite by a user who is ignored altogether', async () => {
    const target = await invitee('m.ignored_user_list', { ignored_users: { [alice]: {} } })
    const room_id = await room({ invite: [target] })
    expect(await pushOf(room_id, target)).toBe(0)
  })

  test("the room of the server's notices is made in spite of it", async () => {
    const user_id = await invitee(stable, { default_action: 'block' })
    const content = { msgtype: 'm.text', body: 'maintenance tonight' }
    await main.commands.sendServerNotice({ user_id, type: 'm.room.message', content, txn_id: 'n' })
    const rooms = await main.database.sql`select from memberships where user_id = ${user_id} and membership = 'invite'`
    expect(rooms).toHaveLength(1)
  })
})
