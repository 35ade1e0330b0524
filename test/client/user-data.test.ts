/** Receipts, typing, presence, profiles, account data and push rules, as matrix-js-sdk knows them. */
import * as sdk from 'matrix-js-sdk'
import { describe, expect, test } from 'vitest'
import { type Client, messagesIn, until } from './sdk-client.ts'
import { becomes, errcodeOf, eventOf, id, joins, received, roomOf, sdkServer, sees, text } from './sdk-server.ts'

const server = sdkServer()

/** Two people in a room. */
async function pair() {
  const [alice, bob] = [await server.person('alice'), await server.person('bob')]
  const { room_id } = await alice.createRoom({ preset: sdk.Preset.PublicChat })
  await joins(bob, room_id)
  await until(alice, () => alice.getRoom(room_id)?.getMember(id(bob))?.membership === 'join', 'bob')
  return { alice, bob, room_id }
}

const total = (client: Client, room: string) =>
  client.getRoom(room)?.getRoomUnreadNotificationCount(sdk.NotificationCountType.Total)
const highlight = (client: Client, room: string) =>
  client.getRoom(room)?.getRoomUnreadNotificationCount(sdk.NotificationCountType.Highlight)
/** Waits for these counts of the main timeline. */
const counts = (client: Client, room: string, wanted: number, highlights: number) =>
  until(
    client,
    () => total(client, room) === wanted && highlight(client, room) === highlights,
    `${wanted} unread, ${highlights} of them highlights`,
  )
const mention = (client: Client, room: string, user: string) =>
  client.sendMessage(room, { msgtype: sdk.MsgType.Text, body: 'you!', 'm.mentions': { user_ids: [user] } })

describe('client-server-api/#receipts and #fully-read-markers', () => {
  test('public and private receipts move what is unread, the public ones for all to see', async () => {
    const { alice, bob, room_id } = await pair()
    const second = await server.secondDevice(bob)
    await text(alice, room_id, 'one')
    const two = await text(alice, room_id, 'two')
    await counts(bob, room_id, 2, 0)
    const three = await mention(alice, room_id, id(bob))
    await counts(bob, room_id, 3, 1)
    await counts(second, room_id, 3, 1)
    await bob.sendReadReceipt(await received(bob, room_id, two.event_id), sdk.ReceiptType.Read, true)
    await until(alice, () => roomOf(alice, room_id).getEventReadUpTo(id(bob)) === two.event_id, 'the receipt')
    await counts(bob, room_id, 1, 1)
    await counts(second, room_id, 1, 1)

    await bob.sendReadReceipt(await received(bob, room_id, three.event_id), sdk.ReceiptType.ReadPrivate, true)
    await counts(second, room_id, 0, 0)
    await until(second, () => roomOf(second, room_id).getEventReadUpTo(id(bob)) === three.event_id, 'the receipt')
    // What comes after the private receipt shows that it did not reach others.
    await text(bob, room_id, 'after it')
    await sees(alice, room_id, 'after it')
    const privateOnes = roomOf(alice, room_id)
      .getReceiptsForEvent(eventOf(alice, room_id, three.event_id))
      .filter((receipt) => receipt.type === sdk.ReceiptType.ReadPrivate)
    expect(privateOnes).toEqual([])
  })

  test('threads are read apart from the main timeline, and an unthreaded receipt reads all', async () => {
    const { alice, bob, room_id } = await pair()
    const root = (await text(alice, room_id, 'a topic')).event_id
    const receipts: Record<string, Record<string, Record<string, { thread_id?: string }>>> = {}
    alice.on(sdk.RoomEvent.Receipt, (event) => {
      if (!event.getId()?.startsWith('~')) Object.assign(receipts, event.getContent())
    })
    const threadOfReceipt = (event_id: string) => receipts[event_id]?.['m.read']?.[id(bob)]?.thread_id
    await received(alice, room_id, root)
    await received(bob, room_id, root)
    await counts(bob, room_id, 1, 0)
    const reply = (body: string, mentions: string[] = []) =>
      alice.sendEvent(room_id, root, sdk.EventType.RoomMessage, {
        msgtype: sdk.MsgType.Text,
        body,
        'm.mentions': { user_ids: mentions },
      })
    await reply('one')
    const two = await reply('two', [id(bob)])
    const thread = (type: sdk.NotificationCountType) =>
      bob.getRoom(room_id)?.getThreadUnreadNotificationCount(root, type)
    const threadCounts = (wanted: number, highlights: number) =>
      until(
        bob,
        () =>
          thread(sdk.NotificationCountType.Total) === wanted &&
          thread(sdk.NotificationCountType.Highlight) === highlights,
        `${wanted} unread in the thread, ${highlights} of them highlights`,
      )
    await threadCounts(2, 1)
    await counts(bob, room_id, 1, 0)
    await bob.sendReadReceipt(await received(bob, room_id, root))
    await counts(bob, room_id, 0, 0)
    await threadCounts(2, 1)
    await bob.sendReadReceipt(await received(bob, room_id, two.event_id))
    await threadCounts(0, 0)
    await until(alice, () => threadOfReceipt(two.event_id) === root, 'the threaded receipt')
    expect(threadOfReceipt(root)).toBe('main')
    await reply('three')
    const last = await text(alice, room_id, 'and in the room')
    await threadCounts(1, 0)
    await counts(bob, room_id, 1, 0)
    await bob.sendReadReceipt(await received(bob, room_id, last.event_id), sdk.ReceiptType.Read, true)
    await threadCounts(0, 0)
    await counts(bob, room_id, 0, 0)
  })

  test('the fully-read marker and both receipts are set at once', async () => {
    const { alice, bob, room_id } = await pair()
    const [one, two] = [await text(alice, room_id, 'one'), await text(alice, room_id, 'two')]
    const last = await received(bob, room_id, two.event_id)
    await bob.setRoomReadMarkers(room_id, one.event_id, last, last)
    const marker = () => roomOf(bob, room_id).getAccountData('m.fully_read')?.getContent().event_id
    await until(bob, () => marker() === one.event_id, 'the marker')
    await counts(bob, room_id, 0, 0)
    await until(alice, () => roomOf(alice, room_id).getEventReadUpTo(id(bob)) === two.event_id, 'the receipt')
  })
})

