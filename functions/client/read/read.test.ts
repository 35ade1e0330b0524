import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { EventId, RoomId, UserId } from '../../../shared/matrix/ids.ts'
import type { JsonObject } from '../../../shared/matrix/json-value.ts'
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
  readonly type: string
  readonly state_key?: string
  readonly content: JsonObject
  readonly unsigned: JsonObject
}
const ids = (events: readonly Shown[]) => events.map((event) => event.event_id)
const bodies = (events: readonly Shown[]) => events.flatMap((event) => (event.content.body ? [event.content.body] : []))

function messages(user: UserId, room: RoomId, query: Record<string, string>) {
  return f.call(user, `v3/rooms/${encodeURIComponent(room)}/messages?${new URLSearchParams(query)}`)
}
const inRoom = (user: UserId, room: RoomId, path: string) =>
  f.call(user, `v3/rooms/${encodeURIComponent(room)}/${path}`)

async function say(room: RoomId, user: UserId, ...texts: string[]): Promise<EventId[]> {
  return f.sendMany(
    room,
    texts.map((body) => ({ sender: user, type: 'm.room.message', content: { msgtype: 'm.text', body } })),
  )
}

describe('client-server-api GET /messages', () => {
  test('backwards from now, page by page to the beginning', async () => {
    const room = await f.room(alice)
    const sent = await say(room, alice, '1', '2', '3', '4', '5')
    const found: EventId[] = []
    let from: string | undefined
    let pages = 0
    do {
      const { status, body } = await messages(alice, room, { dir: 'b', limit: '3', ...(from ? { from } : {}) })
      expect(status).toBe(200)
      if (from) expect(body.start).toBe(from)
      found.push(...ids(body.chunk))
      from = body.end
      pages++
    } while (from)
    expect(pages).toBe(3)
    expect(found.slice(0, 5)).toEqual(sent.toReversed())
    expect(found).toHaveLength(7)
  })

  test('forwards between two tokens', async () => {
    const room = await f.room(alice)
    await say(room, alice, 'before')
    const from = `s1_${f.position()}_0_0_0_0_0`
    const sent = await say(room, alice, '1', '2')
    const to = `p1_${f.position()}`
    await say(room, alice, 'after')
    const { body } = await messages(alice, room, { dir: 'f', from, to })
    expect(ids(body.chunk)).toEqual(sent)
    expect(body.end).toBeUndefined()
    expect(ids((await messages(alice, room, { dir: 'b', from: to, to: from })).body.chunk)).toEqual(sent.toReversed())
  })

  test('a page that a filter left something out of tells where it ended; the one after it has nothing, and is the last', async () => {
    const room = await f.room(alice)
    await say(room, alice, '1')
    await f.sendMany(room, [{ sender: alice, type: 'org.test', content: {} }])
    const filter = '{"types":["org.test"]}'
    const { body: first } = await messages(alice, room, { dir: 'b', filter })
    expect(first.chunk).toHaveLength(1)
    const { body: next } = await messages(alice, room, { dir: 'b', filter, from: String(first.end) })
    expect(next).toMatchObject({ chunk: [], start: first.end })
    expect(next).not.toHaveProperty('end')
  })

  test('an exactly full last page says that it is the last', async () => {
    const room = await f.room(alice)
    const { body } = await messages(alice, room, { dir: 'b', limit: '2' })
    expect(body.chunk).toHaveLength(2)
    expect(body).not.toHaveProperty('end')
  })

  test.each([
    { query: {}, errcode: 'M_MISSING_PARAM' },
    { query: { dir: 'x' }, errcode: 'M_INVALID_PARAM' },
    { query: { dir: 'b', limit: '-1' }, errcode: 'M_INVALID_PARAM' },
    { query: { dir: 'b', from: 'nonsense' }, errcode: 'M_INVALID_PARAM' },
    { query: { dir: 'b', filter: '{' }, errcode: 'M_NOT_JSON' },
    { query: { dir: 'b', filter: '{"types":1}' }, errcode: 'M_BAD_JSON' },
  ])('$query is answered with 400 $errcode', async ({ query, errcode }) => {
    const room = await f.room(alice)
    expect(await messages(alice, room, query as Record<string, string>)).toMatchObject({
      status: 400,
      body: { errcode },
    })
  })

  test.each([
    { why: 'there is no such room', room: '!none:example.org' },
    { why: 'the user was never in it', room: undefined },
  ])('403 where $why', async ({ room }) => {
    const there = (room as RoomId | undefined) ?? (await f.room(alice))
    expect(await messages(bob, there, { dir: 'b' })).toMatchObject({ status: 403, body: { errcode: 'M_FORBIDDEN' } })
  })

  test('who left sees up to the leave, forwards and backwards, and nothing once it is forgotten', async () => {
    const room = await f.room(alice, { history_visibility: 'shared' })
    await f.member(room, bob, 'join')
    await say(room, alice, 'before')
    const left = await f.member(room, bob, 'leave')
    const token = `p1_${f.position()}`
    await say(room, alice, 'after')
    const back = await messages(bob, room, { dir: 'b', limit: '2', from: `p1_${f.position()}` })
    expect(ids(back.body.chunk)[0]).toBe(left)
    expect(bodies(back.body.chunk)).toEqual(['before'])
    expect((await messages(bob, room, { dir: 'f', from: token })).body.chunk).toEqual([])
    await database.sql`update memberships set forgotten = true where user_id = ${bob} and room_nid = ${f.roomNid(room)}`
    expect((await messages(bob, room, {})).status).toBe(403)
  })

  test('an invite, and a rejected one, open nothing', async () => {
    const room = await f.room(alice, { history_visibility: 'shared' })
    await f.member(room, bob, 'invite', alice)
    expect((await messages(bob, room, { dir: 'b' })).status).toBe(403)
    await f.member(room, bob, 'leave')
    expect((await messages(bob, room, { dir: 'b' })).status).toBe(403)
  })

  test('who left, was invited again and declined still sees up to the first leave', async () => {
    const room = await f.room(alice, { history_visibility: 'shared' })
    await f.member(room, bob, 'join')
    await say(room, alice, 'with bob')
    await f.member(room, bob, 'leave')
    await say(room, alice, 'without bob')
    await f.member(room, bob, 'invite', alice)
    expect(bodies((await messages(bob, room, { dir: 'b' })).body.chunk)).toEqual(['with bob'])
    await f.member(room, bob, 'leave')
    expect(bodies((await messages(bob, room, { dir: 'b' })).body.chunk)).toEqual(['with bob'])
  })

  test.each([
    { types: ['m.room.message'], expected: ['one', 'url', 'from bob'] },
    { types: ['m.*.message'], not_senders: [bob], expected: ['one', 'url'] },
    { types: ['m.room.message'], senders: [bob], expected: ['from bob'] },
    { contains_url: true, expected: ['url'] },
    { contains_url: false, types: ['m.room.message'], expected: ['one', 'from bob'] },
    { not_types: ['m.room.*'], expected: [] },
    { types: [], expected: [] },
    { related_by_rel_types: ['m.thread'], expected: ['one'] },
    { related_by_rel_types: ['m.thread'], related_by_senders: [bob], expected: [] },
    { related_by_senders: [alice], expected: ['one'] },
    { rooms: ['!other:example.org'], expected: [] },
  ])('filter %j', async ({ expected, ...filter }) => {
    const room = await f.room(alice)
    await f.member(room, bob, 'join')
    const one = await f.message(room, alice, 'one')
    await f.message(room, alice, 'url', { url: 'mxc://example.org/a' })
    await f.message(room, bob, 'from bob')
    await f.send(room, alice, 'm.reaction', { 'm.relates_to': { rel_type: 'm.thread', event_id: one } })
    const { body } = await messages(alice, room, { dir: 'f', filter: JSON.stringify(filter), limit: '50' })
    expect(bodies(body.chunk)).toEqual(expected)
  })

  test.each([
    { rel_types: ['m.thread'], expected: ['in the thread'] },
    { rel_types: ['m.reference', 'm.thread'], expected: ['in the thread', 'a reference'] },
    { rel_types: ['m.thread'], not_rel_types: ['m.thread'], expected: [] },
    { rel_types: [], expected: [] },
    { not_rel_types: ['m.thread'], expected: ['one', 'a reference'] },
    { not_rel_types: ['m.thread', 'm.reference'], expected: ['one'] },
    { not_rel_types: [], expected: ['one', 'in the thread', 'a reference'] },
  ])('MSC3874: filter %j', async ({ expected, rel_types, not_rel_types }) => {
    const room = await f.room(alice)
    const event_id = await f.message(room, alice, 'one')
    await f.message(room, alice, 'in the thread', { 'm.relates_to': { rel_type: 'm.thread', event_id } })
    await f.message(room, alice, 'a reference', { 'm.relates_to': { rel_type: 'm.reference', event_id } })
    const filter = JSON.stringify({
      types: ['m.room.message'],
      'org.matrix.msc3874.rel_types': rel_types,
      'org.matrix.msc3874.not_rel_types': not_rel_types,
    })
    for (const limit of ['50', '1']) {
      const { body } = await messages(alice, room, { dir: 'f', filter, limit })
      expect(bodies(body.chunk)).toEqual(expected.slice(0, Number(limit)))
    }
  })

  test('lazy_load_members gives the senders of the page, as they were', async () => {
    const room = await f.room(alice)
    await f.member(room, bob, 'join')
    await f.member(room, carol, 'join')
    const from = `p1_${f.position()}`
    await say(room, carol, 'hello')
    const to = `p1_${f.position()}`
    await f.member(room, carol, 'leave')
    const { body } = await messages(alice, room, { dir: 'f', from, to, filter: '{"lazy_load_members":true}' })
    expect(body.state).toMatchObject([{ type: 'm.room.member', state_key: carol, content: { membership: 'join' } }])
  })

  test('messages of ignored users are left out, their state events are not', async () => {
    const room = await f.room(alice)
    await f.member(room, bob, 'join')
    await say(room, bob, 'spam')
    await say(room, alice, 'ham')
    await f.committer.commit({
      account_data: [
        {
          user_id: carol,
          room_nid: 0,
          type: 'm.ignored_user_list',
          content: JSON.stringify({ ignored_users: { [bob]: {} } }),
        },
      ],
    })
    await f.member(room, carol, 'join')
    const { body } = await messages(carol, room, { dir: 'b' })
    expect(bodies(body.chunk)).toEqual(['ham'])
    expect(body.chunk.some((event: Shown) => event.state_key === bob)).toBe(true)
  })
})

