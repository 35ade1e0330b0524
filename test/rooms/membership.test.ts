import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { RoomId, UserId } from '../../shared/matrix/ids.ts'
import { type TestMain, testMain } from '../support/main.ts'

let main: TestMain
let alice: UserId
let bob: UserId
let carol: UserId
beforeAll(async () => {
  main = await testMain()
  ;[alice, bob, carol] = await Promise.all([main.user('alice', 'Alice'), main.user('bob', 'Bob'), main.user('carol')])
})
afterAll(() => main.drop())

type Action = Parameters<TestMain['commands']['changeMembership']>[0]['action']
const act = (room_id: RoomId, user_id: UserId, action: Action, target = user_id, more: object = {}) =>
  main.commands.changeMembership({ room_id, user_id, target, action, ...more })
const room = async (options: object = {}) => (await main.commands.createRoom({ user_id: alice, ...options })).room_id
const forbidden = expect.objectContaining({ errcode: 'M_FORBIDDEN', status: 403 })
const memberOf = async (room_id: RoomId, user_id: UserId) => {
  const [row] = await main.database.sql<{ membership: string; content: string; forgotten: boolean }[]>`
    select m.membership, m.forgotten, e.content from memberships m join rooms r using (room_nid)
    join events e on e.event_nid = m.event_nid where r.room_id = ${room_id} and m.user_id = ${user_id}`
  return row && { membership: row.membership, forgotten: row.forgotten, content: JSON.parse(row.content) }
}

describe('client-server-api/#room-membership', () => {
  test('a public room: join, with the profile and the content asked for; twice is once', async () => {
    const room_id = await room({ preset: 'public_chat' })
    const one = await act(room_id, bob, 'join', bob, { content: { foo: 'bar', membership: 'ban' }, reason: 'why' })
    expect((await memberOf(room_id, bob))?.content).toEqual({
      membership: 'join',
      displayname: 'Bob',
      foo: 'bar',
      reason: 'why',
    })
    expect(await act(room_id, bob, 'join')).toEqual(one)
  })

  test('an invited user joins, an uninvited one does not', async () => {
    const room_id = await room()
    await expect(act(room_id, bob, 'join')).rejects.toEqual(forbidden)
    await act(room_id, alice, 'invite', bob)
    await act(room_id, bob, 'join')
    await expect(act(room_id, alice, 'invite', bob)).rejects.toEqual(forbidden)
    await expect(act(room_id, alice, 'invite', alice)).rejects.toEqual(forbidden)
  })

  test('an invite can be rejected, also when everybody else has left', async () => {
    const room_id = await room()
    await act(room_id, alice, 'invite', bob)
    await act(room_id, alice, 'leave')
    await act(room_id, bob, 'leave')
    expect((await memberOf(room_id, bob))?.membership).toBe('leave')
  })

  test('the banned stay out until they are unbanned', async () => {
    const room_id = await room({ preset: 'public_chat' })
    await act(room_id, bob, 'join')
    await expect(act(room_id, bob, 'ban', alice)).rejects.toEqual(forbidden)
    await act(room_id, alice, 'ban', bob, { reason: 'testing' })
    await expect(act(room_id, bob, 'join')).rejects.toEqual(forbidden)
    await expect(act(room_id, alice, 'kick', bob)).rejects.toEqual(forbidden)
    await act(room_id, alice, 'unban', bob)
    await act(room_id, bob, 'join')
    await expect(act(room_id, alice, 'unban', bob)).rejects.toEqual(forbidden)
  })

  test.each(['never joined', 'left'])('who %s cannot be kicked', async (how) => {
    const room_id = await room({ preset: 'public_chat' })
    if (how === 'left') {
      await act(room_id, bob, 'join')
      await act(room_id, bob, 'leave')
    }
    await expect(act(room_id, alice, 'kick', bob)).rejects.toEqual(forbidden)
  })

  test('knocking: only where the join rule says so; kicked, repeated, accepted', async () => {
    const room_id = await room({ preset: 'private_chat' })
    await expect(act(room_id, bob, 'knock')).rejects.toEqual(forbidden)
    await main.commands.sendEvent({
      room_id,
      user_id: alice,
      type: 'm.room.join_rules',
      state_key: '',
      content: { join_rule: 'knock' },
    })
    await act(room_id, bob, 'knock', bob, { reason: 'hello' })
    await act(room_id, bob, 'leave')
    await act(room_id, bob, 'knock')
    await act(room_id, alice, 'kick', bob)
    await act(room_id, bob, 'knock')
    await act(room_id, alice, 'invite', bob)
    await expect(act(room_id, bob, 'knock')).rejects.toEqual(forbidden)
    await act(room_id, bob, 'join')
    await expect(act(room_id, bob, 'knock')).rejects.toEqual(forbidden)
  })

  test('an unknown room is not found', async () => {
    await expect(act('!nowhere:hs1' as RoomId, bob, 'join')).rejects.toMatchObject({ errcode: 'M_NOT_FOUND' })
    await expect(act('!nowhere:other.invalid' as RoomId, bob, 'join')).rejects.toMatchObject({ status: 502 })
  })

  test('guests join where guest_access lets them', async () => {
    const open = await room({ preset: 'public_chat', initial_state: [guestAccess('can_join')] })
    const closed = await room({ preset: 'public_chat' })
    await act(open, carol, 'join', carol, { guest: true })
    await expect(act(closed, carol, 'join', carol, { guest: true })).rejects.toMatchObject({
      errcode: 'M_GUEST_ACCESS_FORBIDDEN',
    })
    const byState = { type: 'm.room.member', state_key: carol, content: { membership: 'join' } }
    await expect(
      main.commands.sendEvent({ room_id: closed, user_id: carol, guest: true, ...byState }),
    ).rejects.toMatchObject({ errcode: 'M_GUEST_ACCESS_FORBIDDEN' })
  })

  test('guests leave when the room no longer takes them', async () => {
    const guest = await main.user('guest')
    await main.database.sql`update users set kind = 'guest' where user_id = ${guest}`
    const room_id = await room({ preset: 'public_chat', initial_state: [guestAccess('can_join')] })
    await act(room_id, guest, 'join', guest, { guest: true })
    await act(room_id, bob, 'join')
    await main.commands.sendEvent({ room_id, user_id: alice, ...guestAccess('forbidden') })
    expect((await memberOf(room_id, guest))?.membership).toBe('leave')
    expect((await memberOf(room_id, bob))?.membership).toBe('join')
  })

  test('forgetting: not while one is in, then the row says so; joining again remembers', async () => {
    const room_id = await room({ preset: 'public_chat' })
    await act(room_id, bob, 'join')
    await expect(main.commands.forgetRoom({ room_id, user_id: bob })).rejects.toMatchObject({
      errcode: 'M_UNKNOWN',
      status: 400,
    })
    await act(room_id, bob, 'leave')
    await main.commands.forgetRoom({ room_id, user_id: bob })
    expect((await memberOf(room_id, bob))?.forgotten).toBe(true)
    await act(room_id, bob, 'join')
    expect((await memberOf(room_id, bob))?.forgotten).toBe(false)
  })

  test('a new profile is told to the rooms of the user', async () => {
    const rooms = await Promise.all([room({ preset: 'public_chat' }), room({ preset: 'public_chat' })])
    for (const room_id of rooms) await act(room_id, carol, 'join', carol, { content: { kept: 1 } })
    await main.rooms.memberProfileChanged(carol, { displayname: 'Caroline' })
    for (const room_id of rooms) {
      expect((await memberOf(room_id, carol))?.content).toEqual({
        membership: 'join',
        displayname: 'Caroline',
        kept: 1,
      })
    }
  })
})

