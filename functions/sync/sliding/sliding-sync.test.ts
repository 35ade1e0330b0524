/** MSC4186, section by section. https://github.com/matrix-org/matrix-spec-proposals/blob/main/proposals/4186-simplified-sliding-sync.md */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { RoomId, UserId } from '../../../shared/matrix/ids.ts'
import { parsePaginationToken } from '../../../shared/streams/token.ts'
import { type TestDatabase, testDatabase } from '../../../test/support/database.ts'
import { type SyncAnswer, type SyncFixture, syncFixture } from '../../../test/support/sync-fixture.ts'

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

async function created(creator: UserId, content: object = {}): Promise<RoomId> {
  const id = await server.room(`!sliding${++rooms}`)
  await server.send({ room: id, type: 'm.room.create', state_key: '', sender: creator, content })
  await server.member(id, creator, 'join')
  return id
}
/** One after the other: the fixture is a main with one writer. */
async function severalBy(creator: UserId, contents: readonly object[]): Promise<RoomId[]> {
  const ids: RoomId[] = []
  for (const content of contents) ids.push(await created(creator, content))
  return ids
}
const state = (room: RoomId, sender: UserId, type: string, content: object, state_key = '') =>
  server.send({ room, type, state_key, sender, content })
const all = { timeline_limit: 10, required_state: [] as string[][], ranges: [[0, 99]] }
const list = (more: object = {}) => ({ lists: { all: { ...all, ...more } } })
const bodies = (room: SyncAnswer) => room.timeline?.map((e: { content: { body?: string } }) => e.content.body)
const keys = (events: { type: string; state_key?: string }[] = []) =>
  events.map((e) => `${e.type}/${e.state_key}`).sort()
const next = (who: UserId, last: SyncAnswer, body: object = list()) => server.sliding(who, { ...body, pos: last.pos })

