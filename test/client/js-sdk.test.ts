/** What ordinary clients do, through matrix-js-sdk, over HTTP, against a server in a process of its own. */
import * as sdk from 'matrix-js-sdk'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { type TestDatabase, testDatabase } from '../support/database.ts'
import { type ServerProcess, serverProcess } from '../support/server-process.ts'
import { type Client, messagesIn, startedClient, until } from './sdk-client.ts'

let database: TestDatabase
let server: ServerProcess
let clients: Client[] = []
let names = 0

beforeAll(async () => {
  database = await testDatabase()
  server = await serverProcess({ databaseUrl: database.url })
  await server.start()
})
afterEach(() => {
  for (const client of clients) client.stopClient()
  clients = []
})
afterAll(async () => {
  await server?.close()
  await database?.drop()
})

async function person(name: string): Promise<Client & { password: string }> {
  const account = await server.register(`${name}${names++}`)
  const client = await startedClient({ baseUrl: server.baseUrl, ...account })
  clients.push(client)
  return Object.assign(client, { password: account.password })
}

const id = (client: Client) => client.getUserId() ?? ''
const text = (client: Client, room: string, body: string) =>
  client.sendMessage(room, { msgtype: sdk.MsgType.Text, body })
const sees = (client: Client, room: string, body: string) =>
  until(client, () => messagesIn(client, room).includes(body), `"${body}" in the timeline`)
const membership = (client: Client, room: string) => client.getRoom(room)?.getMyMembership()
const errcodeOf = (promise: Promise<unknown>) =>
  promise.then(
    () => 'no error',
    (error: sdk.MatrixError) => error.errcode,
  )

describe('client-server-api/#account-registration and #login', () => {
  test('registers with user-interactive auth, logs in by password, refreshes, logs out', async () => {
    const stranger = sdk.createClient({ baseUrl: server.baseUrl })
    const started = await stranger
      .registerRequest({ username: 'newcomer', password: 'a long password' })
      .catch((e) => e)
    expect(started.httpStatus).toBe(401)
    const registered = await stranger.registerRequest({
      username: 'newcomer',
      password: 'a long password',
      auth: { type: 'm.login.dummy', session: started.data.session },
    })
    expect(registered.user_id).toBe('@newcomer:test.local')

    const login = await stranger.loginRequest({
      type: 'm.login.password',
      identifier: { type: 'm.id.user', user: 'newcomer' },
      password: 'a long password',
      refresh_token: true,
    })
    expect(login.expires_in_ms).toBeGreaterThan(0)
    const refreshed = await stranger.refreshToken(login.refresh_token ?? '')
    const client = sdk.createClient({
      baseUrl: server.baseUrl,
      accessToken: refreshed.access_token,
      userId: login.user_id,
    })
    expect(await client.whoami()).toMatchObject({ user_id: '@newcomer:test.local', device_id: login.device_id })
    await client.logout()
    expect(await errcodeOf(client.whoami())).toBe('M_UNKNOWN_TOKEN')
  })

  test('changes the password, names and deletes devices, and deactivates', async () => {
    const alice = await person('alice')
    const user = id(alice)
    const second = await sdk.createClient({ baseUrl: server.baseUrl }).loginWithPassword(user, alice.password)
    expect((await alice.getDevices()).devices).toHaveLength(2)
    await alice.setDeviceDetails(second.device_id, { display_name: 'the other one' })
    expect((await alice.getDevice(second.device_id)).display_name).toBe('the other one')
    const auth = { type: 'm.login.password', identifier: { type: 'm.id.user', user }, password: alice.password }
    await alice.deleteDevice(second.device_id, auth as never)
    expect((await alice.getDevices()).devices).toHaveLength(1)
    await alice.setPassword(auth as never, 'another password')
    await sdk.createClient({ baseUrl: server.baseUrl }).loginWithPassword(user, 'another password')
    await alice.deactivateAccount({ ...auth, password: 'another password' } as never, true)
    expect(
      await errcodeOf(sdk.createClient({ baseUrl: server.baseUrl }).loginWithPassword(user, 'another password')),
    ).toBe('M_USER_DEACTIVATED')
  })
})

