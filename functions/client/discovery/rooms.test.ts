import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { RoomId, UserId } from '../../../shared/matrix/ids.ts'
import type { JsonObject } from '../../../shared/matrix/json-value.ts'
import { type TestDatabase, testDatabase } from '../../../test/support/database.ts'
import { type RoomFixture, roomFixture } from '../../../test/support/room-fixture.ts'
import { discoveryRoutes } from './routes.ts'

const alice = '@alice:example.org' as UserId
const bob = '@bob:example.org' as UserId

let database: TestDatabase
let f: RoomFixture
beforeAll(async () => {
  database = await testDatabase()
  f = await roomFixture(database, discoveryRoutes)
})
afterAll(async () => {
  await f.close()
  await database.drop()
})

const set = (room: RoomId, type: string, content: JsonObject, state_key = '') =>
  f.send(room, alice, type, content, { state_key })
async function named(name: string, join_rule = 'public', more: JsonObject = {}): Promise<RoomId> {
  const room = await f.room(alice)
  await set(room, 'm.room.join_rules', { join_rule, ...more })
  await set(room, 'm.room.name', { name })
  return room
}
async function space(name: string, join_rule = 'public'): Promise<RoomId> {
  const room = await named(name, join_rule)
  await set(room, 'm.room.create', { type: 'm.space', room_version: '11' })
  return room
}
const link = (parent: RoomId, child: RoomId, content: JsonObject = {}) =>
  set(parent, 'm.space.child', { via: ['example.org'], ...content }, child)
const allow = (room: RoomId) => ({ allow: [{ type: 'm.room_membership', room_id: room }] })

describe('client-server-api GET /room_summary', () => {
  const summary = (user: UserId | undefined, room: string) =>
    f.call(user, `v1/room_summary/${encodeURIComponent(room)}`)

  test('a public room, by id and by alias, for anybody', async () => {
    const room = await named('Cheese')
    await set(room, 'm.room.topic', { topic: 'Tasty' })
    await set(room, 'm.room.guest_access', { guest_access: 'can_join' })
    await database.sql`insert into room_aliases (alias, room_nid, creator)
      values ('#cheese:example.org', ${f.roomNid(room)}, ${alice})`
    const expected = {
      room_id: room,
      name: 'Cheese',
      topic: 'Tasty',
      join_rule: 'public',
      num_joined_members: 1,
      world_readable: false,
      guest_can_join: true,
      room_version: '11',
    }
    expect(await summary(undefined, room)).toEqual({ status: 200, body: expected })
    expect((await summary(bob, '#cheese:example.org')).body).toEqual(expected)
    expect((await summary(alice, room)).body).toEqual({ ...expected, membership: 'join' })
  })

  test('the unstable paths answer with the older names too', async () => {
    const room = await named('Old')
    for (const path of [`summary/${room}`, `rooms/${room}/summary`]) {
      const { status, body } = await f.call(bob, `unstable/im.nheko.summary/${path}`)
      expect(status).toBe(200)
      expect(body).toMatchObject({ name: 'Old', 'im.nheko.summary.room_version': '11' })
    }
  })

  test.each([
    { join_rule: 'public', membership: undefined, seen: true },
    { join_rule: 'knock', membership: undefined, seen: true },
    { join_rule: 'invite', membership: undefined, seen: false },
    { join_rule: 'invite', membership: 'invite', seen: true },
    { join_rule: 'invite', membership: 'join', seen: true },
    { join_rule: 'invite', membership: 'leave', seen: false },
    { join_rule: 'public', membership: 'ban', seen: false },
  ])('$join_rule, $membership: seen $seen', async ({ join_rule, membership, seen }) => {
    const room = await named('Room', join_rule)
    if (membership) await f.member(room, bob, membership, alice)
    const answer = await summary(bob, room)
    if (seen) expect(answer.status).toBe(200)
    else expect(answer).toMatchObject({ status: 404, body: { errcode: 'M_NOT_FOUND' } })
  })

  test('a restricted room is for members of the rooms that open it', async () => {
    const door = await named('Door', 'invite')
    const room = await named('Inside', 'restricted', allow(door))
    expect((await summary(bob, room)).status).toBe(404)
    expect((await summary(undefined, room)).status).toBe(404)
    await f.member(door, bob, 'join')
    expect((await summary(bob, room)).body).toMatchObject({ join_rule: 'restricted', allowed_room_ids: [door] })
  })

  test.each(['!none:example.org', '#none:example.org'])('there is no %s', async (id) => {
    expect(await summary(bob, id)).toMatchObject({ status: 404, body: { errcode: 'M_NOT_FOUND' } })
  })
  test('what is no id at all', async () => {
    expect((await summary(bob, 'x')).status).toBe(400)
  })
})