describe('Connections', () => {
  test('a first request tells the room, the next one nothing, then a message', async () => {
    const alice = user('alice')
    const id = await created(alice)
    await state(id, alice, 'm.room.name', { name: 'A room' })
    const first = await server.sliding(alice, { ...list(), txn_id: 't' })
    expect(first).toMatchObject({ txn_id: 't', lists: { all: { count: 1 } }, extensions: {} })
    expect(first.rooms[id]).toMatchObject({
      initial: true,
      membership: 'join',
      name: 'A room',
      lists: ['all'],
      joined_count: 1,
      invited_count: 0,
      notification_count: 0,
      highlight_count: 0,
      limited: false,
      num_live: 0,
    })
    expect(first.rooms[id].required_state).toBeUndefined()
    expect(keys(first.rooms[id].timeline)).toHaveLength(3)
    const second = await next(alice, first)
    expect(second).toMatchObject({ rooms: {}, lists: { all: { count: 1 } } })
    await server.message(id, alice, 'hello')
    const third = await next(alice, second)
    expect(bodies(third.rooms[id])).toEqual(['hello'])
    expect(third.rooms[id]).toMatchObject({ num_live: 1, limited: false })
    expect(third.rooms[id]).not.toHaveProperty('initial')
    expect(third.rooms[id]).not.toHaveProperty('name')
    expect(third.rooms[id]).not.toHaveProperty('joined_count')
    expect(third.rooms[id].bump_stamp).toBeGreaterThan(first.rooms[id].bump_stamp)
  })

  test('an answer that was lost is given again, with what happened since', async () => {
    const alice = user('alice')
    const id = await created(alice)
    const first = await server.sliding(alice, list())
    await server.message(id, alice, 'one')
    await next(alice, first)
    await server.message(id, alice, 'two')
    expect(bodies((await next(alice, first)).rooms[id])).toEqual(['one', 'two'])
    expect(bodies((await next(alice, first)).rooms[id])).toEqual(['one', 'two'])
  })

  test('a request that was cancelled leaves no trace on one that asks for something else', async () => {
    const [alice, bob] = [user('alice'), user('bob')]
    const [one, two] = [await created(alice), await created(alice)]
    await server.member(one, bob, 'join')
    const lazy = list({ required_state: [['m.room.member', '$LAZY']] })
    const first = await server.sliding(alice, list({ ranges: [[0, 0]], timeline_limit: 1 }))
    expect(Object.keys(first.rooms)).toEqual([one])
    await server.message(one, bob, 'hi')
    const lost = await next(alice, first, lazy)
    expect(Object.keys(lost.rooms).sort()).toEqual([one, two].sort())
    const answered = await next(alice, first, list({ ranges: [] }))
    expect(answered.rooms).toEqual({})
    const again = await next(alice, answered, lazy)
    expect(bodies(again.rooms[one]).at(-1)).toBe('hi')
    expect(keys(again.rooms[one].required_state)).toContain(`m.room.member/${bob}`)
    expect(again.rooms[two].initial).toBe(true)
  })

  test.each([
    ['nothing of this server', () => 's1_1_1_1_1_1_1'],
    ['a sync token', (pos: string) => pos.split('.')[3] ?? ''],
    ['an unknown state', (pos: string) => pos.replace(/\.[\w-]{16}\./, '.AAAAAAAAAAAAAAAA.')],
    ['the future', (pos: string) => pos.replace(/s1_\d+/, 's1_99999999')],
    ['no numbers', (pos: string) => pos.replace(/s1_\d+/, 's1_99999999999999999999999')],
    ['empty', () => ''],
  ])('a pos that is not one of the connection is M_UNKNOWN_POS: %s', async (_, change) => {
    const alice = user('alice')
    await created(alice)
    const { pos } = await server.sliding(alice, list())
    const unknown = expect.objectContaining({ errcode: 'M_UNKNOWN_POS', status: 400 })
    await expect(server.sliding(alice, { ...list(), pos: change(pos) })).rejects.toEqual(unknown)
  })

  test('a pos of another user, device or connection is M_UNKNOWN_POS', async () => {
    const [alice, bob] = [user('alice'), user('bob')]
    await created(alice)
    const { pos } = await server.sliding(alice, list())
    const unknown = expect.objectContaining({ errcode: 'M_UNKNOWN_POS' })
    await expect(server.sliding(bob, { ...list(), pos })).rejects.toEqual(unknown)
    await expect(server.sliding(alice, { ...list(), pos }, { device: 'OTHER' })).rejects.toEqual(unknown)
    await expect(server.sliding(alice, { ...list(), pos, conn_id: 'other' })).rejects.toEqual(unknown)
    expect((await server.sliding(alice, { ...list(), pos, conn_id: '' })).rooms).toEqual({})
  })

  test('connections of a device know nothing of each other', async () => {
    const alice = user('alice')
    const id = await created(alice)
    const one = await server.sliding(alice, { ...list(), conn_id: 'one' })
    const two = await server.sliding(alice, { ...list(), conn_id: 'two' })
    expect(two.rooms[id].initial).toBe(true)
    await server.message(id, alice, 'hello')
    for (const [conn_id, { pos }] of [
      ['one', one],
      ['two', two],
    ] as const) {
      expect(bodies((await server.sliding(alice, { ...list(), conn_id, pos })).rooms[id])).toEqual(['hello'])
    }
  })

  test('a pos is a place for /messages and /relations', async () => {
    const alice = user('alice')
    const id = await created(alice)
    const { pos, rooms: told } = await server.sliding(alice, list({ timeline_limit: 1 }))
    expect(parsePaginationToken(pos)).toBe(server.replication.positions().events)
    expect(told[id].limited).toBe(true)
    expect(parsePaginationToken(told[id].prev_batch)).toBe(server.replication.positions().events - 1)
  })

  test('a request waits for news, and for what concerns it alone', async () => {
    const alice = user('alice')
    const id = await created(alice)
    const first = await server.sliding(alice, list())
    const body = { ...list(), pos: first.pos, timeout: 30_000 }
    const waiting = server.sliding(alice, body)
    await server.message(id, alice, 'now')
    const told = await waiting
    expect(bodies(told.rooms[id])).toEqual(['now'])
    let answered = false
    const idle = server.sliding(alice, { ...body, pos: told.pos }).then((answer) => {
      answered = true
      return answer
    })
    await server.accountData(alice, 'org.example', {})
    await server.receipt({ room: id, user: user('bob'), event_id: told.rooms[id].timeline[0].event_id })
    expect(answered).toBe(false)
    await expect.poll(() => server.role().deps.live.peek(alice)?.waiters.size).toBe(1)
    server.clock.advance(30_001)
    const quiet = await idle
    expect(quiet.rooms).toEqual({})
    await server.message(id, alice, 'later')
    expect(bodies((await next(alice, quiet)).rooms[id])).toEqual(['later'])
  })

  test('parameters in the query are taken as well', async () => {
    const alice = user('alice')
    await created(alice)
    const { pos } = await server.sliding(alice, list())
    expect((await server.sliding(alice, list(), { query: { pos, timeout: '0' } })).rooms).toEqual({})
  })

  test('500 requests with one pos are all answered', async () => {
    const alice = user('alice')
    const id = await created(alice)
    const first = await server.sliding(alice, list())
    await server.message(id, alice, 'hello')
    const answers = await Promise.all(Array.from({ length: 500 }, () => next(alice, first)))
    for (const answer of answers) expect(bodies(answer.rooms[id])).toEqual(['hello'])
    await server.message(id, alice, 'more')
    for (const answer of answers.slice(0, 20)) expect(bodies((await next(alice, answer)).rooms[id])).toEqual(['more'])
  })
})