describe('client-server-api room history visibility', () => {
  test.each([
    { visibility: 'world_readable', seen: ['before', 'invited', 'joined', 'left'] },
    { visibility: 'shared', seen: ['before', 'invited', 'joined'] },
    { visibility: 'invited', seen: ['invited', 'joined'] },
    { visibility: 'joined', seen: ['joined'] },
  ])('$visibility: one who was invited, joined and left sees $seen', async ({ visibility, seen }) => {
    const room = await f.room(alice, { history_visibility: visibility })
    const [before] = await say(room, alice, 'before')
    await f.member(room, bob, 'invite', alice)
    await say(room, alice, 'invited')
    await f.member(room, bob, 'join')
    await say(room, alice, 'joined')
    const read = async () => bodies((await messages(bob, room, { dir: 'f', limit: '50' })).body.chunk)
    expect(await read()).toEqual(seen.filter((body) => body !== 'left'))
    expect((await inRoom(bob, room, `event/${before}`)).status).toBe(seen.includes('before') ? 200 : 404)
    await f.member(room, bob, 'leave')
    await say(room, alice, 'left')
    expect(await read()).toEqual(seen)
  })

  test.each([
    { visibility: 'world_readable', status: 200 },
    { visibility: 'shared', status: 403 },
  ])('a stranger reads a room that is $visibility: $status', async ({ visibility, status }) => {
    const room = await f.room(alice, { history_visibility: visibility })
    const [id] = await say(room, alice, 'hello')
    expect((await messages(bob, room, { dir: 'b' })).status).toBe(status)
    expect((await inRoom(bob, room, 'state')).status).toBe(status)
    expect((await inRoom(bob, room, 'members')).status).toBe(status)
    expect((await inRoom(bob, room, `context/${id}`)).status).toBe(status)
    expect((await inRoom(bob, room, `event/${id}`)).status).toBe(status === 200 ? 200 : 404)
  })

  test('a change applies from its own place on, and is itself seen from either side', async () => {
    const room = await f.room(alice, { history_visibility: 'joined' })
    await say(room, alice, 'hidden')
    const opened = await f.send(
      room,
      alice,
      'm.room.history_visibility',
      { history_visibility: 'shared' },
      { state_key: '' },
    )
    await say(room, alice, 'open')
    const joined = await f.member(room, bob, 'join')
    const { body } = await messages(bob, room, { dir: 'f', limit: '50' })
    expect(ids(body.chunk)).toContain(opened)
    expect(ids(body.chunk)).toContain(joined)
    expect(bodies(body.chunk)).toEqual(['open'])
    // What was learnt of the room while all was open must not outlive a change.
    await f.send(room, alice, 'm.room.history_visibility', { history_visibility: 'joined' }, { state_key: '' })
    await f.member(room, bob, 'leave')
    await say(room, alice, 'secret')
    await f.member(room, bob, 'join')
    expect(bodies((await messages(bob, room, { dir: 'f', limit: '50' })).body.chunk)).toEqual(['open'])
  })

  test('unsigned.membership is what the reader was at the event', async () => {
    const room = await f.room(alice)
    await say(room, alice, 'before')
    await f.member(room, bob, 'join')
    await say(room, alice, 'after')
    const { body } = await messages(bob, room, { dir: 'f', limit: '50' })
    const memberships = body.chunk.map((event: Shown) => event.unsigned.membership)
    expect(memberships).toEqual(['leave', 'leave', 'leave', 'join', 'join'])
  })

  test('pages through hidden history come to an end', async () => {
    const room = await f.room(alice, { history_visibility: 'joined' })
    await say(room, alice, ...Array.from({ length: 1500 }, (_, i) => `${i}`))
    await f.member(room, bob, 'join')
    const first = await messages(bob, room, { dir: 'b', limit: '5' })
    expect(first.body.chunk).toHaveLength(1)
    let end: string | undefined = first.body.end
    expect(end).toBeDefined()
    for (let pages = 0; end !== undefined && pages < 10; pages++) {
      const { body } = await messages(bob, room, { dir: 'b', limit: '5', from: end })
      expect(bodies(body.chunk)).toEqual([])
      end = body.end
    }
    expect(end).toBeUndefined()
  })
})

