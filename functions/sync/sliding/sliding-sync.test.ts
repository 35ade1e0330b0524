/** MSC4186, section by section: connections. https://github.com/matrix-org/matrix-spec-proposals/blob/main/proposals/4186-simplified-sliding-sync.md */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parsePaginationToken } from '../../../shared/streams/token.ts'
import { type TestDatabase, testDatabase } from '../../../test/support/database.ts'
import { bodies, keys, list, slidingSteps, user } from '../../../test/support/sliding-steps.ts'
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
    ['the future', (pos: string) => pos.replace(/(s\d)_\d+/, '$1_99999999')],
    ['no numbers', (pos: string) => pos.replace(/(s\d)_\d+/, '$1_99999999999999999999999')],
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