describe('Lists', () => {
  test('ranges index rooms by their last activity; a range may grow, shrink and be in parts', async () => {
    const alice = user('alice')
    const ids: RoomId[] = []
    for (let i = 0; i < 5; i++) ids.unshift(await created(alice))
    const at = (answer: SyncAnswer) => Object.keys(answer.rooms)
    const first = await server.sliding(alice, list({ ranges: [[0, 1]] }))
    expect([at(first), first.lists.all.count]).toEqual([ids.slice(0, 2), 5])
    const grown = await next(alice, first, list({ ranges: undefined, range: [0, 3] }))
    expect(at(grown)).toEqual(ids.slice(2, 4))
    await server.message(ids[3] as RoomId, alice, 'out of sight')
    await server.message(ids[4] as RoomId, alice, 'up')
    const shrunk = await next(alice, grown, list({ ranges: [[0, 0]] }))
    expect(at(shrunk)).toEqual([ids[4]])
    const back = await next(alice, shrunk, list())
    expect(at(back)).toEqual([ids[3]])
    expect(bodies(back.rooms[ids[3] as RoomId])).toEqual(['out of sight'])
    expect(back.rooms[ids[3] as RoomId].num_live).toBe(0)
    const parts = await server.sliding(
      alice,
      list({
        ranges: [
          [0, 0],
          [4, 9],
        ],
      }),
    )
    expect(at(parts)).toEqual([ids[4], ids[2]])
    expect(at(await server.sliding(alice, list({ ranges: undefined })))).toHaveLength(5)
    expect(at(await server.sliding(alice, list({ ranges: [] })))).toEqual([])
  })

  test('a room in several lists is told once, with all that they ask for', async () => {
    const alice = user('alice')
    const id = await created(alice)
    for (let i = 0; i < 4; i++) await server.message(id, alice, `${i}`)
    await state(id, alice, 'm.room.topic', { topic: 't' })
    const body = {
      lists: {
        a: { ...all, timeline_limit: 1, required_state: [['m.room.topic', '']] },
        b: { ...all, timeline_limit: 3, required_state: [['m.room.create', '']] },
      },
      room_subscriptions: { [id]: { timeline_limit: 2, required_state: [['m.room.member', '$ME']] } },
    }
    const { rooms: told } = await server.sliding(alice, body)
    expect(told[id].timeline).toHaveLength(3)
    expect(told[id].lists).toEqual(['a', 'b'])
    expect(keys(told[id].required_state)).toEqual(['m.room.create/', `m.room.member/${alice}`, 'm.room.topic/'])
  })

  test('invited, left, kicked and banned rooms', async () => {
    const [alice, bob] = [user('alice'), user('bob')]
    const [invited, left, kicked, banned, never] = await severalBy(alice, [{}, {}, {}, {}, {}])
    for (const id of [left, kicked, banned] as RoomId[]) await server.member(id, bob, 'join')
    await server.member(invited as RoomId, bob, 'invite', alice)
    await server.member(left as RoomId, bob, 'leave')
    await server.member(kicked as RoomId, bob, 'leave', alice)
    await server.member(banned as RoomId, bob, 'ban', alice)
    await server.member(never as RoomId, bob, 'ban', alice)
    await server.message(kicked as RoomId, alice, 'unseen')
    const first = await server.sliding(bob, list({ required_state: [['m.room.member', '$ME']] }))
    expect(Object.keys(first.rooms).sort()).toEqual([invited, kicked, banned].sort())
    expect(first.rooms[invited as RoomId]).toMatchObject({ initial: true, membership: 'invite' })
    expect(keys(first.rooms[invited as RoomId].invite_state)).toEqual(['m.room.create/', `m.room.member/${bob}`])
    expect(first.rooms[invited as RoomId].stripped_state).toEqual(first.rooms[invited as RoomId].invite_state)
    expect(first.rooms[invited as RoomId]).not.toHaveProperty('timeline')
    expect(first.rooms[kicked as RoomId]).toMatchObject({ initial: true, membership: 'leave' })
    expect(bodies(first.rooms[kicked as RoomId])).not.toContain('unseen')
    expect(keys(first.rooms[kicked as RoomId].required_state)).toEqual([`m.room.member/${bob}`])
    expect(first.rooms[kicked as RoomId]).not.toHaveProperty('joined_count')
    expect((await next(bob, first)).rooms).toEqual({})
  })

  test('leaving is told once where the room was told before', async () => {
    const [alice, bob] = [user('alice'), user('bob')]
    const id = await created(alice)
    await server.member(id, bob, 'join')
    const first = await server.sliding(bob, list())
    await server.member(id, bob, 'leave')
    await server.message(id, alice, 'unseen')
    const told = await next(bob, first)
    expect(told.rooms[id]).toMatchObject({ membership: 'leave' })
    expect(keys(told.rooms[id].timeline)).toEqual([`m.room.member/${bob}`])
    expect(told.lists.all.count).toBe(1)
    expect(await next(bob, told)).toMatchObject({ rooms: {}, lists: { all: { count: 0 } } })
    expect((await next(bob, first)).rooms[id].membership).toBe('leave')
    await server.member(id, bob, 'join')
    expect((await next(bob, told)).rooms[id]).toMatchObject({ initial: true, membership: 'join' })
  })

  test('an invite that is taken is a room told from its beginning; one that is turned down tells its end', async () => {
    const [alice, bob] = [user('alice'), user('bob')]
    const [taken, refused] = [await created(alice), await created(alice)]
    await server.member(taken, bob, 'invite', alice)
    await server.member(refused, bob, 'invite', alice)
    const first = await server.sliding(bob, list())
    await server.member(taken, bob, 'join')
    await server.member(refused, bob, 'leave')
    const second = await next(bob, first, list({ required_state: [['m.room.member', '$ME']] }))
    expect(second.rooms[taken]).toMatchObject({ initial: true, membership: 'join', joined_count: 2 })
    expect(second.rooms[refused].membership).toBe('leave')
    expect(keys(second.rooms[refused].required_state)).toEqual([`m.room.member/${bob}`])
  })

  test('a knock shows stripped state; invites of ignored users are not there', async () => {
    const [alice, bob] = [user('alice'), user('bob')]
    const [knocked, hidden] = [await created(alice), await created(alice)]
    await server.member(knocked, bob, 'knock')
    await server.member(hidden, bob, 'invite', alice)
    await server.accountData(bob, 'm.ignored_user_list', { ignored_users: { [alice]: {} } })
    const { rooms: told } = await server.sliding(bob, list())
    expect(Object.keys(told)).toEqual([knocked])
    expect(told[knocked].membership).toBe('knock')
    expect(keys(told[knocked].invite_state)).toContain(`m.room.member/${bob}`)
  })

  test('filters', async () => {
    const alice = user('alice')
    const [plain, space, secret, direct, odd] = (await severalBy(alice, [
      {},
      { type: 'm.space' },
      {},
      {},
      { type: 'org.odd' },
    ])) as [RoomId, RoomId, RoomId, RoomId, RoomId]
    const bob = user('bob')
    const invited = await created(bob)
    await server.member(invited, alice, 'invite', bob)
    await state(secret, alice, 'm.room.encryption', { algorithm: 'm.megolm.v1.aes-sha2' })
    await state(plain, alice, 'm.room.name', { name: 'Fooling around' })
    await state(space, alice, 'm.space.child', { via: ['test'] }, plain)
    await state(space, alice, 'm.space.child', {}, secret)
    await server.accountData(alice, 'm.direct', { [bob]: [direct] })
    await server.accountData(alice, 'm.tag', { tags: { 'm.favourite': {} } }, plain)
    await server.accountData(alice, 'm.tag', { tags: { 'm.favourite': {}, 'u.x': {} } }, secret)
    const found = async (filters: object) => Object.keys((await server.sliding(alice, list({ filters }))).rooms).sort()
    const everything = [plain, space, secret, direct, odd, invited].sort()
    expect(await found({})).toEqual(everything)
    expect(await found({ is_dm: true })).toEqual([direct])
    expect(await found({ is_dm: false })).toEqual(everything.filter((id) => id !== direct))
    expect(await found({ is_encrypted: true })).toEqual([secret])
    expect(await found({ is_encrypted: false, room_types: ['m.space'] })).toEqual([space])
    expect(await found({ is_invite: true })).toEqual([invited])
    expect(await found({ is_invited: false })).toEqual(everything.filter((id) => id !== invited))
    expect(await found({ room_types: [null] })).toEqual([plain, secret, direct, invited].sort())
    expect(await found({ room_types: ['m.space', 'org.odd'] })).toEqual([space, odd].sort())
    expect(await found({ room_types: ['m.space', 'org.odd'], not_room_types: ['org.odd'] })).toEqual([space])
    expect(await found({ not_room_types: ['m.space', null] })).toEqual([odd])
    expect(await found({ tags: ['m.favourite'] })).toEqual([plain, secret].sort())
    expect(await found({ tags: ['m.favourite'], not_tags: ['u.x'] })).toEqual([plain])
    expect(await found({ room_name_like: 'FOOL' })).toEqual([plain])
    expect(await found({ spaces: [space] })).toEqual([plain])
    expect(await found({ spaces: ['!unknown:test'] })).toEqual([])
  })

  test('what a filter looks at may change while the client waits', async () => {
    const alice = user('alice')
    const id = await created(alice)
    const body = list({ filters: { is_dm: true } })
    const first = await server.sliding(alice, body)
    expect(first.lists.all.count).toBe(0)
    const waiting = server.sliding(alice, { ...body, pos: first.pos, timeout: 30_000 })
    await server.accountData(alice, 'm.direct', { '@b:test': [id] })
    expect((await waiting).rooms[id]).toMatchObject({ initial: true, is_dm: true })
    const encrypted = list({ filters: { is_encrypted: true } })
    const none = await server.sliding(alice, encrypted)
    await state(id, alice, 'm.room.encryption', {})
    expect(Object.keys((await next(alice, none, encrypted)).rooms)).toEqual([id])
  })
})