describe('client-server-api/#typing-notifications and #presence', () => {
  test('several type at once, and stop', async () => {
    const { alice, bob, room_id } = await pair()
    const carol = await server.person('carol')
    await joins(carol, room_id)
    await until(alice, () => alice.getRoom(room_id)?.getMember(id(carol))?.membership === 'join', 'carol')
    const typing = () =>
      roomOf(alice, room_id)
        .getMembers()
        .filter((member) => member.typing)
    const typists = () =>
      typing()
        .map((member) => member.userId)
        .sort()
        .join()
    await bob.sendTyping(room_id, true, 20_000)
    await until(alice, () => typists() === id(bob), 'one typing')
    await carol.sendTyping(room_id, true, 20_000)
    await until(alice, () => typists() === [id(bob), id(carol)].sort().join(), 'two typing')
    await bob.sendTyping(room_id, false, 0)
    await until(alice, () => typists() === id(carol), 'one typing')
    // It ends by itself, too.
    await carol.sendTyping(room_id, true, 300)
    await until(alice, () => typists() === '', 'nobody typing')
  })

  test('presence is told to who shares a room, as set by hand and by sync', async () => {
    const { alice, bob, room_id } = await pair()
    const presence = () => alice.getUser(id(bob))
    await until(alice, () => presence()?.presence === 'online', 'bob online')
    await bob.setPresence({ presence: 'online', status_msg: 'here' })
    await until(alice, () => presence()?.presenceStatusMsg === 'here', 'the status')
    expect(await alice.getPresence(id(bob))).toMatchObject({ presence: 'online', status_msg: 'here' })
    await bob.setSyncPresence(sdk.SetPresence.Unavailable)
    await text(alice, room_id, 'to end the poll that waits')
    await until(alice, () => presence()?.presence === 'unavailable', 'bob unavailable')
    // A sync that says offline tells nothing; what was set stays.
    await bob.setSyncPresence(sdk.SetPresence.Offline)
    await text(alice, room_id, 'to end the poll that waits once more')
    await sees(bob, room_id, 'to end the poll that waits once more')
    await bob.setPresence({ presence: 'offline' })
    await until(alice, () => presence()?.presence === 'offline', 'bob offline')
    const stranger = await server.person('stranger')
    expect(await errcodeOf(stranger.getPresence(id(bob)))).toBe('M_FORBIDDEN')
  })
})

