/** Rooms: their creation, memberships, state and successors, as matrix-js-sdk knows them. */
import * as sdk from 'matrix-js-sdk'
import { describe, expect, test } from 'vitest'
import { type Client, until } from './sdk-client.ts'
import { becomes, errcodeOf, eventOf, id, joins, membership, received, roomOf, sdkServer, text } from './sdk-server.ts'

const server = sdkServer()

const memberEvent = (client: Client, room: string, user: string) =>
  client.getRoom(room)?.currentState.getStateEvents('m.room.member', user)
/** Waits until `client` sees the member event of `user` with this membership and reason. */
const seesMember = (client: Client, room: string, user: string, wanted: string, reason?: string) =>
  until(
    client,
    () => {
      const content = memberEvent(client, room, user)?.getContent()
      return content?.membership === wanted && content.reason === reason
    },
    `${user} with membership ${wanted}`,
  )
const joinRules = (content: object) => ({ type: 'm.room.join_rules', state_key: '', content })

describe('client-server-api/#creation', () => {
  test.each([
    [sdk.Preset.PrivateChat, 'invite', 'shared', 'can_join', 0],
    [sdk.Preset.TrustedPrivateChat, 'invite', 'shared', 'can_join', 100],
    [sdk.Preset.PublicChat, 'public', 'shared', 'forbidden', 0],
  ] as const)('preset %s', async (preset, joinRule, visibility, guestAccess, inviteeLevel) => {
    const [alice, bob] = [await server.person('alice'), await server.person('bob')]
    const { room_id } = await alice.createRoom({ preset, invite: [id(bob)], room_version: '11' })
    const content = (type: string) => alice.getStateEvent(room_id, type, '')
    expect(await content('m.room.join_rules')).toEqual({ join_rule: joinRule })
    expect(await content('m.room.history_visibility')).toEqual({ history_visibility: visibility })
    expect(guestAccess === 'can_join' ? await content('m.room.guest_access') : undefined).toEqual(
      guestAccess === 'can_join' ? { guest_access: 'can_join' } : undefined,
    )
    const levels = await content('m.room.power_levels')
    expect(levels.users[id(alice)]).toBe(100)
    expect(levels.users[id(bob)] ?? 0).toBe(inviteeLevel)
    await becomes(bob, room_id, 'invite')
  })

  test('every option at once', async () => {
    const [alice, bob, carol] = [await server.person('alice'), await server.person('bob'), await server.person('carol')]
    const { room_id } = await alice.createRoom({
      room_version: '10',
      preset: sdk.Preset.PrivateChat,
      visibility: sdk.Visibility.Public,
      room_alias_name: 'workshop',
      name: 'The workshop',
      topic: 'what is being built',
      invite: [id(bob), id(carol)],
      is_direct: true,
      creation_content: { type: sdk.RoomType.Space, 'm.federate': false },
      initial_state: [
        { type: 'm.room.avatar', state_key: '', content: { url: 'mxc://test.local/workshop' } },
        { type: 'org.example.custom', state_key: 'a key', content: { is: 'kept' } },
        joinRules({ join_rule: 'knock' }),
      ],
      power_level_content_override: { events_default: 10, users: { [id(alice)]: 100, [id(bob)]: 50 } },
    })
    await until(alice, () => alice.getRoom(room_id)?.isSpaceRoom() ?? false, 'the space')
    const room = roomOf(alice, room_id)
    expect(room.getVersion()).toBe('10')
    expect(room.name).toBe('The workshop')
    expect(room.getCanonicalAlias()).toBe('#workshop:test.local')
    expect(room.getMxcAvatarUrl()).toBe('mxc://test.local/workshop')
    expect(room.getJoinRule()).toBe('knock')
    const state = (type: string, key = '') => room.currentState.getStateEvents(type, key)?.getContent()
    expect(state('m.room.topic')).toMatchObject({ topic: 'what is being built' })
    expect(state('m.room.create')).toMatchObject({ type: 'm.space', 'm.federate': false, creator: id(alice) })
    expect(state('org.example.custom', 'a key')).toEqual({ is: 'kept' })
    expect(state('m.room.power_levels')).toMatchObject({ events_default: 10, users: { [id(bob)]: 50 } })
    expect((await alice.getRoomDirectoryVisibility(room_id)).visibility).toBe('public')
    for (const invited of [bob, carol]) {
      await becomes(invited, room_id, 'invite')
      const invitation = roomOf(invited, room_id)
      expect(invitation.getDMInviter()).toBe(id(alice))
      expect([invitation.name, invitation.isSpaceRoom()]).toEqual(['The workshop', true])
    }
    expect(await errcodeOf(alice.createRoom({ room_alias_name: 'workshop' }))).toBe('M_ROOM_IN_USE')
    expect(await errcodeOf(alice.createRoom({ room_version: 'none' }))).toBe('M_UNSUPPORTED_ROOM_VERSION')
  })

  test.each(['1', '2', '3', '4', '5', '6', '7', '8', '9', '10', '11', '12'])('room version %s', async (version) => {
    const [alice, bob] = [await server.person('alice'), await server.person('bob')]
    const { room_id } = await alice.createRoom({ room_version: version, preset: sdk.Preset.PublicChat, name: version })
    await joins(bob, room_id)
    const { event_id } = await text(bob, room_id, 'a slip')
    const event = await received(alice, room_id, event_id)
    await alice.redactEvent(room_id, event_id, undefined, { reason: 'off topic' })
    await until(alice, () => event.isRedacted(), 'the redaction')
    await until(bob, () => eventOf(bob, room_id, event_id).isRedacted(), 'the redaction')
    expect(eventOf(bob, room_id, event_id).getContent()).toEqual({})
    expect(eventOf(bob, room_id, event_id).getRedactionEvent()).toMatchObject({ content: { reason: 'off topic' } })
    expect(roomOf(alice, room_id).getVersion()).toBe(version)
    expect((await bob.getStateEvent(room_id, 'm.room.name', '')).name).toBe(version)
    await alice.setPowerLevel(room_id, id(bob), 50)
    await until(bob, () => roomOf(bob, room_id).getMember(id(bob))?.powerLevel === 50, 'the power level')
    await bob.setRoomName(room_id, 'named by bob')
    await until(alice, () => roomOf(alice, room_id).name === 'named by bob', 'the name')
  })
})

