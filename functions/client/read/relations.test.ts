import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { EventId, RoomId, UserId } from '../../../shared/matrix/ids.ts'
import { type TestDatabase, testDatabase } from '../../../test/support/database.ts'
import { type RoomFixture, roomFixture } from '../../../test/support/room-fixture.ts'
import { readRoutes } from './routes.ts'

const alice = '@alice:example.org' as UserId
const bob = '@bob:example.org' as UserId
const carol = '@carol:example.org' as UserId

let database: TestDatabase
let f: RoomFixture
beforeAll(async () => {
  database = await testDatabase()
  f = await roomFixture(database, readRoutes)
})
afterAll(async () => {
  await f.close()
  await database.drop()
})

interface Shown {
  readonly event_id: EventId
}
const ids = (events: readonly Shown[]) => events.map((event) => event.event_id)

const relates = (rel_type: string, event_id: EventId) => ({ 'm.relates_to': { rel_type, event_id } })
const reply = (room: RoomId, user: UserId, root: EventId, body = 'reply') =>
  f.message(room, user, body, relates('m.thread', root))
const edit = (room: RoomId, user: UserId, target: EventId, body: string, ts?: number) =>
  f.message(
    room,
    user,
    `* ${body}`,
    { 'm.new_content': { msgtype: 'm.text', body }, ...relates('m.replace', target) },
    ts === undefined ? {} : { origin_server_ts: ts },
  )
async function relationsOf(user: UserId, room: RoomId, event: EventId) {
  const { body } = await f.call(user, `v3/rooms/${room}/event/${event}`)
  return body.unsigned['m.relations']
}
const related = (user: UserId, room: RoomId, path: string) => f.call(user, `v1/rooms/${room}/relations/${path}`)

