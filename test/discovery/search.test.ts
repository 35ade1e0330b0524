import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { discoveryRoutes } from '../../functions/client/discovery/routes.ts'
import { indexOnce } from '../../functions/main/discovery/indexing.ts'
import type { RoomId, UserId } from '../../shared/matrix/ids.ts'
import type { JsonObject } from '../../shared/matrix/json-value.ts'
import { type TestDatabase, testDatabase } from '../support/database.ts'
import { type RoomFixture, roomFixture } from '../support/room-fixture.ts'

const alice = '@alice:example.org' as UserId
const bob = '@bob:example.org' as UserId

// The locale that a database may have at worst: it knows no letters but ASCII's.
let database: TestDatabase
let f: RoomFixture
beforeAll(async () => {
  database = await testDatabase({ create: "template template0 locale 'C'" })
  f = await roomFixture(database, discoveryRoutes)
})
afterAll(async () => {
  await f.close()
  await database.drop()
})

async function search(user: UserId, room_events: JsonObject, next?: string) {
  await indexOnce(database.sql)
  const path = next ? `v3/search?next_batch=${encodeURIComponent(next)}` : 'v3/search'
  const { status, body } = await f.call(user, path, { search_categories: { room_events } })
  return { status, body, found: body.search_categories?.room_events }
}
const bodies = (found: { results: { result: { content: { body: string } } }[] }) =>
  found.results.map(({ result }) => result.content.body)