describe('client-server-api/#room-membership', () => {
  test('two people invite, join, talk, leave and forget', async () => {
    const [alice, bob] = [await server.person('alice'), await server.person('bob')]
    const { room_id } = await alice.createRoom({
      preset: sdk.Preset.PrivateChat,
      name: 'The two of us',
      invite: [id(bob)],
    })
    await becomes(bob, room_id, 'invite')
    expect(roomOf(bob, room_id).name).toBe('The two of us')
    await joins(bob, room_id)
    expect((await bob.getJoinedRooms()).joined_rooms).toContain(room_id)
    expect(Object.keys((await bob.getJoinedRoomMembers(room_id)).joined).sort()).toEqual([id(alice), id(bob)].sort())
    expect(await errcodeOf(bob.http.authedRequest(sdk.Method.Post, `/rooms/${room_id}/forget`, undefined, {}))).toBe(
      'M_UNKNOWN',
    )
    await bob.leave(room_id)
    await seesMember(alice, room_id, id(bob), 'leave')
    await bob.forget(room_id)
    expect(bob.getRoom(room_id)).toBeNull()
    expect((await bob.getJoinedRooms()).joined_rooms).not.toContain(room_id)
    expect(await errcodeOf(bob.createMessagesRequest(room_id, null, 10, sdk.Direction.Backward))).toBe('M_FORBIDDEN')
  })

  test('every change tells its reason', async () => {
    const [alice, bob] = [await server.person('alice'), await server.person('bob')]
    const { room_id } = await alice.createRoom({ preset: sdk.Preset.PrivateChat })
    const change = (client: Client, action: string, body: object) =>
      client.http.authedRequest(sdk.Method.Post, `/rooms/${encodeURIComponent(room_id)}/${action}`, undefined, body)
    const [user, user_id] = [id(bob), id(bob)]
    await alice.invite(room_id, user, { reason: 'come in' })
    await seesMember(alice, room_id, user, 'invite', 'come in')
    await becomes(bob, room_id, 'invite')
    expect(memberEvent(bob, room_id, user)?.getContent().reason).toBe('come in')
    await change(bob, 'join', { reason: 'gladly' })
    await seesMember(alice, room_id, user, 'join', 'gladly')
    await alice.kick(room_id, user, 'too loud')
    await seesMember(alice, room_id, user, 'leave', 'too loud')
    await seesMember(bob, room_id, user, 'leave', 'too loud')
    await alice.ban(room_id, user, 'much too loud')
    await seesMember(alice, room_id, user, 'ban', 'much too loud')
    expect(await errcodeOf(alice.invite(room_id, user))).toBe('M_FORBIDDEN')
    await change(alice, 'unban', { user_id, reason: 'forgiven' })
    await seesMember(alice, room_id, user, 'leave', 'forgiven')
    await alice.invite(room_id, user)
    await becomes(bob, room_id, 'invite')
    await change(bob, 'leave', { reason: 'not again' })
    await seesMember(alice, room_id, user, 'leave', 'not again')
    await becomes(bob, room_id, 'leave')
    // Invited again after having rejected: the same as the first time.
    await alice.invite(room_id, user)
    await becomes(bob, room_id, 'invite')
    await joins(bob, room_id)
    await change(bob, 'leave', { reason: 'farewell' })
    await seesMember(alice, room_id, user, 'leave', 'farewell')
    await alice.invite(room_id, user, 'please')
    await becomes(bob, room_id, 'invite')
    await joins(bob, room_id)
    await seesMember(alice, room_id, user, 'join')
  })

  test('an invite is taken back', async () => {
    const [alice, bob] = [await server.person('alice'), await server.person('bob')]
    const { room_id } = await alice.createRoom({ invite: [id(bob)] })
    await becomes(bob, room_id, 'invite')
    await alice.kick(room_id, id(bob), 'a mistake')
    await becomes(bob, room_id, 'leave')
    expect(await errcodeOf(bob.joinRoom(room_id))).toBe('M_FORBIDDEN')
  })

  test('who is banned stays out until the ban ends', async () => {
    const [alice, bob] = [await server.person('alice'), await server.person('bob')]
    const { room_id } = await alice.createRoom({ preset: sdk.Preset.PublicChat })
    await joins(bob, room_id)
    await alice.kick(room_id, id(bob))
    await becomes(bob, room_id, 'leave')
    await joins(bob, room_id)
    await alice.ban(room_id, id(bob))
    // The SDK calls every room of section `leave` left; the member event says more.
    await until(bob, () => bob.getRoom(room_id)?.getMember(id(bob))?.membership === 'ban', 'the ban')
    expect(await errcodeOf(bob.joinRoom(room_id))).toBe('M_FORBIDDEN')
    expect(await errcodeOf(text(bob, room_id, 'from outside'))).toBe('M_FORBIDDEN')
    await alice.unban(room_id, id(bob))
    await joins(bob, room_id)
  })

  test('knocks are answered, retracted and refused', async () => {
    const [alice, bob] = [await server.person('alice'), await server.person('bob')]
    const { room_id } = await alice.createRoom({ initial_state: [joinRules({ join_rule: 'knock' })], name: 'A door' })
    const knock = async (reason: string) => {
      await bob.knockRoom(room_id, { reason })
      await becomes(bob, room_id, 'knock')
      await seesMember(alice, room_id, id(bob), 'knock', reason)
    }
    await knock('let me in')
    expect(roomOf(bob, room_id).name).toBe('A door')
    expect(await errcodeOf(bob.joinRoom(room_id))).toBe('M_FORBIDDEN')
    await bob.leave(room_id)
    await seesMember(alice, room_id, id(bob), 'leave')
    await becomes(bob, room_id, 'leave')
    await knock('once more')
    await alice.kick(room_id, id(bob), 'not today')
    await becomes(bob, room_id, 'leave')
    await knock('and today?')
    await alice.invite(room_id, id(bob))
    await becomes(bob, room_id, 'invite')
    await joins(bob, room_id)
  })

  test('members of one room may join another', async () => {
    const [alice, bob, carol] = [await server.person('alice'), await server.person('bob'), await server.person('carol')]
    const club = await alice.createRoom({ preset: sdk.Preset.PublicChat })
    await joins(bob, club.room_id)
    const allow = [{ type: 'm.room_membership', room_id: club.room_id }]
    for (const [version, join_rule] of [
      ['8', 'restricted'],
      ['12', 'restricted'],
      ['12', 'knock_restricted'],
    ] as const) {
      const { room_id } = await alice.createRoom({
        room_version: version,
        initial_state: [joinRules({ join_rule, allow })],
      })
      expect(await errcodeOf(carol.joinRoom(room_id))).toBe('M_FORBIDDEN')
      await joins(bob, room_id)
      if (join_rule === 'knock_restricted') {
        await carol.knockRoom(room_id)
        await becomes(carol, room_id, 'knock')
      }
    }
  })

  test('members are listed by membership, and as they were', async () => {
    const [alice, bob, carol] = [await server.person('alice'), await server.person('bob'), await server.person('carol')]
    const { room_id } = await alice.createRoom({ preset: sdk.Preset.PublicChat, invite: [id(carol)] })
    await joins(bob, room_id)
    await seesMember(alice, room_id, id(bob), 'join')
    const token = alice.store.getSyncToken() ?? ''
    await bob.leave(room_id)
    await seesMember(alice, room_id, id(bob), 'leave')
    const listed = async (...parameters: [string?, string?, string?]) => {
      const { chunk } = (await alice.members(room_id, ...parameters)) as unknown as {
        chunk: sdk.IStateEventWithRoomId[]
      }
      return chunk.map((event) => `${event.state_key} ${event.content.membership}`).sort()
    }
    const [a, b, c] = [id(alice), id(bob), id(carol)]
    expect(await listed()).toEqual([`${a} join`, `${b} leave`, `${c} invite`])
    expect(await listed('join')).toEqual([`${a} join`])
    expect(await listed(undefined, 'join')).toEqual([`${b} leave`, `${c} invite`])
    expect(await listed('join', undefined, token)).toEqual([`${a} join`, `${b} join`])
  })
})