describe('client-server-api aggregations of child events', () => {
  test('m.reference: the ids of all, in order', async () => {
    const room = await f.room(alice)
    const parent = await f.message(room, alice, 'parent')
    const one = await f.message(room, alice, 'one', relates('m.reference', parent))
    const two = await f.message(room, alice, 'two', relates('m.reference', parent))
    expect(await relationsOf(alice, room, parent)).toEqual({
      'm.reference': { chunk: [{ event_id: one }, { event_id: two }] },
    })
    expect(await relationsOf(alice, room, one)).toBeUndefined()
  })

  test('m.replace: the newest by origin_server_ts, then by event id, whatever the order of arrival', async () => {
    const room = await f.room(alice)
    const parent = await f.message(room, alice, 'parent')
    const late = await edit(room, alice, parent, 'late', 9_000)
    await edit(room, alice, parent, 'early', 8_000)
    expect((await relationsOf(alice, room, parent))['m.replace']).toMatchObject({
      event_id: late,
      room_id: room,
      content: { 'm.new_content': { body: 'late' } },
    })
  })

  test.each([
    { why: "another sender's", user: bob, more: {}, type: 'm.room.message' },
    { why: 'of another type', user: alice, more: {}, type: 'm.other' },
    { why: 'without m.new_content', user: alice, more: { 'm.new_content': undefined }, type: 'm.room.message' },
  ])('m.replace: an edit $why is none', async ({ user, more, type }) => {
    const room = await f.room(alice)
    await f.member(room, bob, 'join')
    const parent = await f.message(room, alice, 'parent')
    const content = JSON.parse(
      JSON.stringify({ 'm.new_content': { body: 'x' }, ...relates('m.replace', parent), ...more }),
    )
    await f.send(room, user, type, content)
    expect(await relationsOf(alice, room, parent)).toBeUndefined()
  })

  test('m.replace: not of a redacted event, not a redacted edit, and no edit of an edit', async () => {
    const room = await f.room(alice)
    const parent = await f.message(room, alice, 'parent')
    const first = await edit(room, alice, parent, 'first')
    const second = await edit(room, alice, parent, 'second')
    await edit(room, alice, second, 'of an edit')
    expect(await relationsOf(alice, room, second)).toBeUndefined()
    await f.send(room, alice, 'm.room.redaction', {}, { redacts: second })
    expect((await relationsOf(alice, room, parent))['m.replace'].event_id).toBe(first)
    await f.send(room, alice, 'm.room.redaction', {}, { redacts: parent })
    expect(await relationsOf(alice, room, parent)).toBeUndefined()
  })

  test('m.thread: what another room says of an event takes no thread from its own', async () => {
    const room = await f.room(alice)
    const root = await f.message(room, alice, 'root')
    const elsewhere = await f.room(bob)
    const squatter = await f.send(elsewhere, bob, 'm.room.message', { body: 'x', ...relates('m.thread', root) })
    expect(await relationsOf(alice, room, root)).toBeUndefined()
    const reply = await f.send(room, alice, 'm.room.message', { body: 'reply', ...relates('m.thread', root) })
    const thread = { count: 1, latest_event: { event_id: reply } }
    expect((await relationsOf(alice, room, root))['m.thread']).toMatchObject(thread)
    await f.send(elsewhere, bob, 'm.room.redaction', {}, { redacts: squatter })
    expect((await relationsOf(alice, room, root))['m.thread']).toMatchObject(thread)
  })

  test('m.thread: count, newest reply with its own edit, and whether the reader took part', async () => {
    const room = await f.room(alice)
    await f.member(room, bob, 'join')
    await f.member(room, carol, 'join')
    const root = await f.message(room, alice, 'root')
    await reply(room, bob, root)
    const last = await reply(room, bob, root)
    const edited = await edit(room, bob, last, 'edited')
    for (const [user, took] of [
      [alice, true],
      [bob, true],
      [carol, false],
    ] as const) {
      const thread = (await relationsOf(user, room, root))['m.thread']
      expect(thread).toMatchObject({ count: 2, current_user_participated: took, latest_event: { event_id: last } })
      expect(thread.latest_event.unsigned['m.relations']['m.replace'].event_id).toBe(edited)
    }
    await f.send(room, alice, 'm.room.redaction', {}, { redacts: last })
    expect((await relationsOf(alice, room, root))['m.thread'].count).toBe(1)
  })

  test('m.thread: replies of ignored users do not count', async () => {
    const room = await f.room(alice)
    await f.member(room, bob, 'join')
    const dave = '@dave:example.org' as UserId
    await f.member(room, dave, 'join')
    const root = await f.message(room, alice, 'root')
    const first = await reply(room, alice, root)
    await reply(room, bob, root)
    await f.committer.commit({
      account_data: [
        { user_id: dave, room_nid: 0, type: 'm.ignored_user_list', content: `{"ignored_users":{"${bob}":{}}}` },
      ],
    })
    expect((await relationsOf(dave, room, root))['m.thread']).toMatchObject({
      count: 1,
      latest_event: { event_id: first },
    })
  })

  test('who left sees nothing of what came after', async () => {
    const room = await f.room(alice, { history_visibility: 'shared' })
    await f.member(room, bob, 'join')
    const root = await f.message(room, alice, 'root')
    const first = await reply(room, alice, root)
    await f.member(room, bob, 'leave')
    await reply(room, alice, root)
    await edit(room, alice, root, 'edited')
    await f.message(room, alice, 'ref', relates('m.reference', root))
    const relations = await relationsOf(bob, room, root)
    expect(Object.keys(relations)).toEqual(['m.thread'])
    expect(relations['m.thread']).toMatchObject({ count: 1, latest_event: { event_id: first } })
  })

  test('state events have none', async () => {
    const room = await f.room(alice)
    const name = await f.send(room, alice, 'm.room.name', { name: 'n' }, { state_key: '' })
    await f.message(room, alice, 'ref', relates('m.reference', name))
    expect(await relationsOf(alice, room, name)).toBeUndefined()
  })
})

