/** MSC4186, section by section: lists and subscriptions. https://github.com/matrix-org/matrix-spec-proposals/blob/main/proposals/4186-simplified-sliding-sync.md */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { RoomId } from '../../../shared/matrix/ids.ts'
import { type TestDatabase, testDatabase } from '../../../test/support/database.ts'
import { all, bodies, keys, list, slidingSteps, user } from '../../../test/support/sliding-steps.ts'
import { type SyncAnswer, type SyncFixture, syncFixture } from '../../../test/support/sync-fixture.ts'

let database: TestDatabase
let server: SyncFixture
const { created, next, severalBy, state } = slidingSteps(() => server)

beforeAll(async () => {
  database = await testDatabase()
  server = await syncFixture(database)
})
afterAll(async () => {
  server.close()
  await database.drop()
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

  test.each([
    ['m.ignored_user_list', (alice: string) => ({ ignored_users: { [alice]: {} } })],
    ['m.invite_permission_config', () => ({ default_action: 'block' })],
    ['org.matrix.msc4155.invite_permission_config', (alice: string) => ({ ignored_users: [alice] })],
  ])('a knock shows stripped state; invites that %s keeps out are not there', async (type, content) => {
    const [alice, bob] = [user('alice'), user('bob')]
    const [knocked, hidden] = [await created(alice), await created(alice)]
    await server.member(knocked, bob, 'knock')
    await server.member(hidden, bob, 'invite', alice)
    await server.accountData(bob, type, content(alice))
    const room_subscriptions = { [hidden]: { timeline_limit: 1, required_state: [] } }
    const { rooms: told } = await server.sliding(bob, { ...list(), room_subscriptions })
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