describe('client-server-api GET /hierarchy', () => {
  const hierarchy = (user: UserId, room: RoomId, query: Record<string, string> = {}) =>
    f.call(user, `v1/rooms/${encodeURIComponent(room)}/hierarchy?${new URLSearchParams(query)}`)
  const names = (body: { rooms: { name: string }[] }) => body.rooms.map((room) => room.name)

  test('depth first, in the order of the links, each room once', async () => {
    const [root, first, second, leaf, last] = [
      await space('root'),
      await space('first'),
      await space('second'),
      await named('leaf'),
      await named('last'),
    ]
    await link(root, last)
    await link(root, second, { order: 'b' })
    await link(root, first, { order: 'a' })
    await link(first, leaf)
    await link(second, leaf)
    await link(second, root)
    const { status, body } = await hierarchy(bob, root)
    expect(status).toBe(200)
    expect(names(body)).toEqual(['root', 'first', 'leaf', 'second', 'last'])
    const [top] = body.rooms
    expect(top).toMatchObject({ room_type: 'm.space', num_joined_members: 1, join_rule: 'public' })
    expect(top.children_state.map((child: JsonObject) => child.state_key)).toEqual([first, second, last])
    expect(top.children_state[0]).toEqual({
      type: 'm.space.child',
      state_key: first,
      sender: alice,
      content: { via: ['example.org'], order: 'a' },
      origin_server_ts: expect.any(Number),
    })
    expect(body.rooms[2].children_state).toEqual([])
    expect(body).not.toHaveProperty('next_batch')
  })

  test('page by page, with the same parameters alone', async () => {
    const root = await space('root')
    for (const name of ['a', 'b', 'c', 'd']) await link(root, await named(name), { order: name })
    const pages: string[][] = []
    let from: string | undefined
    do {
      const { body } = await hierarchy(bob, root, { limit: '2', ...(from ? { from } : {}) })
      pages.push(names(body))
      from = body.next_batch
    } while (from)
    expect(pages).toEqual([['root', 'a'], ['b', 'c'], ['d']])
    const token = (await hierarchy(bob, root, { limit: '2' })).body.next_batch
    for (const query of [{ suggested_only: 'true' }, { max_depth: '1' }]) {
      expect(await hierarchy(bob, root, { from: token, ...query })).toMatchObject({
        status: 400,
        body: { errcode: 'M_INVALID_PARAM' },
      })
    }
  })

  test('suggested_only, max_depth, and links that do not count', async () => {
    const [root, inner, deep, plain, gone] = [
      await space('root'),
      await space('inner'),
      await named('deep'),
      await named('plain'),
      await named('gone'),
    ]
    await link(root, inner, { suggested: true })
    await link(inner, deep, { suggested: true })
    await link(root, plain)
    await set(root, 'm.space.child', {}, gone)
    await set(root, 'm.space.child', { via: 'example.org' }, await named('wrong via'))
    await link(root, '!unknown:elsewhere.org' as RoomId)
    const all = await hierarchy(bob, root)
    expect(names(all.body)).toEqual(['root', 'inner', 'deep', 'plain'])
    expect(all.body.rooms[0].children_state).toHaveLength(3)
    const suggested = await hierarchy(bob, root, { suggested_only: 'true' })
    expect(names(suggested.body)).toEqual(['root', 'inner', 'deep'])
    expect(suggested.body.rooms[0].children_state).toHaveLength(1)
    expect(names((await hierarchy(bob, root, { max_depth: '1' })).body)).toEqual(['root', 'inner', 'plain'])
    expect(names((await hierarchy(bob, root, { max_depth: '0' })).body)).toEqual(['root'])
  })

  test('who may not see a room does not see what is below it, and a restricted room opens to members', async () => {
    const [root, closed, below] = [await space('root'), await space('closed', 'invite'), await named('below')]
    const restricted = await named('restricted', 'restricted', allow(root))
    await link(root, closed, { order: 'a' })
    await link(closed, below)
    await link(root, restricted, { order: 'b' })
    expect(names((await hierarchy(bob, root)).body)).toEqual(['root'])
    await f.member(root, bob, 'join')
    expect(names((await hierarchy(bob, root)).body)).toEqual(['root', 'restricted'])
    await f.member(closed, bob, 'invite', alice)
    expect(names((await hierarchy(bob, root)).body)).toEqual(['root', 'closed', 'below', 'restricted'])
    expect(await hierarchy(bob, await space('mine', 'invite'))).toMatchObject({
      status: 403,
      body: { errcode: 'M_FORBIDDEN' },
    })
    expect((await hierarchy(bob, '!none:example.org' as RoomId)).status).toBe(403)
  })

  test.each([{ limit: '0' }, { limit: '-1' }, { max_depth: '-1' }, { suggested_only: 'maybe' }, { from: 'x' }])(
    '%o is no way to ask',
    async (query) => {
      const root = await space('root')
      expect(await hierarchy(bob, root, query as Record<string, string>)).toMatchObject({
        status: 400,
        body: { errcode: 'M_INVALID_PARAM' },
      })
    },
  )
})