describe('client-server-api GET /relations', () => {
  test('by parent, by type, by event type', async () => {
    const room = await f.room(alice)
    const root = await f.message(room, alice, 'root')
    const thread = await reply(room, alice, root)
    const dummy = await f.send(room, alice, 'm.dummy', relates('m.thread', root))
    const edited = await edit(room, alice, root, 'edited')
    expect(ids((await related(alice, room, root)).body.chunk)).toEqual([edited, dummy, thread])
    expect(ids((await related(alice, room, `${root}/m.thread`)).body.chunk)).toEqual([dummy, thread])
    expect(ids((await related(alice, room, `${root}/m.thread/m.room.message`)).body.chunk)).toEqual([thread])
  })

  test.each(['b', 'f'])('pages in direction %s', async (dir) => {
    const room = await f.room(alice)
    const root = await f.message(room, alice, 'root')
    const sent: EventId[] = []
    for (let i = 0; i < 5; i++) sent.push(await reply(room, alice, root))
    const expected = dir === 'f' ? sent : sent.toReversed()
    const first = (await related(alice, room, `${root}?limit=3&dir=${dir}`)).body
    expect(ids(first.chunk)).toEqual(expected.slice(0, 3))
    expect(first).not.toHaveProperty('prev_batch')
    const second = (await related(alice, room, `${root}?limit=3&dir=${dir}&from=${first.next_batch}`)).body
    expect(ids(second.chunk)).toEqual(expected.slice(3))
    expect(second.prev_batch).toBe(first.next_batch)
    expect(second).not.toHaveProperty('next_batch')
  })

  test('recurse follows relations of relations, and says how far', async () => {
    const room = await f.room(alice)
    const root = await f.message(room, alice, 'root')
    const thread = await reply(room, alice, root)
    const reaction = await f.send(room, alice, 'm.reaction', relates('m.annotation', thread))
    const plain = (await related(alice, room, root)).body
    expect(ids(plain.chunk)).toEqual([thread])
    expect(plain).not.toHaveProperty('recursion_depth')
    const all = (await related(alice, room, `${root}?recurse=true`)).body
    expect(ids(all.chunk)).toEqual([reaction, thread])
    expect(all.recursion_depth).toBeGreaterThanOrEqual(3)
    expect(ids((await related(alice, room, `${root}/m.annotation?recurse=true`)).body.chunk)).toEqual([reaction])
  })

  test.each([
    { why: 'no such parent', path: '$none', user: alice, status: 404 },
    { why: 'not in the room', path: undefined, user: carol, status: 403 },
    { why: 'a bad token', path: '?from=x', user: alice, status: 400 },
  ])('$why: $status', async ({ path, user, status }) => {
    const room = await f.room(alice)
    const root = await f.message(room, alice, 'root')
    const asked = path === undefined ? root : path.startsWith('?') ? `${root}${path}` : path
    expect((await related(user, room, asked)).status).toBe(status)
  })
})

describe('client-server-api GET /threads', () => {
  test('newest reply first, in pages, and those the user took part in', async () => {
    const room = await f.room(alice)
    await f.member(room, bob, 'join')
    await f.member(room, carol, 'join')
    const one = await f.message(room, alice, 'one')
    const two = await f.message(room, bob, 'two')
    await reply(room, bob, one)
    await reply(room, alice, two)
    const threads = async (user: UserId, query = '') => (await f.call(user, `v1/rooms/${room}/threads${query}`)).body
    expect(ids((await threads(alice)).chunk)).toEqual([two, one])
    const last = await reply(room, bob, one)
    const { chunk } = await threads(alice)
    expect(ids(chunk)).toEqual([one, two])
    expect(chunk[0].unsigned['m.relations']['m.thread'].latest_event.event_id).toBe(last)

    const first = await threads(alice, '?limit=1')
    expect(ids(first.chunk)).toEqual([one])
    const second = await threads(alice, `?limit=1&from=${first.next_batch}`)
    expect(ids(second.chunk)).toEqual([two])
    expect(second).not.toHaveProperty('next_batch')

    expect((await threads(carol, '?include=participated')).chunk).toEqual([])
    expect(ids((await threads(bob, '?include=participated')).chunk)).toEqual([one, two])
  })

  test.each([
    { query: '?limit=0', status: 400 },
    { query: '?from=x', status: 400 },
    { query: '?include=none', status: 400 },
  ])('$query: $status', async ({ query, status }) => {
    const room = await f.room(alice)
    expect((await f.call(alice, `v1/rooms/${room}/threads${query}`)).status).toBe(status)
    expect((await f.call(bob, `v1/rooms/${room}/threads`)).status).toBe(403)
  })
})