describe('Subscriptions', () => {
  test('a subscribed room is told whatever the lists say; others are ignored', async () => {
    const [alice, bob] = [user('alice'), user('bob')]
    const [mine, left, foreign] = [await created(alice), await created(bob), await created(bob)]
    await server.member(left, alice, 'join')
    await server.message(left, bob, 'seen')
    await server.member(left, alice, 'leave')
    await server.message(left, bob, 'unseen')
    const subscription = { timeline_limit: 5, required_state: [] }
    const room_subscriptions = {
      [mine]: subscription,
      [left]: subscription,
      [foreign]: subscription,
      '!no:test': subscription,
    }
    const first = await server.sliding(alice, { room_subscriptions })
    expect(Object.keys(first.rooms).sort()).toEqual([mine, left].sort())
    expect(first.rooms[mine]).not.toHaveProperty('lists')
    expect(bodies(first.rooms[left])).toContain('seen')
    expect(bodies(first.rooms[left])).not.toContain('unseen')
    expect((await next(alice, first, { room_subscriptions })).rooms).toEqual({})
    await server.message(mine, alice, 'hello')
    expect((await next(alice, first, {})).rooms).toEqual({})
    expect(bodies((await next(alice, first, { room_subscriptions })).rooms[mine])).toEqual(['hello'])
  })
})

