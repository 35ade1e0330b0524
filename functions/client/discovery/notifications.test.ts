import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { DeviceId, EventId, RoomId, UserId } from '../../../shared/matrix/ids.ts'
import { type TestDatabase, testDatabase } from '../../../test/support/database.ts'
import { type RoomFixture, roomFixture } from '../../../test/support/room-fixture.ts'
import { discoveryRoutes } from './routes.ts'

const alice = '@alice:example.org' as UserId

let database: TestDatabase
let f: RoomFixture
let people = 0
beforeAll(async () => {
  database = await testDatabase()
  f = await roomFixture(database, discoveryRoutes)
})
afterAll(async () => {
  await f.close()
  await database.drop()
})

const person = () => `@person${++people}:example.org` as UserId

async function roomWith(user: UserId): Promise<RoomId> {
  const room = await f.room(alice)
  await f.member(room, user, 'join')
  return room
}
/** `push` is the outcome for everybody: 1 notify, 3 with highlight. */
async function say(room: RoomId, body: string, push: number, sender = alice): Promise<EventId> {
  const id = await f.message(room, sender, body, {}, { device_id: 'D' as DeviceId })
  await database.sql`update events set push = ${push} where event_id = ${id}`
  return id
}
async function deviate(event: EventId, push: number, user: UserId | '', class_id = 0): Promise<void> {
  await database.sql`insert into push_deviations (room_nid, position, user_id, class_id, push)
    select room_nid, position, ${user}, ${class_id}, ${push} from events where event_id = ${event}`
}
interface Listed {
  event: { event_id: EventId; content: { body: string } }
  actions: unknown[]
  read: boolean
  room_id: RoomId
  ts: number
}
async function list(user: UserId, query: Record<string, string> = {}) {
  const { status, body } = await f.call(user, `v3/notifications?${new URLSearchParams(query)}`)
  return { status, body, list: body.notifications as Listed[], next: body.next_token as string | undefined }
}
const bodies = (listed: readonly Listed[]) => listed.map((one) => one.event.content.body)

describe('client-server-api GET /notifications', () => {
  test('what notified, newest first, over all rooms, with what was to be done', async () => {
    const user = person()
    const [one, two] = [await roomWith(user), await roomWith(user)]
    await say(one, 'first', 1)
    await say(two, 'silent', 0)
    await say(two, 'loud', 3)
    await say(one, 'own', 1, user)
    const { status, list: listed, next } = await list(user)
    expect(status).toBe(200)
    expect(bodies(listed)).toEqual(['loud', 'first'])
    expect(listed[0]).toMatchObject({
      actions: ['notify', { set_tweak: 'highlight' }],
      room_id: two,
      ts: expect.any(Number),
    })
    expect(listed[1]?.actions).toEqual(['notify'])
    expect(next).toBeUndefined()
    expect(bodies((await list(user, { only: 'highlight' })).list)).toEqual(['loud'])
  })

  test('what differs for the user or their class counts in place of what holds for everybody', async () => {
    const user = person()
    const room = await roomWith(user)
    await database.sql`insert into push_classes (class_id, ruleset, ruleset_hash)
      overriding system value values (7, '[]', '\\x07')`
    await database.sql`insert into push_rules (user_id, rules, class_id) values (${user}, '{}', 7)`
    await deviate(await say(room, 'muted by class', 1), 0, '', 7)
    await deviate(await say(room, 'of another class', 1), 0, '', 8)
    await deviate(await say(room, 'mentions me', 0), 3, user)
    const both = await say(room, 'both', 1)
    await deviate(both, 0, '', 7)
    await deviate(both, 1, user)
    expect(bodies((await list(user)).list)).toEqual(['both', 'mentions me', 'of another class'])
    expect(bodies((await list(user, { only: 'highlight' })).list)).toEqual(['mentions me'])
  })

  test('read: by a receipt, of the thread or of all, or by writing there', async () => {
    const user = person()
    const room = await roomWith(user)
    const root = await say(room, 'root', 1)
    const seen = await say(room, 'seen', 1)
    await database.sql`insert into receipts
        (room_nid, user_id, receipt_type, thread_id, event_id, event_position, ts, position)
      select room_nid, ${user}, 'm.read', '', ${seen}, position, 0, 1 from events where event_id = ${seen}`
    await say(room, 'unseen', 1)
    const threaded = await say(room, 'in thread', 1)
    await database.sql`update events set thread_root = ${root} where event_id = ${threaded}`
    const read = async () =>
      Object.fromEntries((await list(user)).list.map((one) => [one.event.content.body, one.read]))
    expect(await read()).toEqual({ root: true, seen: true, unseen: false, 'in thread': false })
    await say(room, 'an answer', 0, user)
    expect(await read()).toEqual({ root: true, seen: true, unseen: true, 'in thread': false })
  })

  test('page by page, also where most was muted', async () => {
    const user = person()
    const [one, two] = [await roomWith(user), await roomWith(user)]
    const expected: string[] = []
    for (let i = 0; i < 24; i++) {
      const id = await say(i % 3 === 0 ? two : one, `m${i}`, 1)
      if (i % 2 === 1 || (i > 8 && i < 16)) await deviate(id, 0, user)
      else expected.unshift(`m${i}`)
    }
    const found: string[] = []
    let from: string | undefined
    let pages = 0
    do {
      const page = await list(user, { limit: '3', ...(from ? { from } : {}) })
      expect(page.list.length).toBeLessThanOrEqual(3)
      found.push(...bodies(page.list))
      from = page.next
      pages++
    } while (from && pages < 30)
    expect(found).toEqual(expected)
  })

  test('nothing of rooms that were left, of before the join, of ignored users, nor what was hidden', async () => {
    const user = person()
    const [left, late] = [await roomWith(user), await f.room(alice)]
    await say(left, 'left', 1)
    await f.member(left, user, 'leave')
    await say(late, 'before', 1)
    await f.member(late, user, 'join')
    const pest = person()
    await f.member(late, pest, 'join')
    await f.committer.commit({
      account_data: [
        {
          user_id: user,
          room_nid: 0,
          type: 'm.ignored_user_list',
          content: JSON.stringify({ ignored_users: { [pest]: {} } }),
        },
      ],
    })
    await say(late, 'ignored', 1, pest)
    await say(late, 'after', 1)
    expect(bodies((await list(user)).list)).toEqual(['after'])
  })

  test.each([{ from: 'x' }, { limit: 'many' }])('%o is no way to ask', async (query) => {
    expect(await list(alice, query as Record<string, string>)).toMatchObject({
      status: 400,
      body: { errcode: 'M_INVALID_PARAM' },
    })
  })
})