describe('client-server-api published room directory', () => {
  test('most joined members first, in pages both ways, with what is known of each', async () => {
    await database.sql`update rooms set published = false`
    const rooms: RoomId[] = []
    for (let i = 0; i < 5; i++) {
      const room = await f.room(alice, { published: true })
      await f.send(room, alice, 'm.room.name', { name: `Room ${i}` }, { state_key: '' })
      if (i % 2 === 0) await f.member(room, bob, 'join')
      rooms.push(room)
    }
    const [r0, r1, r2, r3, r4] = rooms
    const order = [r0, r2, r4, r1, r3]
    const list = async (query: string) => (await f.call(undefined, `v3/publicRooms${query}`)).body
    const roomIds = (body: { chunk: { room_id: RoomId }[] }) => body.chunk.map((room) => room.room_id)
    const all = await list('')
    expect(roomIds(all)).toEqual(order)
    expect(all.total_room_count_estimate).toBe(5)
    expect(all.chunk[0]).toEqual({
      room_id: r0,
      name: 'Room 0',
      num_joined_members: 2,
      world_readable: false,
      guest_can_join: false,
    })
    const first = await list('?limit=2')
    expect(roomIds(first)).toEqual(order.slice(0, 2))
    expect(first).not.toHaveProperty('prev_batch')
    const second = await list(`?limit=2&since=${first.next_batch}`)
    expect(roomIds(second)).toEqual(order.slice(2, 4))
    const third = await list(`?limit=2&since=${second.next_batch}`)
    expect(roomIds(third)).toEqual(order.slice(4))
    expect(third).not.toHaveProperty('next_batch')
    expect(roomIds(await list(`?limit=2&since=${third.prev_batch}`))).toEqual(order.slice(2, 4))
    const back = await list(`?limit=2&since=${second.prev_batch}`)
    expect(roomIds(back)).toEqual(order.slice(0, 2))
    expect(back).not.toHaveProperty('prev_batch')
  })

  test('searched by words and by type; those of other servers for users alone', async () => {
    await database.sql`update rooms set published = false`
    const room = await f.room(alice, { published: true })
    await f.send(room, alice, 'm.room.topic', { topic: 'All about WOMBLES 100%' }, { state_key: '' })
    const space = await f.room(alice, { published: true })
    await database.sql`update room_summaries set room_type = 'm.space' where room_nid = ${f.roomNid(space)}`
    const search = async (filter: object) =>
      (await f.call(bob, 'v3/publicRooms', { filter: filter as never })).body.chunk.map(
        (found: { room_id: RoomId }) => found.room_id,
      )
    expect(await search({ generic_search_term: 'wombles' })).toEqual([room])
    expect(await search({ generic_search_term: '0%' })).toEqual([room])
    expect(await search({ generic_search_term: '_' })).toEqual([])
    expect(await search({ generic_search_term: room })).toEqual([room])
    expect(await search({ room_types: ['m.space'] })).toEqual([space])
    expect(await search({ room_types: [null] })).toEqual([room])
    expect((await search({ room_types: [null, 'm.space'] })).sort()).toEqual([room, space].sort())
    expect((await f.call(undefined, 'v3/publicRooms', {})).status).toBe(401)
    expect((await f.call(undefined, 'v3/publicRooms?server=example.org')).status).toBe(200)
    expect((await f.call(undefined, 'v3/publicRooms?server=other.org')).status).toBe(401)
    expect((await f.call(undefined, 'v3/publicRooms?since=x')).status).toBe(400)
  })
})
