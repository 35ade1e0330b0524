/** The extensions of sliding sync, each by its proposal. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { RoomId, UserId } from '../../../../shared/matrix/ids.ts'
import { parsePaginationToken } from '../../../../shared/streams/token.ts'
import { type TestDatabase, testDatabase } from '../../../../test/support/database.ts'
import { type SyncAnswer, type SyncFixture, syncFixture } from '../../../../test/support/sync-fixture.ts'

let database: TestDatabase
let server: SyncFixture
let users = 0
let rooms = 0
const user = (name: string) => `@${name}${++users}:test` as UserId

beforeAll(async () => {
  database = await testDatabase()
  server = await syncFixture(database)
})
afterAll(async () => {
  server.close()
  await database.drop()
})

async function created(creator: UserId): Promise<RoomId> {
  const id = await server.room(`!extension${++rooms}`)
  await server.send({ room: id, type: 'm.room.create', state_key: '', sender: creator, content: {} })
  await server.member(id, creator, 'join')
  return id
}
const list = { timeline_limit: 10, required_state: [], ranges: [[0, 99]] }
const body = (extensions: object, lists: object = { all: list }) => ({ lists, extensions })
const typing = (room_id: RoomId, user_ids: UserId[]) =>
  server.replication.publishEphemeral('typing', [{ room_id, user_ids }])

describe('MSC3959 account_data', () => {
  const asked = (more: object = {}) => body({ account_data: { enabled: true, ...more } })
  test('everything first, then what changed', async () => {
    const alice = user('alice')
    const id = await created(alice)
    await server.accountData(alice, 'org.global', { a: 1 })
    await server.accountData(alice, 'm.tag', { tags: {} }, id)
    const first = await server.sliding(alice, asked())
    const { account_data } = first.extensions
    expect(account_data.global.map((e: { type: string }) => e.type).sort()).toEqual(['m.push_rules', 'org.global'])
    expect(account_data.rooms).toEqual({ [id]: [{ type: 'm.tag', content: { tags: {} } }] })
    const second = await server.sliding(alice, { ...asked(), pos: first.pos })
    expect(second.extensions).toEqual({})
    await server.accountData(alice, 'org.global', { a: 2 })
    await server.accountData(alice, 'm.fully_read', { event_id: '$x' }, id)
    const third = await server.sliding(alice, { ...asked(), pos: second.pos })
    expect(third.extensions.account_data).toEqual({
      global: [{ type: 'org.global', content: { a: 2 } }],
      rooms: { [id]: [{ type: 'm.fully_read', content: { event_id: '$x' } }] },
    })
    expect(third.rooms).toEqual({})
  })

  test('an extension that is asked for later tells everything then', async () => {
    const alice = user('alice')
    const id = await created(alice)
    await server.accountData(alice, 'm.tag', { tags: {} }, id)
    const first = await server.sliding(alice, body({}))
    expect(first.extensions).toEqual({})
    const second = await server.sliding(alice, { ...asked(), pos: first.pos })
    expect(Object.keys(second.extensions.account_data.rooms)).toEqual([id])
    expect(second.extensions.account_data.global).toHaveLength(1)
  })

  test('rooms by list and by subscription; what changed out of sight is told on return', async () => {
    const alice = user('alice')
    const [one, two] = [await created(alice), await created(alice)]
    for (const id of [one, two]) await server.accountData(alice, 'org.example', { a: 1 }, id)
    const lists = { first: { ...list, ranges: [[0, 0]] }, all: list }
    const ask = (more: object) => ({ ...body({ account_data: { enabled: true, ...more } }, lists) })
    const told = (answer: SyncAnswer) => Object.keys(answer.extensions.account_data?.rooms ?? {})
    expect(told(await server.sliding(alice, ask({ lists: ['first'] })))).toEqual([two])
    expect(told(await server.sliding(alice, ask({ lists: [] })))).toEqual([])
    const first = await server.sliding(alice, ask({}))
    expect(told(first).sort()).toEqual([one, two].sort())
    const narrow = { ...body({ account_data: { enabled: true } }, { first: lists.first }) }
    await server.accountData(alice, 'org.example', { a: 2 }, one)
    const second = await server.sliding(alice, { ...narrow, pos: first.pos })
    expect(told(second)).toEqual([])
    const third = await server.sliding(alice, { ...ask({}), pos: second.pos })
    expect(third.extensions.account_data.rooms[one]).toEqual([{ type: 'org.example', content: { a: 2 } }])
  })
})

describe('MSC3960 receipts', () => {
  const asked = body({ receipts: { enabled: true } })
  test("those on what is shown and one's own first, then every new one", async () => {
    const [alice, bob, carol] = [user('alice'), user('bob'), user('carol')]
    const id = await created(alice)
    for (const who of [bob, carol]) await server.member(id, who, 'join')
    const old = await server.message(id, alice, 'old')
    const last = await server.message(id, alice, 'new')
    await server.receipt({ room: id, user: bob, event_id: old })
    await server.receipt({ room: id, user: carol, event_id: last })
    await server.receipt({ room: id, user: alice, event_id: old, type: 'm.read.private' })
    const short = { ...asked, lists: { all: { ...list, timeline_limit: 1 } } }
    const first = await server.sliding(alice, short)
    const { content, type } = first.extensions.receipts.rooms[id]
    expect(type).toBe('m.receipt')
    expect(Object.keys(content[last]['m.read'])).toEqual([carol])
    expect(content[old]).toEqual({ 'm.read.private': { [alice]: { ts: server.clock.now() } } })
    await server.receipt({ room: id, user: bob, event_id: last, thread_id: 'main' })
    const second = await server.sliding(alice, { ...short, pos: first.pos })
    expect(second.extensions.receipts.rooms[id].content[last]['m.read'][bob]).toMatchObject({ thread_id: 'main' })
    expect((await server.sliding(alice, { ...short, pos: second.pos })).extensions).toEqual({})
    expect((await server.sliding(bob, asked)).extensions.receipts.rooms[id].content[old]).not.toHaveProperty(
      'm.read.private',
    )
  })

  test('what was read out of sight is told on return', async () => {
    const [alice, bob] = [user('alice'), user('bob')]
    const [id, other] = [await created(alice), await created(alice)]
    await server.member(id, bob, 'join')
    const event_id = await server.message(id, alice, 'm')
    await server.message(other, alice, 'on top')
    const first = await server.sliding(alice, asked)
    const narrow = { ...asked, lists: { all: { ...list, ranges: [[0, 0]] } } }
    await server.receipt({ room: id, user: bob, event_id })
    const second = await server.sliding(alice, { ...narrow, pos: first.pos })
    expect(second.extensions).toEqual({})
    for (const pos of [second.pos, second.pos]) {
      const third = await server.sliding(alice, { ...asked, pos })
      expect(Object.keys(third.extensions.receipts.rooms)).toEqual([id])
    }
  })
})

describe('MSC3961 typing', () => {
  const asked = body({ typing: { enabled: true } })
  test('who types, and that they stopped, also where that happened out of sight', async () => {
    const [alice, bob] = [user('alice'), user('bob')]
    const [id, other] = [await created(alice), await created(alice)]
    await server.member(id, bob, 'join')
    typing(id, [bob])
    const first = await server.sliding(alice, asked)
    expect(first.extensions.typing.rooms).toEqual({ [id]: { type: 'm.typing', content: { user_ids: [bob] } } })
    const second = await server.sliding(alice, { ...asked, pos: first.pos })
    expect(second.extensions).toEqual({})
    await server.message(other, alice, 'on top')
    const narrow = { ...asked, lists: { all: { ...list, ranges: [[0, 0]] } } }
    server.clock.advance(1_000)
    typing(id, [])
    const third = await server.sliding(alice, { ...narrow, pos: second.pos })
    expect(third.extensions).toEqual({})
    const fourth = await server.sliding(alice, { ...asked, pos: third.pos })
    expect(fourth.extensions.typing.rooms[id].content.user_ids).toEqual([])
    const waiting = server.sliding(alice, { ...asked, pos: fourth.pos, timeout: 30_000 })
    await expect.poll(() => server.role().deps.live.peek(alice)?.waiters.size).toBe(1)
    server.clock.advance(1_000)
    typing(id, [bob])
    expect((await waiting).extensions.typing.rooms[id].content.user_ids).toEqual([bob])
  })
})

describe('MSC3884 e2ee and MSC3885 to_device', () => {
  const asked = body({ e2ee: { enabled: true }, to_device: { enabled: true, since: 'd0', limit: 2 } }, {})
  test('without messages or keys, and who came in and went is told', async () => {
    const [alice, bob] = [user('alice'), user('bob')]
    const id = await created(alice)
    const first = await server.sliding(alice, asked)
    expect(first.extensions).toEqual({
      e2ee: { device_one_time_keys_count: { signed_curve25519: 0 }, device_unused_fallback_key_types: [] },
      to_device: { next_batch: 'd0', events: [] },
    })
    await server.member(id, bob, 'join')
    const second = await server.sliding(alice, { ...asked, pos: first.pos, timeout: 1_000 })
    expect(second.extensions.e2ee.device_lists).toEqual({ changed: [bob], left: [] })
    await server.member(id, bob, 'leave')
    const third = await server.sliding(alice, { ...asked, pos: second.pos })
    expect(third.extensions.e2ee.device_lists).toEqual({ changed: [], left: [bob] })
  })

  test('an inbox that has messages answers at once, and again until the client says that it has them', async () => {
    const alice = user('alice')
    const first = await server.sliding(alice, asked)
    const waiting = server.sliding(alice, { ...asked, pos: first.pos, timeout: 30_000 })
    await expect.poll(() => server.role().deps.live.peek(alice)?.waiters.size).toBe(1)
    for (const n of [1, 2, 3]) await server.toDevice(alice, { n })
    const { pos, extensions } = await waiting
    const numbers = (answer: SyncAnswer) =>
      answer.extensions.to_device.events.map((e: { content: object }) => e.content)
    expect(extensions.to_device.events[0]).toMatchObject({ type: 'm.x', sender: '@x:test', content: { n: 1 } })
    // Its place does not depend on the connection's.
    const again = await server.sliding(alice, { ...asked, pos, timeout: 30_000 })
    expect(numbers(again)).toEqual([{ n: 1 }, { n: 2 }])
    const since = again.extensions.to_device.next_batch
    const rest = body({ to_device: { enabled: true, since } }, {})
    expect(numbers(await server.sliding(alice, rest))).toEqual([{ n: 3 }])
    // Positions beyond the stream are of a database that is no more.
    const lost = body({ to_device: { enabled: true, since: 'd900000' } }, {})
    expect(numbers(await server.sliding(alice, lost))).toHaveLength(3)
    await expect(server.sliding(alice, body({ to_device: { enabled: true, since: 'x' } }, {}))).rejects.toMatchObject({
      errcode: 'M_INVALID_PARAM',
    })
  })
})

describe('MSC4360 threads', () => {
  const asked = (more: object = {}) =>
    body({ 'io.element.msc4360.threads': { enabled: true, ...more } }, { all: { ...list, timeline_limit: 1 } })
  const threadsOf = (answer: SyncAnswer) => answer.extensions['io.element.msc4360.threads']
  test('threads whose replies are not shown; with their roots all', async () => {
    const alice = user('alice')
    const id = await created(alice)
    const first = await server.sliding(alice, asked())
    expect(threadsOf(first)).toBeUndefined()
    const root = await server.message(id, alice, 'root')
    const relates_to = { event_id: root, rel_type: 'm.thread' }
    const reply = (text: string) => server.message(id, alice, text, { thread_root: root, relates_to })
    const between = await server.sliding(alice, { ...asked(), pos: first.pos })
    await reply('one')
    expect(threadsOf(await server.sliding(alice, { ...asked(), pos: between.pos }))).toBeUndefined()
    const position = server.replication.positions().events
    await reply('two')
    const missed = threadsOf(await server.sliding(alice, { ...asked(), pos: between.pos }))
    expect(Object.keys(missed.updates[id])).toEqual([root])
    expect(parsePaginationToken(missed.updates[id][root].prev_batch)).toBe(position)
    expect(missed).not.toHaveProperty('prev_batch')
    const withRoot = threadsOf(await server.sliding(alice, { ...asked({ include_roots: true }), pos: between.pos }))
    const { thread_root } = withRoot.updates[id][root]
    expect(thread_root).toMatchObject({ event_id: root, content: { body: 'root' } })
    expect(thread_root.unsigned['m.relations']['m.thread'].latest_event.content.body).toBe('two')
    const other = await server.message(id, alice, 'another root')
    await server.message(id, alice, 'x', { thread_root: other, relates_to: { ...relates_to, event_id: other } })
    const few = threadsOf(
      await server.sliding(alice, { ...asked({ include_roots: true, limit: 1 }), pos: between.pos }),
    )
    expect(Object.keys(few.updates[id])).toEqual([other])
    expect(parsePaginationToken(few.prev_batch)).toBe(position + 1)
  })
})