describe('client-server-api/#profiles', () => {
  test('a new name and picture reach every room', async () => {
    const { alice, bob, room_id } = await pair()
    const other = await bob.createRoom({ invite: [id(alice)] })
    await becomes(alice, other.room_id, 'invite')
    await joins(alice, other.room_id)
    await bob.setDisplayName('Bobby')
    await bob.setAvatarUrl('mxc://test.local/bobby')
    for (const room of [room_id, other.room_id]) {
      const member = () => alice.getRoom(room)?.getMember(id(bob))
      await until(alice, () => member()?.name === 'Bobby', 'the name')
      await until(alice, () => member()?.getMxcAvatarUrl() === 'mxc://test.local/bobby', 'the picture')
    }
    expect(await alice.getProfileInfo(id(bob))).toEqual({ displayname: 'Bobby', avatar_url: 'mxc://test.local/bobby' })
    expect(await alice.getProfileInfo(id(bob), 'displayname')).toEqual({ displayname: 'Bobby' })
    expect(await errcodeOf(alice.getProfileInfo('@nobody:test.local'))).toBe('M_NOT_FOUND')
    const { room_id: later } = await bob.createRoom({})
    await until(bob, () => bob.getRoom(later)?.getMember(id(bob))?.name === 'Bobby', 'the name in a new room')
    expect(await bob.doesServerSupportExtendedProfiles()).toBe(true)
    await bob.setExtendedProfileProperty('org.example.pronouns', ['they'])
    expect(await alice.getExtendedProfileProperty(id(bob), 'org.example.pronouns')).toEqual(['they'])
    await bob.deleteExtendedProfileProperty('org.example.pronouns')
    expect(await alice.getExtendedProfile(id(bob))).not.toHaveProperty('org.example.pronouns')
  })
})

describe('client-server-api/#client-config, #room-tagging and #ignoring-users', () => {
  test('account data and tags reach the other device', async () => {
    const alice = await server.person('alice')
    const { room_id } = await alice.createRoom({})
    const second = await server.secondDevice(alice)
    const kind = 'org.example.colour' as keyof sdk.AccountDataEvents
    await alice.setAccountDataRaw(kind as never, { is: 'blue' } as never)
    await until(second, () => second.getAccountData(kind) !== undefined, 'the account data')
    expect(second.getAccountData(kind)?.getContent()).toEqual({ is: 'blue' })
    await until(alice, () => alice.getAccountData(kind) !== undefined, 'the account data')
    expect(await alice.getAccountDataFromServer(kind)).toEqual({ is: 'blue' })
    await alice.setRoomAccountData(room_id, kind as never, { is: 'green' } as never)
    await until(second, () => second.getRoom(room_id)?.getAccountData(kind) !== undefined, 'the room account data')
    await alice.setRoomTag(room_id, 'm.favourite', { order: 0.5 })
    await alice.setRoomTag(room_id, 'u.work', {})
    await until(second, () => Object.keys(second.getRoom(room_id)?.tags ?? {}).length === 2, 'the tags')
    expect(roomOf(second, room_id).tags['m.favourite']).toEqual({ order: 0.5 })
    expect((await second.getRoomTags(room_id)).tags).toEqual({ 'm.favourite': { order: 0.5 }, 'u.work': {} })
    await second.deleteRoomTag(room_id, 'm.favourite')
    await until(alice, () => Object.keys(alice.getRoom(room_id)?.tags ?? {}).join() === 'u.work', 'one tag less')
  })

  test('ignored users are silent, before and after, and do not invite', async () => {
    const { alice, bob, room_id } = await pair()
    await text(bob, room_id, 'said before')
    await sees(alice, room_id, 'said before')
    await alice.setIgnoredUsers([id(bob)])
    await until(alice, () => alice.isUserIgnored(id(bob)), 'the ignored user')
    await text(bob, room_id, 'nobody hears me')
    await bob.createRoom({ invite: [id(alice)], name: 'a trap' })
    await bob.setDisplayName('Still a member')
    await text(alice, room_id, 'after it')
    await sees(alice, room_id, 'after it')
    expect(messagesIn(alice, room_id)).not.toContain('nobody hears me')
    expect(alice.getRoom(room_id)?.getMember(id(bob))?.name).toBe('Still a member')
    expect(alice.getRooms().map((room) => room.roomId)).toEqual([room_id])
    const fresh = await server.secondDevice(alice)
    await sees(fresh, room_id, 'after it')
    const room = roomOf(fresh, room_id)
    for (let i = 0; i < 5 && room.getLiveTimeline().getPaginationToken(sdk.Direction.Backward); i++) {
      await fresh.scrollback(room, 50)
    }
    expect(messagesIn(fresh, room_id)).toEqual(['after it'])
    expect(fresh.getRooms().map((known) => known.roomId)).toEqual([room_id])
    await alice.setIgnoredUsers([])
    const forgiving = await server.secondDevice(alice)
    await sees(forgiving, room_id, 'nobody hears me')
    expect(messagesIn(forgiving, room_id)).toEqual(['said before', 'nobody hears me', 'after it'])
  })
})