describe('client-server-api/#getting-events-for-a-room and #room-upgrades', () => {
  test('state is read and written, by who may', async () => {
    const [alice, bob] = [await server.person('alice'), await server.person('bob')]
    const { room_id } = await alice.createRoom({ preset: sdk.Preset.PublicChat })
    await joins(bob, room_id)
    await alice.setRoomTopic(room_id, 'where people meet', '<b>where people meet</b>')
    await until(bob, () => roomOf(bob, room_id).currentState.getStateEvents('m.room.topic', '') !== null, 'the topic')
    expect(await bob.getStateEvent(room_id, 'm.room.topic', '')).toMatchObject({ topic: 'where people meet' })
    expect(await errcodeOf(bob.setRoomName(room_id, 'mine now'))).toBe('M_FORBIDDEN')
    expect(await errcodeOf(bob.getStateEvent(room_id, 'm.room.name', ''))).toBe('M_NOT_FOUND')
    const all = await bob.roomState(room_id)
    expect(all.map((event) => event.type)).toContain('m.room.power_levels')
    expect(all.every((event) => event.room_id === room_id && event.event_id.startsWith('$'))).toBe(true)
    // State is redacted as any event is, and stays in force with what is left of it.
    const { event_id } = await alice.setRoomName(room_id, 'a name to regret')
    await until(bob, () => roomOf(bob, room_id).name === 'a name to regret', 'the name')
    await alice.redactEvent(room_id, event_id)
    await until(bob, () => roomOf(bob, room_id).name !== 'a name to regret', 'the redaction')
    expect(await bob.getStateEvent(room_id, 'm.room.name', '')).toEqual({})
  })

  test('power levels decide, and are set for several at once', async () => {
    const [alice, bob, carol] = [await server.person('alice'), await server.person('bob'), await server.person('carol')]
    const { room_id } = await alice.createRoom({ preset: sdk.Preset.PublicChat })
    for (const client of [bob, carol]) await joins(client, room_id)
    const level = (client: Client) => roomOf(client, room_id).getMember(id(client))?.powerLevel
    expect(await errcodeOf(bob.kick(room_id, id(carol)))).toBe('M_FORBIDDEN')
    await until(
      alice,
      () => alice.getRoom(room_id)?.currentState.getStateEvents('m.room.power_levels', '') != null,
      'it',
    )
    await alice.setPowerLevel(room_id, [id(bob), id(carol)], 50)
    await until(bob, () => level(bob) === 50, 'level 50')
    await until(carol, () => level(carol) === 50, 'level 50')
    expect(await errcodeOf(bob.kick(room_id, id(carol)))).toBe('M_FORBIDDEN')
    await alice.setPowerLevel(room_id, id(carol), 0)
    await until(bob, () => roomOf(bob, room_id).getMember(id(carol))?.powerLevel === 0, 'level 0')
    await bob.kick(room_id, id(carol))
    await becomes(carol, room_id, 'leave')
    expect(await errcodeOf(bob.setPowerLevel(room_id, id(bob), 100))).toBe('M_FORBIDDEN')
  })

  test('an upgraded room points to its successor and back, and hands over its state', async () => {
    const [alice, bob] = [await server.person('alice'), await server.person('bob')]
    const old = await alice.createRoom({
      preset: sdk.Preset.PublicChat,
      visibility: sdk.Visibility.Public,
      room_alias_name: 'moving',
      room_version: '9',
      name: 'The house',
    })
    await joins(bob, old.room_id)
    expect(await errcodeOf(bob.upgradeRoom(old.room_id, '12'))).toBe('M_FORBIDDEN')
    expect(await errcodeOf(alice.upgradeRoom(old.room_id, 'none'))).toBe('M_UNSUPPORTED_ROOM_VERSION')
    const { replacement_room } = await alice.upgradeRoom(old.room_id, '12')
    const tombstone = () => bob.getRoom(old.room_id)?.currentState.getStateEvents('m.room.tombstone', '')
    await until(bob, () => tombstone()?.getContent().replacement_room === replacement_room, 'the tombstone')
    const room = await joins(bob, replacement_room)
    expect([room.name, room.getVersion()]).toEqual(['The house', '12'])
    expect(room.findPredecessor()?.roomId).toBe(old.room_id)
    expect((await bob.getRoomIdForAlias('#moving:test.local')).room_id).toBe(replacement_room)
    expect((await bob.getRoomDirectoryVisibility(replacement_room)).visibility).toBe('public')
    expect(await errcodeOf(text(bob, old.room_id, 'is anybody here?'))).toBe('M_FORBIDDEN')
    expect(bob.getVisibleRooms().map((visible) => visible.roomId)).not.toContain(old.room_id)
    expect(membership(bob, replacement_room)).toBe('join')
  })
})