describe('Room results', () => {
  test('a name, an avatar and their end; counts and heroes where members change', async () => {
    const [alice, bob] = [user('alice'), user('bob')]
    const id = await created(alice)
    await server.send({
      room: id,
      type: 'm.room.member',
      state_key: bob,
      sender: bob,
      content: { membership: 'join', displayname: 'Bob' },
    })
    const first = await server.sliding(alice, list())
    expect(first.rooms[id].heroes).toEqual([{ user_id: bob, displayname: 'Bob' }])
    expect(first.rooms[id]).not.toHaveProperty('name')
    await state(id, alice, 'm.room.name', { name: 'one' })
    await state(id, alice, 'm.room.avatar', { url: 'mxc://test/a' })
    const named = await next(alice, first)
    expect(named.rooms[id]).toMatchObject({ name: 'one', avatar: 'mxc://test/a' })
    await state(id, alice, 'm.room.name', { name: '' })
    await server.member(id, user('carol'), 'invite', alice)
    const unnamed = await next(alice, named)
    expect(unnamed.rooms[id]).toMatchObject({ name: null, joined_count: 2, invited_count: 1 })
    expect(unnamed.rooms[id]).not.toHaveProperty('avatar')
  })

  test("counts go up with events and down with the user's own receipts, which are news", async () => {
    const [alice, bob] = [user('alice'), user('bob')]
    const id = await created(alice)
    await server.member(id, bob, 'join')
    const first = await server.sliding(alice, list())
    const event_id = await server.message(id, bob, 'look')
    const unread = await next(alice, first)
    expect(unread.rooms[id]).toMatchObject({ notification_count: 1, highlight_count: 0 })
    await server.receipt({ room: id, user: bob, event_id })
    expect((await next(alice, unread)).rooms).toEqual({})
    await server.receipt({ room: id, user: alice, event_id, type: 'm.read.private' })
    const read = await next(alice, unread)
    expect(read.rooms[id]).toMatchObject({ notification_count: 0 })
    expect(read.rooms[id]).not.toHaveProperty('timeline')
    const hidden = await next(alice, unread, list({ ranges: [] }))
    const back = await next(alice, hidden)
    expect(back.rooms[id]).toMatchObject({ notification_count: 0 })
  })

  test("num_live counts what is new since the connection's last answer", async () => {
    const alice = user('alice')
    const id = await created(alice)
    const first = await server.sliding(alice, list({ ranges: [] }))
    await server.message(id, alice, 'mention')
    expect((await next(alice, first)).rooms[id]).toMatchObject({ initial: true, num_live: 1 })
  })

  test('bump_stamp moves with messages alone; without a room it is that of the membership', async () => {
    const [alice, bob] = [user('alice'), user('bob')]
    const id = await created(alice)
    await server.message(id, alice, 'hello')
    await state(id, alice, 'm.room.topic', { topic: 't' })
    server.restart()
    const first = await server.sliding(alice, list())
    const { bump_stamp } = first.rooms[id]
    expect(bump_stamp).toBe(server.replication.positions().events - 1)
    await server.member(id, bob, 'invite', alice)
    expect((await next(alice, first)).rooms[id].bump_stamp).toBe(bump_stamp)
    expect((await server.sliding(bob, list())).rooms[id].bump_stamp).toBe(server.replication.positions().events)
  })

  test('is_dm is told when it changes', async () => {
    const alice = user('alice')
    const id = await created(alice)
    const first = await server.sliding(alice, list())
    expect(first.rooms[id]).not.toHaveProperty('is_dm')
    await server.accountData(alice, 'm.direct', { '@b:test': [id] })
    const direct = await next(alice, first)
    expect(direct.rooms[id].is_dm).toBe(true)
    expect((await next(alice, direct)).rooms).toEqual({})
    await server.accountData(alice, 'm.direct', {})
    expect((await next(alice, direct)).rooms[id].is_dm).toBe(false)
  })
})

