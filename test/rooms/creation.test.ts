import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { EventId, RoomAlias, RoomId, UserId } from '../../shared/matrix/ids.ts'
import type { JsonObject } from '../../shared/matrix/json-value.ts'
import { type TestMain, testMain } from '../support/main.ts'

let main: TestMain
let alice: UserId
let bob: UserId
let carol: UserId
beforeAll(async () => {
  main = await testMain()
  ;[alice, bob, carol] = await Promise.all([main.user('alice', 'Alice'), main.user('bob'), main.user('carol')])
})
afterAll(() => main.drop())

type CreateRoom = Parameters<TestMain['commands']['createRoom']>[0]
const create = async (options: Partial<CreateRoom> = {}) =>
  (await main.commands.createRoom({ user_id: alice, ...options })).room_id
const timeline = (room_id: RoomId) =>
  main.database.sql<{ event_id: EventId; type: string; state_key: string; content: string; envelope: string }[]>`
    select event_id, type, state_key, content, envelope from events join rooms using (room_nid)
    where room_id = ${room_id} and position is not null order by position`
const content = async (room_id: RoomId, type: string, state_key = ''): Promise<JsonObject | undefined> => {
  const [row] = await main.database.sql<{ content: string }[]>`
    select e.content from current_state c join rooms r using (room_nid) join events e on e.event_nid = c.event_nid
    where r.room_id = ${room_id} and c.type = ${type} and c.state_key = ${state_key}`
  return row && JSON.parse(row.content)
}

describe('client-server-api/#room-aliases', () => {
  test('of many who want an alias at once one gets it, and the others hear why', async () => {
    const room_id = await create()
    const alias = '#wanted:hs1' as RoomAlias
    const wishes = Array.from({ length: 10 }, () => main.commands.createAlias({ alias, room_id, user_id: alice }))
    const outcomes = await Promise.allSettled(wishes)
    expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
    for (const outcome of outcomes) {
      if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ status: 409 })
    }
  })
})

