/** MSC4186, section by section: room results. https://github.com/matrix-org/matrix-spec-proposals/blob/main/proposals/4186-simplified-sliding-sync.md */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type TestDatabase, testDatabase } from '../../../test/support/database.ts'
import { all, bodies, keys, list, slidingSteps, user } from '../../../test/support/sliding-steps.ts'
import { type SyncFixture, syncFixture } from '../../../test/support/sync-fixture.ts'

let database: TestDatabase
let server: SyncFixture
const { created, next, state } = slidingSteps(() => server)

beforeAll(async () => {
  database = await testDatabase()
  server = await syncFixture(database)
})
afterAll(async () => {
  server.close()
  await database.drop()
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
