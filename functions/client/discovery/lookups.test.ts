import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { EventId, RoomId, UserId } from '../../../shared/matrix/ids.ts'
import { type TestDatabase, testDatabase } from '../../../test/support/database.ts'
import { type RoomFixture, roomFixture } from '../../../test/support/room-fixture.ts'
import { discoveryRoutes } from './routes.ts'

const alice = '@alice:example.org' as UserId
const bob = '@bob:example.org' as UserId
const dan = '@dan:example.org' as UserId
const carol = '@carol:example.org' as UserId

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

describe('client-server-api GET /timestamp_to_event', () => {
  const at = (user: UserId, room: RoomId, query: Record<string, string>) =>
    f.call(user, `v1/rooms/${encodeURIComponent(room)}/timestamp_to_event?${new URLSearchParams(query)}`)
  const minute = 60_000
  let start = 0
  let room: RoomId
  let sent: EventId[]
  beforeAll(async () => {
    room = await f.room(alice)
    start = f.clock.now() + minute
    sent = []
    // The last two come in with clocks that are wrong.
    for (const minutes of [1, 2, 2, 3, 10, 5]) {
      sent.push(await f.message(room, alice, `${minutes}`, {}, { origin_server_ts: start + minutes * minute }))
    }
  })

  test.each([
    { minutes: 0, dir: 'f', finds: 0 },
    { minutes: 1, dir: 'f', finds: 0 },
    { minutes: 1, dir: 'b', finds: 0 },
    { minutes: 1.5, dir: 'f', finds: 1 },
    { minutes: 2, dir: 'f', finds: 1 },
    { minutes: 2, dir: 'b', finds: 2 },
    { minutes: 4, dir: 'f', finds: 5 },
    { minutes: 9, dir: 'b', finds: 5 },
    { minutes: 99, dir: 'b', finds: 4 },
  ])('from minute $minutes, $dir', async ({ minutes, dir, finds }) => {
    const { status, body } = await at(alice, room, { ts: String(start + minutes * minute), dir })
    expect(status).toBe(200)
    expect(body).toEqual({ event_id: sent[finds], origin_server_ts: expect.any(Number) })
  })

  test('nothing there is 404, no member 403, and what is hidden is passed over', async () => {
    expect(await at(alice, room, { ts: String(start + 99 * minute), dir: 'f' })).toMatchObject({
      status: 404,
      body: { errcode: 'M_NOT_FOUND' },
    })
    expect((await at(bob, room, { ts: '0', dir: 'f' })).status).toBe(403)
    const closed = await f.room(alice, { history_visibility: 'joined' })
    f.clock.advance(1000)
    const hiddenFrom = f.clock.now()
    for (let i = 0; i < 60; i++) await f.message(closed, alice, 'hidden')
    f.clock.advance(1000)
    const joined = await f.member(closed, bob, 'join')
    expect((await at(bob, closed, { ts: String(hiddenFrom), dir: 'f' })).body.event_id).toBe(joined)
  })

  test.each([
    {},
    { ts: '1' },
    { dir: 'f' },
    { ts: 'now', dir: 'f' },
    { ts: '1', dir: 'x' },
    { ts: '9'.repeat(17), dir: 'b' },
  ])('%o is no way to ask', async (query) => {
    expect((await at(alice, room, query as Record<string, string>)).status).toBe(400)
  })
})

describe('client-server-api GET /mutual_rooms', () => {
  const mutual = (user_id: string, more = '') =>
    f.call(alice, `v1/mutual_rooms?user_id=${encodeURIComponent(user_id)}${more}`)

  test('rooms that both are in now', async () => {
    const [both, mine, left] = [await f.room(alice), await f.room(alice), await f.room(alice)]
    await f.member(both, dan, 'join')
    await f.member(mine, dan, 'invite', alice)
    await f.member(left, dan, 'join')
    await f.member(left, dan, 'leave')
    expect(await mutual(dan)).toEqual({ status: 200, body: { joined: [both], count: 1 } })
    expect((await mutual('@nobody:elsewhere.org')).body).toEqual({ joined: [], count: 0 })
    const unstable = `unstable/uk.half-shot.msc2666/user/mutual_rooms?user_id=${encodeURIComponent(dan)}`
    expect((await f.call(alice, unstable)).body).toMatchObject({ joined: [both] })
  })

  test('page by page', async () => {
    const rooms: RoomId[] = []
    for (let i = 0; i < 101; i++) {
      const room = await f.room(alice)
      await f.member(room, carol, 'join')
      rooms.push(room)
    }
    const first = await mutual(carol)
    expect(first.body.count).toBe(101)
    expect(first.body.joined).toHaveLength(100)
    const second = await mutual(carol, `&from=${first.body.next_batch}`)
    expect([...first.body.joined, ...second.body.joined].sort()).toEqual(rooms.sort())
    expect(second.body).not.toHaveProperty('next_batch')
  })

  test.each([alice, 'nobody', '@nobody'])('%s is none to ask about', async (user) => {
    expect(await mutual(user)).toMatchObject({ status: 400, body: { errcode: 'M_INVALID_PARAM' } })
  })
  test('a token must be one, and the user named', async () => {
    expect((await mutual(bob, '&from=x')).status).toBe(400)
    expect(await f.call(alice, 'v1/mutual_rooms')).toMatchObject({ status: 400, body: { errcode: 'M_MISSING_PARAM' } })
  })
})

describe('client-server-api Third-party Networks, without bridges', () => {
  test('there are no protocols', async () => {
    expect(await f.call(alice, 'v3/thirdparty/protocols')).toEqual({ status: 200, body: {} })
  })
  test.each(['protocol/irc', 'location/irc', 'user/irc', 'location?alias=%23a:b', 'user?userid=@a:b'])(
    '%s is not found',
    async (path) => {
      expect(await f.call(alice, `v3/thirdparty/${path}`)).toMatchObject({
        status: 404,
        body: { errcode: 'M_NOT_FOUND' },
      })
    },
  )
})