describe('Changing room configs', () => {
  test('a higher timeline_limit brings the latest events, at once, with expanded_timeline', async () => {
    const alice = user('alice')
    const id = await created(alice)
    for (const body of ['a', 'b', 'c', 'd']) await server.message(id, alice, body)
    const first = await server.sliding(alice, list({ timeline_limit: 1 }))
    expect([bodies(first.rooms[id]), first.rooms[id].limited]).toEqual([['d'], true])
    const grown = await next(alice, first, list({ timeline_limit: 3 }))
    expect(grown.rooms[id]).toMatchObject({ expanded_timeline: true, unstable_expanded_timeline: true, num_live: 0 })
    expect(grown.rooms[id]).not.toHaveProperty('initial')
    expect(bodies(grown.rooms[id])).toEqual(['b', 'c', 'd'])
    const fewer = await next(alice, grown, list({ timeline_limit: 1 }))
    expect(fewer.rooms).toEqual({})
    await server.message(id, alice, 'e')
    const known = await next(alice, fewer, list({ timeline_limit: 3 }))
    expect([bodies(known.rooms[id]), known.rooms[id].expanded_timeline]).toEqual([['e'], undefined])
    await server.message(id, alice, 'f')
    const whole = await next(alice, known, list({ timeline_limit: 50 }))
    expect(whole.rooms[id]).toMatchObject({ expanded_timeline: true, limited: false, num_live: 1 })
    expect((await next(alice, whole, list({ timeline_limit: 100 }))).rooms).toEqual({})
  })

  test('after a gap nothing is known of what came before', async () => {
    const alice = user('alice')
    const id = await created(alice)
    const first = await server.sliding(alice, list({ timeline_limit: 20 }))
    for (const body of ['a', 'b', 'c']) await server.message(id, alice, body)
    const gap = await next(alice, first, list({ timeline_limit: 2 }))
    expect([bodies(gap.rooms[id]), gap.rooms[id].limited]).toEqual([['b', 'c'], true])
    const again = await next(alice, gap, list({ timeline_limit: 3 }))
    expect([bodies(again.rooms[id]), again.rooms[id].expanded_timeline]).toEqual([['a', 'b', 'c'], true])
  })

  test('more required_state brings what matches now and did not before', async () => {
    const alice = user('alice')
    const id = await created(alice)
    await state(id, alice, 'm.room.topic', { topic: 't' })
    const create = [['m.room.create', '']]
    const first = await server.sliding(alice, list({ required_state: create, timeline_limit: 0 }))
    expect(keys(first.rooms[id].required_state)).toEqual(['m.room.create/'])
    const more = [...create, ['m.room.topic', '']]
    const second = await next(alice, first, list({ required_state: more, timeline_limit: 0 }))
    expect(keys(second.rooms[id].required_state)).toEqual(['m.room.topic/'])
    expect((await next(alice, second, list({ required_state: more, timeline_limit: 0 }))).rooms).toEqual({})
    const nothing = await next(alice, second, list({ required_state: [...more, ['m.no', '']], timeline_limit: 0 }))
    expect(nothing.rooms).toEqual({})
    await state(id, alice, 'm.room.topic', { topic: 'u' })
    const changed = await next(alice, nothing, list({ required_state: more, timeline_limit: 0 }))
    expect(changed.rooms[id].required_state[0].content).toEqual({ topic: 'u' })
  })
})