describe('client-server-api/#restricted-rooms', () => {
  test.each([
    { room_version: '8', join_rule: 'restricted' },
    { room_version: '10', join_rule: 'knock_restricted' },
    { room_version: '12', join_rule: 'restricted' },
  ])('version $room_version, $join_rule', async ({ room_version, join_rule }) => {
    const space = await room({ preset: 'public_chat' })
    const allow = [{ type: 'm.room_membership', room_id: space }]
    const rules = (content: object) => ({ type: 'm.room.join_rules', state_key: '', content })
    const room_id = await room({ room_version, initial_state: [rules({ join_rule, allow })] })
    await expect(act(room_id, bob, 'join')).rejects.toEqual(forbidden)
    await act(space, bob, 'join')
    await act(room_id, bob, 'join')
    expect((await memberOf(room_id, bob))?.content).toMatchObject({ join_authorised_via_users_server: alice })
    // Once in, nobody is asked again, and a client's claim counts for nothing.
    await main.commands.sendEvent({
      room_id,
      user_id: bob,
      type: 'm.room.member',
      state_key: bob,
      content: { membership: 'join', displayname: 'Bobby', join_authorised_via_users_server: 'unused' },
    })
    expect((await memberOf(room_id, bob))?.content).toEqual({ membership: 'join', displayname: 'Bobby' })
    await act(room_id, bob, 'leave')
    await act(space, bob, 'leave')
    await expect(act(room_id, bob, 'join')).rejects.toEqual(forbidden)
    await act(space, bob, 'join')
    for (const mangled of [['invalid'], 'invalid']) {
      await main.commands.sendEvent({
        room_id,
        user_id: alice,
        ...rules({ join_rule, allow: mangled }),
        content: { join_rule, allow: mangled },
      })
      await expect(act(room_id, bob, 'join')).rejects.toEqual(forbidden)
    }
    await act(room_id, alice, 'invite', bob)
    await act(room_id, bob, 'join')
  })
})

function guestAccess(guest_access: string) {
  return { type: 'm.room.guest_access', state_key: '', content: { guest_access } }
}