describe('client-server-api POST /search', () => {
  test('messages of the rooms that one is in, by words in any case and order', async () => {
    const room = await f.room(alice)
    const other = await f.room(bob)
    await f.message(room, alice, 'The Quick brown Fox')
    await f.message(room, alice, 'the lazy dog')
    await f.message(other, bob, 'another quick fox')
    const { status, found } = await search(alice, { search_term: 'fox quick' })
    expect(status).toBe(200)
    expect(found).toMatchObject({ count: 1, highlights: ['Quick', 'Fox'] })
    expect(found.results[0]).toMatchObject({ rank: expect.any(Number), result: { room_id: room, sender: alice } })
    expect(bodies(found)).toEqual(['The Quick brown Fox'])
    expect(found).not.toHaveProperty('next_batch')
  })

  test.each([
    { text: 'Grüße aus MÜNCHEN', term: 'münchen' },
    { text: 'Grusse aus Munchen', term: 'München' },
    { text: 'Привет МИР', term: 'мир' },
    { text: '東京に行きました', term: '東京' },
    { text: 'Ωραία ΑΘΗΝΑ', term: 'αθηνα' },
  ])('$term is found in $text, whatever the locale of the database', async ({ text, term }) => {
    const user = `@${Math.random()}:example.org` as UserId
    const room = await f.room(user)
    await f.message(room, user, text)
    expect(bodies((await search(user, { search_term: term })).found)).toEqual([text])
  })

  test('names and topics, by keys', async () => {
    const user = '@keys:example.org' as UserId
    const room = await f.room(user)
    await f.send(room, user, 'm.room.name', { name: 'penguin parlour' }, { state_key: '' })
    await f.send(room, user, 'm.room.topic', { topic: 'all about penguin' }, { state_key: '' })
    await f.message(room, user, 'penguin')
    const types = async (criteria: JsonObject) =>
      (await search(user, { search_term: 'penguin', order_by: 'recent', ...criteria })).found.results.map(
        (one: { result: { type: string } }) => one.result.type,
      )
    expect(await types({})).toEqual(['m.room.message', 'm.room.topic', 'm.room.name'])
    expect(await types({ keys: ['content.name'] })).toEqual(['m.room.name'])
    expect(await types({ filter: { types: ['m.room.topic'] } })).toEqual(['m.room.topic'])
    expect(await types({ filter: { not_senders: [user] } })).toEqual([])
    await f.message(room, user, 'penguin picture', { url: 'mxc://example.org/a' })
    expect(await types({ filter: { contains_url: true } })).toEqual(['m.room.message'])
    await f.message(room, user, 'penguin', { 'm.relates_to': { rel_type: 'm.thread', event_id: '$penguin' } })
    expect(await types({ filter: { 'org.matrix.msc3874.rel_types': ['m.thread'] } })).toEqual(['m.room.message'])
    expect(await types({ filter: { 'org.matrix.msc3874.not_rel_types': ['m.thread'] } })).toHaveLength(4)
  })

  test('only what one may see: hidden history, the time after leaving, rooms forgotten', async () => {
    const [owner, guest] = ['@owner:example.org', '@visitor:example.org'] as [UserId, UserId]
    const room = await f.room(owner, { history_visibility: 'joined' })
    await f.message(room, owner, 'walrus before')
    await f.member(room, guest, 'join')
    await f.message(room, owner, 'walrus during')
    expect(bodies((await search(guest, { search_term: 'walrus' })).found)).toEqual(['walrus during'])
    await f.member(room, guest, 'leave')
    await f.message(room, owner, 'walrus after')
    expect(bodies((await search(guest, { search_term: 'walrus' })).found)).toEqual(['walrus during'])
    await database.sql`update memberships set forgotten = true where user_id = ${guest}`
    expect((await search(guest, { search_term: 'walrus' })).found).toEqual({ count: 0, highlights: [], results: [] })
  })

  test('redacted messages are gone at once, whatever the index knows', async () => {
    const user = '@redactor:example.org' as UserId
    const room = await f.room(user)
    const first = await f.message(room, user, 'secret giraffe')
    await f.message(room, user, 'giraffe')
    await search(user, { search_term: 'giraffe' })
    await f.send(room, user, 'm.room.redaction', {}, { redacts: first })
    const { body } = await f.call(user, 'v3/search', { search_categories: { room_events: { search_term: 'giraffe' } } })
    expect(bodies(body.search_categories.room_events)).toEqual(['giraffe'])
    await indexOnce(database.sql)
    expect(
      await database.sql`select from event_search s join events e using (event_nid)
      where e.redacted_by_nid is not null`,
    ).toHaveLength(0)
  })

  test('what an erased user wrote is not found by who came later', async () => {
    const [gone, late] = ['@gone:example.org', '@late:example.org'] as [UserId, UserId]
    const room = await f.room(gone, { history_visibility: 'shared' })
    await f.message(room, gone, 'hippo memories')
    await database.sql`insert into users (user_id, created_ts, deactivated, erased) values (${gone}, 0, true, true)`
    await f.member(room, late, 'join')
    expect((await search(late, { search_term: 'hippo' })).found.results).toEqual([])
  })

  test.each(['recent', 'rank'])('page by page, ordered by %s', async (order_by) => {
    const user = `@pages-${order_by}:example.org` as UserId
    const room = await f.room(user)
    for (let i = 1; i <= 5; i++) await f.message(room, user, `zebra ${'and more '.repeat(5 - i)}${i}`)
    const pages: string[][] = []
    let next: string | undefined
    do {
      const { found } = await search(user, { search_term: 'zebra', order_by, filter: { limit: 2 } }, next)
      expect(found.count).toBe(5)
      pages.push(bodies(found).map((body) => body.slice(-1)))
      next = found.next_batch
    } while (next)
    expect(pages).toEqual([['5', '4'], ['3', '2'], ['1']])
    expect((await search(user, { search_term: 'zebra', order_by }, 'nonsense')).status).toBe(400)
  })

  test('context: events before and after, tokens, profiles', async () => {
    const user = '@context:example.org' as UserId
    const room = await f.room(user)
    const member = { membership: 'join', displayname: 'Con Text' }
    await f.send(room, user, 'm.room.member', member, { state_key: user })
    for (const body of ['one', 'two', 'the lion', 'four', 'five']) await f.message(room, user, body)
    const { found } = await search(user, {
      search_term: 'lion',
      event_context: { before_limit: 1, after_limit: 5, include_profile: true },
    })
    const { context } = found.results[0]
    const text = (events: { content: { body: string } }[]) => events.map((event) => event.content.body)
    expect(text(context.events_before)).toEqual(['two'])
    expect(text(context.events_after)).toEqual(['four', 'five'])
    expect(context).toMatchObject({ start: expect.any(String), end: expect.any(String) })
    expect(context.profile_info).toEqual({ [user]: { displayname: 'Con Text' } })
  })

  test('groups with their own pages, and the state of rooms', async () => {
    const user = '@groups:example.org' as UserId
    const [one, two] = [await f.room(user), await f.room(user)]
    const a = await f.message(one, user, 'otter 1')
    const b = await f.message(two, user, 'otter 2')
    const c = await f.message(one, user, 'otter 3')
    const criteria = {
      search_term: 'otter',
      order_by: 'recent',
      filter: { limit: 2 },
      groupings: { group_by: [{ key: 'room_id' }, { key: 'sender' }] },
      include_state: true,
    }
    const { found } = await search(user, criteria)
    expect(found.groups.room_id).toMatchObject({
      [one]: { order: 0, results: [c] },
      [two]: { order: 1, results: [b] },
    })
    expect(found.groups.sender).toEqual({ [user]: { order: 0, results: [c, b] } })
    expect(Object.keys(found.state)).toEqual([one, two])
    expect(found.state[one].map((event: { type: string }) => event.type)).toContain('m.room.create')
    const more = await search(user, criteria, found.groups.room_id[one].next_batch)
    expect(more.found.results.map((x: { result: { event_id: string } }) => x.result.event_id)).toEqual([a])
  })

  test('a room that was replaced is searched with the one that replaced it', async () => {
    const user = '@upgrade:example.org' as UserId
    const old = await f.room(user)
    await f.message(old, user, 'heron old')
    const room = await f.room(user)
    const create = { room_version: '11', predecessor: { room_id: old, event_id: '$x' } }
    await f.send(room, user, 'm.room.create', create, { state_key: '' })
    await f.message(room, user, 'heron new')
    const { found } = await search(user, { search_term: 'heron', order_by: 'recent', filter: { rooms: [room] } })
    expect(bodies(found)).toEqual(['heron new', 'heron old'])
    const back = await search(user, { search_term: 'heron', filter: { rooms: [old] } })
    expect(bodies(back.found)).toEqual(['heron old'])
  })

  test('an index that is made anew finds everything again, newest first', async () => {
    const user = '@anew:example.org' as UserId
    const room: RoomId = await f.room(user)
    await f.message(room, user, 'badger')
    await search(user, { search_term: 'badger' })
    await database.sql`delete from event_search`
    await database.sql`update index_cursors set backfill = events_position::text where name = 'messages'`
    while (await indexOnce(database.sql));
    expect(bodies((await search(user, { search_term: 'badger' })).found)).toEqual(['badger'])
  })

  test.each([
    [{ search_term: 5 }],
    [{}],
    [{ search_term: 'x', order_by: 'size' }],
    [{ search_term: 'x', keys: ['content.secret'] }],
    [{ search_term: 'x', filter: { limit: -1 } }],
    [{ search_term: 'x', groupings: { group_by: [{ key: 'type' }] } }],
  ])('%o is answered with 400', async (criteria) => {
    expect((await search(alice, criteria as JsonObject)).status).toBe(400)
  })
  test('a search for nothing finds nothing, and without a category there is no answer in it', async () => {
    expect((await search(alice, { search_term: ' … ' })).found.results).toEqual([])
    expect((await f.call(alice, 'v3/search', { search_categories: {} })).body).toEqual({ search_categories: {} })
  })
})