describe('client-server-api GET /event and /context', () => {
  test('the event in full, with a transaction id for the device that sent it', async () => {
    const room = await f.room(alice)
    await f.member(room, bob, 'join')
    const id = await f.message(room, alice, 'hello', {}, { txn_id: 't1', device_id: `D${alice}` })
    const { body } = await inRoom(alice, room, `event/${id}`)
    expect(body).toMatchObject({ event_id: id, room_id: room, sender: alice, unsigned: { transaction_id: 't1' } })
    expect((await inRoom(bob, room, `event/${id}`)).body.unsigned).not.toHaveProperty('transaction_id')
    expect((await f.call(alice, `v3/events/${id}`)).body.event_id).toBe(id)
    expect((await f.call(carol, `v3/events/${id}`)).status).toBe(404)
  })

  test('an event of another room is not found', async () => {
    const [one, two] = [await f.room(alice), await f.room(alice)]
    const [id] = await say(one, alice, 'hello')
    expect((await inRoom(alice, two, `event/${id}`)).status).toBe(404)
    expect((await inRoom(alice, two, `context/${id}`)).status).toBe(404)
    expect((await inRoom(alice, two, 'event/$none')).status).toBe(404)
  })

  test('a redacted event says why', async () => {
    const room = await f.room(alice)
    const [id] = await say(room, alice, 'oops')
    const redaction = await f.send(
      room,
      alice,
      'm.room.redaction',
      { redacts: id as string },
      { redacts: id as EventId },
    )
    const { body } = await inRoom(alice, room, `event/${id}`)
    expect(body.content).toEqual({})
    expect(body.unsigned.redacted_because).toMatchObject({ event_id: redaction, redacts: id, room_id: room })
  })

  test('context: around the event, with tokens that go on from there', async () => {
    const room = await f.room(alice)
    const sent = await say(room, alice, '1', '2', '3', '4', '5', '6', '7')
    const { body } = await inRoom(alice, room, `context/${sent[3]}?limit=4`)
    expect(ids(body.events_before)).toEqual([sent[2], sent[1]])
    expect(body.event.event_id).toBe(sent[3])
    expect(ids(body.events_after)).toEqual([sent[4], sent[5]])
    expect(body.state.map((event: Shown) => event.type).sort()).toEqual(['m.room.create', 'm.room.member'])
    expect(ids((await messages(alice, room, { dir: 'b', from: body.start, limit: '1' })).body.chunk)).toEqual([sent[0]])
    expect(ids((await messages(alice, room, { dir: 'f', from: body.end })).body.chunk)).toEqual([sent[6]])
  })

  test('context: limit 0 gives the event alone; the filter spares it', async () => {
    const room = await f.room(alice)
    const sent = await say(room, alice, '1', '2', '3')
    const none = (await inRoom(alice, room, `context/${sent[1]}?limit=0`)).body
    expect([none.events_before, none.event.event_id, none.events_after]).toEqual([[], sent[1], []])
    const filter = encodeURIComponent('{"types":["m.room.create"]}')
    const filtered = (await inRoom(alice, room, `context/${sent[1]}?filter=${filter}`)).body
    expect(filtered.event.event_id).toBe(sent[1])
    expect(filtered.events_before.map((event: Shown) => event.type)).toEqual(['m.room.create'])
    expect(filtered.state.map((event: Shown) => event.type)).toEqual(['m.room.create'])
  })

  test('context: the state is that of the last event shown, with the members that are needed', async () => {
    const room = await f.room(alice)
    await f.member(room, bob, 'join')
    await f.send(room, alice, 'm.room.name', { name: 'old' }, { state_key: '' })
    const [id] = await say(room, alice, 'hello')
    await f.send(room, alice, 'm.room.name', { name: 'new' }, { state_key: '' })
    const filter = encodeURIComponent('{"lazy_load_members":true}')
    for (const [limit, name, members] of [
      ['0', 'old', 1],
      ['10', 'new', 2],
    ] as const) {
      const { body } = await inRoom(alice, room, `context/${id}?limit=${limit}&filter=${filter}`)
      const state = body.state as Shown[]
      expect(state.find((event) => event.type === 'm.room.name')?.content.name).toBe(name)
      expect(state.filter((event) => event.type === 'm.room.member')).toHaveLength(members)
    }
  })
})