describe('client-server-api/#push-rules-api', () => {
  test('rules are made, changed, switched off and deleted, and every device is told', async () => {
    const alice = await server.person('alice')
    const second = await server.secondDevice(alice)
    const rule = (client: Client) => client.pushRules?.global.content?.find(({ rule_id }) => rule_id === 'fruit')
    await alice.addPushRule('global', sdk.PushRuleKind.ContentSpecific, 'fruit', { pattern: 'plum', actions: [] })
    await until(second, () => rule(second)?.pattern === 'plum', 'the rule')
    expect(rule(second)?.enabled).toBe(true)
    const actions = [sdk.PushRuleActionName.Notify, { set_tweak: 'highlight', value: true }] as sdk.PushRuleAction[]
    await alice.setPushRuleActions('global', sdk.PushRuleKind.ContentSpecific, 'fruit', actions)
    await until(second, () => rule(second)?.actions.length === 2, 'the actions')
    await alice.setPushRuleEnabled('global', sdk.PushRuleKind.ContentSpecific, 'fruit', false)
    await until(second, () => rule(second)?.enabled === false, 'the switch')
    const rules = await alice.getPushRules()
    expect(rules.global.content?.map(({ rule_id }) => rule_id)).toContain('fruit')
    await alice.deletePushRule('global', sdk.PushRuleKind.ContentSpecific, 'fruit')
    await until(second, () => rule(second) === undefined, 'the end of the rule')
    expect(await errcodeOf(alice.deletePushRule('global', sdk.PushRuleKind.ContentSpecific, 'fruit'))).toBe(
      'M_NOT_FOUND',
    )
    const master = sdk.RuleId.Master
    await alice.setPushRuleEnabled('global', sdk.PushRuleKind.Override, master, true)
    const masterIn = (client: Client) => client.pushRules?.global.override?.find(({ rule_id }) => rule_id === master)
    await until(second, () => masterIn(second)?.enabled === true, 'the master switch')
  })

  test('unread counts follow the rules: mentions, keywords, muted rooms, mentions only', async () => {
    const { alice, bob, room_id } = await pair()
    await bob.addPushRule('global', sdk.PushRuleKind.ContentSpecific, 'fruit', {
      pattern: 'plum',
      actions: [sdk.PushRuleActionName.Notify, { set_tweak: sdk.TweakName.Highlight, value: true }],
    })
    await text(alice, room_id, 'apples')
    await counts(bob, room_id, 1, 0)
    await text(alice, room_id, 'and a Plum!')
    await counts(bob, room_id, 2, 1)
    await mention(alice, room_id, id(bob))
    await counts(bob, room_id, 3, 2)
    await alice.sendMessage(room_id, { msgtype: sdk.MsgType.Text, body: 'all of you', 'm.mentions': { room: true } })
    await counts(bob, room_id, 4, 3)
    await alice.sendMessage(room_id, { msgtype: sdk.MsgType.Notice, body: 'from a machine' })
    await sees(bob, room_id, 'from a machine')
    await counts(bob, room_id, 4, 3)

    const readAll = async () => {
      const { event_id } = await text(alice, room_id, 'the end of it')
      await bob.sendReadReceipt(await received(bob, room_id, event_id), sdk.ReceiptType.Read, true)
      await counts(bob, room_id, 0, 0)
    }
    await readAll()
    // Mentions only: a rule of the room that notifies of nothing.
    await bob.addPushRule('global', sdk.PushRuleKind.RoomSpecific, room_id, { actions: [] })
    await text(alice, room_id, 'small talk')
    await sees(bob, room_id, 'small talk')
    await counts(bob, room_id, 0, 0)
    await mention(alice, room_id, id(bob))
    await counts(bob, room_id, 1, 1)
    await readAll()
    // Muted: an override comes before all others.
    await bob.addPushRule('global', sdk.PushRuleKind.Override, room_id, {
      conditions: [{ kind: sdk.ConditionKind.EventMatch, key: 'room_id', pattern: room_id }],
      actions: [],
    })
    await mention(alice, room_id, id(bob))
    await text(alice, room_id, 'plums, unheard of')
    await sees(bob, room_id, 'plums, unheard of')
    await counts(bob, room_id, 0, 0)
    await bob.setPushRuleEnabled('global', sdk.PushRuleKind.Override, room_id, false)
    await bob.deletePushRule('global', sdk.PushRuleKind.RoomSpecific, room_id)
    await readAll()
    await text(alice, room_id, 'heard again')
    await counts(bob, room_id, 1, 0)
  })
})