describe('client-server-api/#post_matrixclientv3createroom', () => {
  test.each(Array.from({ length: 12 }, (_, i) => String(i + 1)))('version %s', async (room_version) => {
    const room_id = await create({ room_version, name: 'A room' })
    const [first] = await timeline(room_id)
    expect(first?.type).toBe('m.room.create')
    expect(JSON.parse(first?.content ?? '')).toMatchObject({ room_version })
    if (room_version === '12') expect(room_id.slice(1)).toBe(first?.event_id.slice(1))
    else expect(room_id).toMatch(/^![A-Za-z0-9]+:hs1$/)
    expect(await content(room_id, 'm.room.name')).toEqual({ name: 'A room' })
    await main.commands.sendEvent({ room_id, user_id: alice, type: 'm.room.message', content: { body: 'x' } })
  })

  test('the events come in the order of the specification', async () => {
    const room_id = await create({
      preset: 'public_chat',
      room_alias_name: 'ordered',
      initial_state: [{ type: 'm.room.encryption', content: { algorithm: 'm.megolm.v1.aes-sha2' } }],
      name: 'N',
      topic: 'T',
      invite: [bob],
      is_direct: true,
    })
    const events = await timeline(room_id)
    expect(events.map((event) => event.type)).toEqual([
      'm.room.create',
      'm.room.member',
      'm.room.power_levels',
      'm.room.canonical_alias',
      'm.room.join_rules',
      'm.room.history_visibility',
      'm.room.encryption',
      'm.room.name',
      'm.room.topic',
      'm.room.member',
    ])
    expect(JSON.parse(events.at(-1)?.content ?? '')).toEqual({
      membership: 'invite',
      is_direct: true,
      displayname: 'bob',
    })
    expect(await content(room_id, 'm.room.topic')).toEqual({ topic: 'T', 'm.topic': { 'm.text': [{ body: 'T' }] } })
  })

  test('creation_content does not set the version; later keys win over initial_state', async () => {
    const room_id = await create({
      creation_content: { room_version: 'test', creator: '@x:y', test: 'azerty' },
      initial_state: [{ type: 'm.room.topic', content: { topic: 'Shenanigans' } }],
      topic: 'Test Room',
    })
    expect(await content(room_id, 'm.room.create')).toEqual({ room_version: '12', test: 'azerty' })
    expect(await content(room_id, 'm.room.topic')).toMatchObject({ topic: 'Test Room' })
  })

  test.each<{ why: string; options: Partial<CreateRoom>; errcode: string }>([
    { why: 'an unknown version', options: { room_version: '99x' }, errcode: 'M_UNSUPPORTED_ROOM_VERSION' },
    { why: 'an alias that is taken', options: { room_alias_name: 'taken' }, errcode: 'M_ROOM_IN_USE' },
    { why: 'an alias that is none', options: { room_alias_name: 'a:b' }, errcode: 'M_INVALID_PARAM' },
    {
      why: 'state that its own power levels forbid',
      options: { room_version: '11', name: 'x', power_level_content_override: { events: { 'm.room.name': 101 } } },
      errcode: 'M_INVALID_ROOM_STATE',
    },
    {
      why: 'an invite among its state that cannot be sent',
      options: {
        initial_state: [{ type: 'm.room.member', state_key: '@dan:elsewhere', content: { membership: 'invite' } }],
      },
      errcode: 'M_INVALID_ROOM_STATE',
    },
    {
      why: 'additional_creators that are no user ids',
      options: { creation_content: { additional_creators: ['@invalid:dom$ain$.com'] } },
      errcode: 'M_INVALID_PARAM',
    },
    {
      why: 'a level for a creator',
      options: { power_level_content_override: { users: { '@alice:hs1': 100 } } },
      errcode: 'M_BAD_JSON',
    },
  ])('$errcode: $why', async ({ options, errcode }) => {
    if (errcode === 'M_ROOM_IN_USE') await create({ room_alias_name: 'taken' })
    await expect(create(options)).rejects.toMatchObject({ errcode, status: 400 })
  })

  test('rooms that are alike and made at once are different rooms', async () => {
    const rooms = await Promise.all(Array.from({ length: 20 }, () => create()))
    expect(new Set(rooms).size).toBe(20)
  })

  test('two rooms that want one alias at once: one gets it', async () => {
    const outcomes = await Promise.allSettled([
      create({ room_alias_name: 'race' }),
      create({ room_alias_name: 'race' }),
    ])
    expect(outcomes.map((outcome) => outcome.status).toSorted()).toEqual(['fulfilled', 'rejected'])
  })

  test('version 12: the creators of trusted_private_chat are those who are invited', async () => {
    const room_id = await create({
      preset: 'trusted_private_chat',
      invite: [bob],
      creation_content: { additional_creators: [carol] },
    })
    expect((await content(room_id, 'm.room.create'))?.additional_creators).toEqual([carol, bob])
    expect(await content(room_id, 'm.room.power_levels')).toMatchObject({
      users: {},
      events: { 'm.room.tombstone': 150 },
    })
  })
})