describe('Lazy loaded memberships', () => {
  const lazy = (more: object = {}) => list({ required_state: [['m.room.member', '$LAZY']], ...more })
  test('those who wrote what is shown, once', async () => {
    const [alice, bob, carol] = [user('alice'), user('bob'), user('carol')]
    const id = await created(alice)
    for (const who of [bob, carol]) await server.member(id, who, 'join')
    await server.message(id, bob, 'hi')
    const first = await server.sliding(alice, lazy({ timeline_limit: 1 }))
    expect(keys(first.rooms[id].required_state)).toEqual([`m.room.member/${bob}`])
    await server.message(id, bob, 'again')
    const again = await next(alice, first, lazy({ timeline_limit: 1 }))
    expect(again.rooms[id]).not.toHaveProperty('required_state')
    await server.message(id, carol, 'hello')
    const other = await next(alice, again, lazy({ timeline_limit: 1 }))
    expect(keys(other.rooms[id].required_state)).toEqual([`m.room.member/${carol}`])
    // Across a gap the client forgets them.
    for (let i = 0; i < 3; i++) await server.message(id, bob, `${i}`)
    const gap = await next(alice, other, lazy({ timeline_limit: 1 }))
    expect(keys(gap.rooms[id].required_state)).toEqual([`m.room.member/${bob}`])
  })

  test('changes of members where there is no gap, and whom they are about', async () => {
    const [alice, bob, carol] = [user('alice'), user('bob'), user('carol')]
    const id = await created(alice)
    const first = await server.sliding(alice, lazy())
    await server.member(id, bob, 'join')
    await server.member(id, carol, 'invite', bob)
    const second = await next(alice, first, lazy())
    expect(keys(second.rooms[id].required_state)).toEqual([`m.room.member/${bob}`, `m.room.member/${carol}`].sort())
    const fresh = await server.sliding(alice, lazy({ timeline_limit: 1 }))
    expect(keys(fresh.rooms[id].required_state)).toEqual([`m.room.member/${bob}`, `m.room.member/${carol}`].sort())
  })

  test('the same in the words of the accepted proposal', async () => {
    const [alice, bob] = [user('alice'), user('bob')]
    const id = await created(alice)
    await server.member(id, bob, 'join')
    const required_state = { include: [{}, { type: 'm.room.member', state_key: alice }], lazy_members: true }
    const first = await server.sliding(alice, list({ required_state, timeline_limit: 0 }))
    expect(keys(first.rooms[id].required_state)).toEqual(['m.room.create/', `m.room.member/${alice}`])
  })
})