describe('client-server-api/#rooms-1', () => {
  test('two people invite, join, talk, redact and leave', async () => {
    const [alice, bob] = [await person('alice'), await person('bob')]
    const { room_id } = await alice.createRoom({
      preset: sdk.Preset.PrivateChat,
      name: 'The two of us',
      invite: [id(bob)],
    })
    await until(bob, () => membership(bob, room_id) === 'invite', 'the invite')
    expect(bob.getRoom(room_id)?.name).toBe('The two of us')
    await bob.joinRoom(room_id)
    await until(bob, () => membership(bob, room_id) === 'join', 'the join')
    await text(alice, room_id, 'hello bob')
    await sees(bob, room_id, 'hello bob')
    const { event_id } = await text(bob, room_id, 'hello alice, and a slip')
    await sees(alice, room_id, 'hello alice, and a slip')
    await bob.redactEvent(room_id, event_id)
    await until(alice, () => alice.getRoom(room_id)?.findEventById(event_id)?.isRedacted() ?? false, 'the redaction')
    await bob.leave(room_id)
    await until(alice, () => alice.getRoom(room_id)?.getMember(id(bob))?.membership === 'leave', 'the leave')
    await bob.forget(room_id)
    expect((await bob.getJoinedRooms()).joined_rooms).not.toContain(room_id)
  })

  test('kick, ban, unban, knock and restricted join follow their rules', async () => {
    const [alice, bob] = [await person('alice'), await person('bob')]
    const { room_id } = await alice.createRoom({ preset: sdk.Preset.PublicChat })
    await bob.joinRoom(room_id)
    await alice.kick(room_id, id(bob), 'a reason')
    await until(bob, () => membership(bob, room_id) === 'leave', 'the kick')
    await bob.joinRoom(room_id)
    await until(bob, () => membership(bob, room_id) === 'join', 'the way back')
    await alice.ban(room_id, id(bob))
    // The SDK calls every room of section `leave` left; the member event says more.
    await until(bob, () => bob.getRoom(room_id)?.getMember(id(bob))?.membership === 'ban', 'the ban')
    expect(await errcodeOf(bob.joinRoom(room_id))).toBe('M_FORBIDDEN')
    await alice.unban(room_id, id(bob))
    await bob.joinRoom(room_id)

    const knocked = await alice.createRoom({
      initial_state: [{ type: 'm.room.join_rules', state_key: '', content: { join_rule: 'knock' } }],
    })
    await bob.knockRoom(knocked.room_id, { reason: 'let me in' })
    await until(bob, () => membership(bob, knocked.room_id) === 'knock', 'the knock')
    await alice.invite(knocked.room_id, id(bob))
    await bob.joinRoom(knocked.room_id)

    const restricted = await alice.createRoom({
      initial_state: [
        {
          type: 'm.room.join_rules',
          state_key: '',
          content: { join_rule: 'restricted', allow: [{ type: 'm.room_membership', room_id: knocked.room_id }] },
        },
      ],
    })
    const carol = await person('carol')
    expect(await errcodeOf(carol.joinRoom(restricted.room_id))).toBe('M_FORBIDDEN')
    await bob.joinRoom(restricted.room_id)
    await until(bob, () => membership(bob, restricted.room_id) === 'join', 'the restricted join')
  })

  test('aliases, directory, state, upgrade', async () => {
    const [alice, bob] = [await person('alice'), await person('bob')]
    const { room_id } = await alice.createRoom({
      preset: sdk.Preset.PublicChat,
      visibility: sdk.Visibility.Public,
      room_alias_name: 'square',
      name: 'The square',
    })
    expect((await bob.getRoomIdForAlias('#square:test.local')).room_id).toBe(room_id)
    await bob.joinRoom('#square:test.local')
    const listed = await bob.publicRooms({ filter: { generic_search_term: 'square' } })
    expect(listed.chunk.map((room) => room.room_id)).toContain(room_id)
    await alice.createAlias('#plaza:test.local', room_id)
    expect((await alice.getLocalAliases(room_id)).aliases.sort()).toEqual(['#plaza:test.local', '#square:test.local'])
    await alice.deleteAlias('#plaza:test.local')
    await alice.setRoomTopic(room_id, 'where people meet')
    expect(await bob.getStateEvent(room_id, 'm.room.topic', '')).toMatchObject({ topic: 'where people meet' })
    expect(await errcodeOf(bob.setRoomName(room_id, 'mine now'))).toBe('M_FORBIDDEN')
    const { replacement_room } = await alice.upgradeRoom(room_id, '12')
    await until(
      bob,
      () => bob.getRoom(room_id)?.currentState.getStateEvents('m.room.tombstone', '') != null,
      'the tombstone',
    )
    await bob.joinRoom(replacement_room)
    expect((await bob.getRoomIdForAlias('#square:test.local')).room_id).toBe(replacement_room)
  })

  test('scrollback, context, relations and threads', async () => {
    const [alice, bob] = [await person('alice'), await person('bob')]
    const { room_id } = await alice.createRoom({ preset: sdk.Preset.PublicChat })
    const sent: string[] = []
    for (let i = 0; i < 60; i++) sent.push((await text(alice, room_id, `line ${i}`)).event_id)
    await bob.joinRoom(room_id)
    await until(bob, () => membership(bob, room_id) === 'join', 'the join')
    const room = bob.getRoom(room_id)
    if (!room) throw new Error('no room')
    for (let i = 0; i < 10 && !messagesIn(bob, room_id).includes('line 0'); i++) await bob.scrollback(room, 30)
    expect(messagesIn(bob, room_id)).toEqual(sent.map((_, i) => `line ${i}`))

    const middle = sent[30] ?? ''
    const timeline = await bob.getEventTimeline(room.getUnfilteredTimelineSet(), middle)
    expect(timeline?.getEvents().map((event) => event.getId())).toContain(middle)

    await bob.sendEvent(room_id, sdk.EventType.Reaction, {
      'm.relates_to': { rel_type: sdk.RelationType.Annotation, event_id: middle, key: '👍' },
    })
    const relations = await alice.relations(room_id, middle, 'm.annotation', 'm.reaction')
    expect(relations.events).toHaveLength(1)

    await bob.sendEvent(room_id, middle, sdk.EventType.RoomMessage, { msgtype: sdk.MsgType.Text, body: 'in a thread' })
    await until(alice, () => alice.getRoom(room_id)?.getThread(middle)?.length === 1, 'the thread')
    const threads = await alice.createThreadListMessagesRequest(room_id, null, 10)
    expect(threads.chunk.map((event) => event.event_id)).toEqual([middle])
  })
})