describe('client-server-api/#room-upgrades', () => {
  test.each([
    ['10', '11'],
    ['11', '12'],
    ['12', '12'],
  ])('%s to %s', async (from, to) => {
    const alias = `#upgraded-${from}-${to}:hs1` as RoomAlias
    const old = await create({
      room_version: from,
      preset: 'public_chat',
      name: 'Old',
      topic: 'T',
      visibility: 'public',
      room_alias_name: alias.slice(1, alias.indexOf(':')),
    })
    for (const user_id of [bob, carol]) {
      await main.commands.changeMembership({ room_id: old, user_id, target: user_id, action: 'join' })
    }
    const users = from === '12' ? { [bob]: 150 } : { [alice]: 100, [bob]: 100 }
    await main.commands.sendEvent({
      room_id: old,
      user_id: alice,
      type: 'm.room.power_levels',
      state_key: '',
      content: { users },
    })
    await expect(main.commands.upgradeRoom({ room_id: old, user_id: carol, new_version: to })).rejects.toMatchObject({
      errcode: 'M_FORBIDDEN',
    })
    const { replacement_room } = await main.commands.upgradeRoom({ room_id: old, user_id: bob, new_version: to })
    expect(await content(old, 'm.room.tombstone')).toMatchObject({ replacement_room })
    expect(await content(replacement_room, 'm.room.name')).toEqual({ name: 'Old' })
    expect(await content(replacement_room, 'm.room.canonical_alias')).toEqual({ alias })
    const created = await content(replacement_room, 'm.room.create')
    expect(created).toMatchObject({ room_version: to, predecessor: { room_id: old } })
    expect(Object.keys((created?.predecessor ?? {}) as object)).toHaveLength(to === '12' ? 1 : 2)
    const levels = await content(replacement_room, 'm.room.power_levels')
    expect(levels?.users).toEqual(to === '12' ? (from === '12' ? {} : { [alice]: 100 }) : users)
    expect(await content(old, 'm.room.power_levels')).toMatchObject({ events_default: 50, invite: 50 })
    await expect(
      main.commands.sendEvent({ room_id: old, user_id: carol, type: 'm.room.message', content: {} }),
    ).rejects.toMatchObject({ errcode: 'M_FORBIDDEN' })
    const rows = await main.database.sql<{ room_id: RoomId; published: boolean; alias: string | null }[]>`
      select room_id, published, alias from rooms left join room_aliases using (room_nid)
      where room_id in (${old}, ${replacement_room}) order by published`
    expect(rows).toEqual([
      { room_id: old, published: false, alias: null },
      { room_id: replacement_room, published: true, alias },
    ])
    await main.commands.changeMembership({ room_id: replacement_room, user_id: carol, target: carol, action: 'join' })
  })

  test('settings of the old room follow who joins the new one', async () => {
    const old = await create({ preset: 'public_chat' })
    await main.commands.changeMembership({ room_id: old, user_id: bob, target: bob, action: 'join' })
    await main.commands.setTag({ user_id: bob, room_id: old, tag: 'm.favourite', content: '{"order":1}' })
    await main.commands.putPushRule({ user_id: bob, kind: 'room', rule_id: old, actions: [] })
    const { replacement_room } = await main.commands.upgradeRoom({ room_id: old, user_id: alice, new_version: '12' })
    await main.commands.changeMembership({ room_id: replacement_room, user_id: bob, target: bob, action: 'join' })
    const rows = await main.database.sql<{ type: string; content: string }[]>`
      select type, content from account_data left join rooms using (room_nid)
      where user_id = ${bob} and (room_id = ${replacement_room} or type = 'm.push_rules') order by type`
    expect(rows.map((row) => row.type)).toEqual(['m.push_rules', 'm.tag'])
    expect(rows[0]?.content).toContain(replacement_room)
  })
})

describe('client-server-api/#room-aliases', () => {
  test('members make aliases; their makers and the powerful take them away', async () => {
    const room_id = await create({ preset: 'public_chat' })
    const alias = '#made-by-bob:hs1' as RoomAlias
    await expect(main.commands.createAlias({ alias, room_id, user_id: bob })).rejects.toMatchObject({
      errcode: 'M_FORBIDDEN',
    })
    for (const user_id of [bob, carol]) {
      await main.commands.changeMembership({ room_id, user_id, target: user_id, action: 'join' })
    }
    await main.commands.createAlias({ alias, room_id, user_id: bob })
    await expect(main.commands.createAlias({ alias, room_id, user_id: carol })).rejects.toMatchObject({ status: 409 })
    await expect(main.commands.deleteAlias({ alias, room_id, user_id: carol })).rejects.toMatchObject({
      errcode: 'M_FORBIDDEN',
    })
    await main.commands.deleteAlias({ alias, room_id, user_id: bob })
    await expect(main.commands.deleteAlias({ alias, room_id, user_id: bob })).rejects.toMatchObject({
      errcode: 'M_NOT_FOUND',
    })
    await main.commands.createAlias({ alias, room_id, user_id: bob })
    await main.commands.deleteAlias({ alias, room_id, user_id: alice })
  })
})