describe('client-server-api room state', () => {
  test('all of it, one key, one event', async () => {
    const room = await f.room(alice)
    await f.send(room, alice, 'm.room.name', { name: 'Name' }, { state_key: '' })
    const { body } = await inRoom(alice, room, 'state')
    expect(body.map((event: Shown) => event.type).sort()).toEqual(['m.room.create', 'm.room.member', 'm.room.name'])
    for (const path of ['state/m.room.name', 'state/m.room.name/']) {
      expect((await inRoom(alice, room, path)).body).toEqual({ name: 'Name' })
    }
    const event = (await inRoom(alice, room, 'state/m.room.name/?format=event')).body
    expect(event).toMatchObject({ room_id: room, sender: alice, content: { name: 'Name' } })
    expect((await inRoom(alice, room, `state/m.room.member/${alice}`)).body).toEqual({ membership: 'join' })
    expect((await inRoom(alice, room, 'state/m.room.topic')).status).toBe(404)
    expect((await inRoom(bob, room, 'state/m.room.name')).status).toBe(403)
  })

  test.each(['a/b', 'c%2Fd', '\u0000'])('a state key may be %j', async (key) => {
    const room = await f.room(alice)
    const state_key = decodeURIComponent(key)
    await f.send(room, alice, 'org.example', { is: 'here' }, { state_key })
    const path = key === '\u0000' ? '%00' : key
    expect((await inRoom(alice, room, `state/org.example/${path}`)).body).toEqual({ is: 'here' })
  })

  test('a replaced state event tells what it replaced', async () => {
    const room = await f.room(alice)
    const old = await f.send(room, alice, 'm.room.name', { name: 'old' }, { state_key: '' })
    await f.send(room, alice, 'm.room.name', { name: 'new' }, { state_key: '' })
    const { body } = await inRoom(alice, room, 'state/m.room.name?format=event')
    expect(body.unsigned).toMatchObject({ prev_content: { name: 'old' }, prev_sender: alice, replaces_state: old })
  })

  test('who left sees the state and the members of then', async () => {
    const room = await f.room(alice)
    await f.member(room, bob, 'join')
    await f.send(room, alice, 'm.room.name', { name: 'before' }, { state_key: '' })
    await f.member(room, bob, 'leave')
    await f.send(room, alice, 'm.room.name', { name: 'after' }, { state_key: '' })
    await f.member(room, carol, 'join')
    expect((await inRoom(bob, room, 'state/m.room.name')).body).toEqual({ name: 'before' })
    expect((await inRoom(alice, room, 'state/m.room.name')).body).toEqual({ name: 'after' })
    const state = (await inRoom(bob, room, 'state')).body as Shown[]
    expect(state.find((event) => event.type === 'm.room.name')?.content.name).toBe('before')
    const members = (await inRoom(bob, room, 'members')).body.chunk as Shown[]
    expect(members.map((event) => `${event.state_key} ${event.content.membership}`).sort()).toEqual([
      `${alice} join`,
      `${bob} leave`,
    ])
    expect((await inRoom(bob, room, 'joined_members')).status).toBe(403)
  })

  test('members by membership, and at a point', async () => {
    const room = await f.room(alice)
    await f.member(room, bob, 'join')
    const at = `p1_${f.position()}`
    await f.member(room, bob, 'leave')
    await f.member(room, carol, 'join')
    const users = async (query: string) =>
      ((await inRoom(alice, room, `members?${query}`)).body.chunk as Shown[]).map((event) => event.state_key).sort()
    expect(await users('')).toEqual([alice, bob, carol])
    expect(await users('membership=join')).toEqual([alice, carol])
    expect(await users('not_membership=join')).toEqual([bob])
    expect(await users('membership=leave&not_membership=leave')).toEqual([alice, bob, carol])
    expect(await users(`at=${at}`)).toEqual([alice, bob])
    expect(await users('at=p1_0')).toEqual([alice])
    expect((await inRoom(alice, room, 'members?membership=nonsense')).status).toBe(400)
    expect(Object.keys((await inRoom(alice, room, 'joined_members')).body.joined).sort()).toEqual([alice, carol])
    expect((await inRoom(alice, room, 'joined_members')).body.joined[alice]).toEqual({
      display_name: null,
      avatar_url: null,
    })
  })

  test('a large room comes whole', async () => {
    const room = await f.room(alice)
    const users = Array.from({ length: 1100 }, (_, i) => `@u${i}:example.org` as UserId)
    await f.sendMany(
      room,
      users.map((user) => ({
        sender: user,
        type: 'm.room.member',
        content: { membership: 'join' },
        options: { state_key: user },
      })),
    )
    const { body } = await inRoom(alice, room, 'members')
    expect(new Set(body.chunk.map((event: Shown) => event.state_key)).size).toBe(1101)
    expect((await inRoom(alice, room, 'state')).body).toHaveLength(1102)
  })

  test('joined_rooms', async () => {
    const dave = '@dave:example.org' as UserId
    const [one, two] = [await f.room(dave), await f.room(dave)]
    await f.member(two, dave, 'leave')
    expect((await f.call(dave, 'v3/joined_rooms')).body).toEqual({ joined_rooms: [one] })
  })
})