describe('client-server-api/#modules', () => {
  test('receipts, unread counts, typing, presence', async () => {
    const [alice, bob] = [await person('alice'), await person('bob')]
    const { room_id } = await alice.createRoom({ preset: sdk.Preset.PublicChat })
    await bob.joinRoom(room_id)
    await until(bob, () => membership(bob, room_id) === 'join', 'the join')
    await text(alice, room_id, 'one')
    const { event_id } = await text(alice, room_id, 'two')
    await sees(bob, room_id, 'two')
    const unread = () => bob.getRoom(room_id)?.getUnreadNotificationCount(sdk.NotificationCountType.Total)
    await until(bob, () => unread() === 2, 'two unread messages')
    await alice.sendEvent(room_id, sdk.EventType.RoomMessage, {
      msgtype: sdk.MsgType.Text,
      body: 'bob!',
      'm.mentions': { user_ids: [id(bob)] },
    })
    await until(
      bob,
      () => bob.getRoom(room_id)?.getUnreadNotificationCount(sdk.NotificationCountType.Highlight) === 1,
      'the highlight',
    )
    const event = bob.getRoom(room_id)?.findEventById(event_id)
    if (!event) throw new Error('no event')
    await bob.sendReadReceipt(event, sdk.ReceiptType.Read, true)
    await until(alice, () => alice.getRoom(room_id)?.getEventReadUpTo(id(bob)) === event_id, 'the receipt')
    await until(bob, () => unread() === 1, 'one unread message')

    await bob.sendTyping(room_id, true, 20_000)
    await until(alice, () => alice.getRoom(room_id)?.getMember(id(bob))?.typing ?? false, 'typing')
    await bob.sendTyping(room_id, false, 0)
    await until(alice, () => !alice.getRoom(room_id)?.getMember(id(bob))?.typing, 'no typing')
    await bob.setPresence({ presence: 'online', status_msg: 'here' })
    await until(alice, () => alice.getUser(id(bob))?.presenceStatusMsg === 'here', 'the presence')
  })

  test('profile, tags, account data, ignored users, push rules, filters', async () => {
    const [alice, bob] = [await person('alice'), await person('bob')]
    const { room_id } = await alice.createRoom({ preset: sdk.Preset.PublicChat })
    await bob.joinRoom(room_id)
    await until(alice, () => alice.getRoom(room_id)?.getMember(id(bob))?.membership === 'join', 'the join')
    await bob.setDisplayName('Bobby')
    await until(alice, () => alice.getRoom(room_id)?.getMember(id(bob))?.name === 'Bobby', 'the new name')
    expect((await alice.getProfileInfo(id(bob))).displayname).toBe('Bobby')

    await alice.setRoomTag(room_id, 'm.favourite', { order: 0.5 })
    await until(alice, () => alice.getRoom(room_id)?.tags['m.favourite']?.order === 0.5, 'the tag')
    await alice.setAccountData('org.example.colour' as never, { is: 'blue' } as never)
    await until(alice, () => alice.getAccountData('org.example.colour' as never) !== undefined, 'the account data')
    await alice.setIgnoredUsers([id(bob)])
    await until(alice, () => alice.isUserIgnored(id(bob)), 'the ignored user')
    await text(bob, room_id, 'nobody hears me')
    await text(alice, room_id, 'after it')
    await sees(alice, room_id, 'after it')
    expect(messagesIn(alice, room_id)).not.toContain('nobody hears me')

    await alice.addPushRule(
      'global',
      sdk.PushRuleKind.RoomSpecific,
      room_id as never,
      {
        actions: [],
      } as never,
    )
    const rules = await alice.getPushRules()
    expect(rules.global.room?.map((rule) => rule.rule_id)).toContain(room_id)
    await alice.deletePushRule('global', sdk.PushRuleKind.RoomSpecific, room_id as never)
  })

  test('a client that was away for many messages catches up by its gap', async () => {
    const [alice, bob] = [await person('alice'), await person('bob')]
    const { room_id } = await alice.createRoom({ preset: sdk.Preset.PublicChat })
    await bob.joinRoom(room_id)
    await until(bob, () => membership(bob, room_id) === 'join', 'the join')
    bob.stopClient()
    for (let i = 0; i < 130; i++) await text(alice, room_id, `missed ${i}`)
    const back = await startedClient({
      baseUrl: server.baseUrl,
      user_id: id(bob),
      access_token: bob.getAccessToken() ?? '',
      device_id: bob.getDeviceId() ?? '',
    })
    clients.push(back)
    await until(back, () => back.getRoom(room_id) !== null, 'the room')
    const room = back.getRoom(room_id)
    if (!room) throw new Error('no room')
    for (let i = 0; i < 20 && !messagesIn(back, room_id).includes('missed 0'); i++) await back.scrollback(room, 30)
    expect(messagesIn(back, room_id)).toEqual(Array.from({ length: 130 }, (_, i) => `missed ${i}`))
  })
})