describe('Security considerations', () => {
  test('history from before the user came is shown as its visibility says', async () => {
    const [alice, bob] = [user('alice'), user('bob')]
    const id = await created(alice)
    await state(id, alice, 'm.room.history_visibility', { history_visibility: 'joined' })
    await server.message(id, alice, 'before')
    await server.member(id, bob, 'join')
    await server.message(id, alice, 'after')
    const { rooms: told } = await server.sliding(bob, list())
    expect(bodies(told[id])).not.toContain('before')
    expect(bodies(told[id]).slice(-2)).toEqual([undefined, 'after'])
    expect(told[id].limited).toBe(true)
  })

  test('too much is refused', async () => {
    const alice = user('alice')
    const many = Object.fromEntries(Array.from({ length: 101 }, (_, i) => [`l${i}`, all]))
    const invalid = expect.objectContaining({ errcode: 'M_INVALID_PARAM', status: 400 })
    await expect(server.sliding(alice, { lists: many })).rejects.toEqual(invalid)
    await expect(server.sliding(alice, { room_subscriptions: many })).rejects.toEqual(invalid)
    await expect(server.sliding(alice, list({ ranges: [[5, 1]] }))).rejects.toEqual(invalid)
    const bad = expect.objectContaining({ status: 400 })
    await expect(server.sliding(alice, list({ ranges: [[-1, 1]] }))).rejects.toEqual(bad)
    await expect(server.sliding(alice, list({ timeline_limit: 'x' }))).rejects.toEqual(bad)
    await expect(server.sliding(alice, list({ required_state: [['a']] }))).rejects.toEqual(bad)
    await expect(server.sliding(alice, list({}), { query: { timeout: 'x' } })).rejects.toEqual(bad)
  })
})
