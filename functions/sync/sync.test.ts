import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { UserId } from '../../shared/matrix/ids.ts'
import { type TestDatabase, testDatabase } from '../../test/support/database.ts'
import { type SyncAnswer, type SyncFixture, syncFixture } from '../../test/support/sync-fixture.ts'

let database: TestDatabase
let server: SyncFixture
let users = 0
let rooms = 0
const user = (name: string) => `@${name}${++users}:test` as UserId
const room = () => server.room(`!room${++rooms}`)

beforeAll(async () => {
  database = await testDatabase()
  server = await syncFixture(database)
})
afterAll(async () => {
  server.close()
  await database.drop()
})

/** A room with its creator joined. */
async function created(creator: UserId) {
  const id = await room()
  await server.send({
    room: id,
    type: 'm.room.create',
    state_key: '',
    sender: creator,
    content: { room_version: '12' },
  })
  await server.member(id, creator, 'join')
  await server.send({
    room: id,
    type: 'm.room.join_rules',
    state_key: '',
    sender: creator,
    content: { join_rule: 'public' },
  })
  return id
}
const bodies = (answer: SyncAnswer, id: string) =>
  (answer.rooms?.join?.[id]?.timeline.events ?? []).map((e: { content: { body?: string } }) => e.content.body)
const types = (events: { type: string; state_key?: string }[]) => events.map((e) => `${e.type}/${e.state_key ?? '-'}`)

describe('client-server-api/#syncing', () => {
  test('a first sync shows the room, the next one nothing, then a message', async () => {
    const alice = user('alice')
    const id = await created(alice)
    const first = await server.sync(alice)
    expect(types(first.rooms.join[id].timeline.events)).toEqual([
      'm.room.create/',
      `m.room.member/${alice}`,
      'm.room.join_rules/',
    ])
    expect(first.rooms.join[id].timeline.limited).toBe(false)
    expect(first.rooms.join[id].state.events).toEqual([])
    expect(first.rooms.join[id].summary).toEqual({
      'm.heroes': [],
      'm.joined_member_count': 1,
      'm.invited_member_count': 0,
    })
    expect(first.account_data.events.map((e: { type: string }) => e.type)).toContain('m.push_rules')
    const second = await server.sync(alice, { since: first.next_batch })
    expect(second.rooms).toBeUndefined()
    await server.message(id, alice, 'hello', { device_id: 'DEVICE', txn_id: 't1' })
    const third = await server.sync(alice, { since: second.next_batch })
    expect(bodies(third, id)).toEqual(['hello'])
    expect(third.rooms.join[id].timeline.events[0].unsigned).toMatchObject({ transaction_id: 't1', membership: 'join' })
    const other = await server.sync(alice, { since: second.next_batch }, 'OTHER')
    expect(other.rooms.join[id].timeline.events[0].unsigned.transaction_id).toBeUndefined()
  })

  test('a limited timeline brings the state of its gap', async () => {
    const alice = user('alice')
    const id = await created(alice)
    const { next_batch } = await server.sync(alice)
    await server.send({ room: id, type: 'm.room.name', state_key: '', sender: alice, content: { name: 'one' } })
    for (let i = 0; i < 12; i++) await server.message(id, alice, `m${i}`)
    for (const fresh of [false, true]) {
      if (fresh) server.restart()
      const answer = await server.sync(alice, { since: next_batch })
      const { timeline, state } = answer.rooms.join[id]
      expect(timeline.limited).toBe(true)
      expect(bodies(answer, id)).toEqual([...Array(10).keys()].map((i) => `m${i + 2}`))
      expect(types(state.events)).toEqual(['m.room.name/'])
    }
    const after = await server.sync(alice, {
      since: next_batch,
      use_state_after: true,
      filter: '{"room":{"timeline":{"limit":1}}}',
    })
    expect(types(after.rooms.join[id].state_after.events)).toEqual(['m.room.name/'])
    expect(after.rooms.join[id].state).toBeUndefined()
  })

  test('timeline limit 0 brings all state', async () => {
    const alice = user('alice')
    const id = await created(alice)
    const first = await server.sync(alice, { filter: '{"room":{"timeline":{"limit":0}}}' })
    expect(first.rooms.join[id].timeline.events).toEqual([])
    expect(first.rooms.join[id].timeline.limited).toBe(true)
    expect(first.rooms.join[id].state.events).toHaveLength(3)
  })

  test('a rejected invite tells its end in the state, for who reads memberships there', async () => {
    const [alice, bob] = [user('alice'), user('bob')]
    const id = await created(alice)
    await server.member(id, bob, 'invite', alice)
    const { next_batch: since } = await server.sync(bob)
    await server.member(id, bob, 'leave')
    const own = [`m.room.member/${bob}`]
    const { state, timeline } = (await server.sync(bob, { since })).rooms.leave[id]
    expect([types(state.events), types(timeline.events)]).toEqual([[], own])
    const after = (await server.sync(bob, { since, use_state_after: true })).rooms.leave[id]
    expect([types(after.state_after.events), types(after.timeline.events)]).toEqual([own, own])
    const filter = '{"room":{"timeline":{"limit":0}}}'
    const untold = (await server.sync(bob, { since, filter })).rooms.leave[id]
    expect([types(untold.state.events), types(untold.timeline.events)]).toEqual([own, []])
  })

  test('invite, join, leave and ban', async () => {
    const [alice, bob] = [user('alice'), user('bob')]
    const id = await created(alice)
    let { next_batch } = await server.sync(bob)
    await server.member(id, bob, 'invite', alice)
    const invited = await server.sync(bob, { since: next_batch })
    expect(types(invited.rooms.invite[id].invite_state.events).sort()).toEqual(
      ['m.room.create/', 'm.room.join_rules/', `m.room.member/${bob}`].sort(),
    )
    expect((await server.sync(bob)).rooms.invite[id]).toBeDefined()
    await server.member(id, bob, 'join')
    const joined = await server.sync(bob, { since: invited.next_batch })
    expect(joined.rooms.invite).toBeUndefined()
    expect(joined.rooms.join[id].timeline.limited).toBe(true)
    await server.message(id, alice, 'seen')
    await server.member(id, bob, 'leave')
    await server.message(id, alice, 'unseen')
    const left = await server.sync(bob, { since: joined.next_batch })
    expect(left.rooms.join).toBeUndefined()
    expect(types(left.rooms.leave[id].timeline.events)).toEqual(['m.room.message/-', `m.room.member/${bob}`])
    next_batch = left.next_batch
    expect((await server.sync(bob, { since: next_batch })).rooms).toBeUndefined()
    expect((await server.sync(bob)).rooms).toBeUndefined()
    const archive = await server.sync(bob, { filter: '{"room":{"include_leave":true}}' })
    expect(types(archive.rooms.leave[id].timeline.events).at(-1)).toBe(`m.room.member/${bob}`)
    const between = await server.sync(bob, { since: invited.next_batch })
    expect(types(between.rooms.leave[id].timeline.events).at(-1)).toBe(`m.room.member/${bob}`)
    await server.member(id, bob, 'ban', alice)
    const banned = await server.sync(bob, { since: next_batch })
    expect(types(banned.rooms.leave[id].timeline.events)).toEqual([`m.room.member/${bob}`])
  })

  test('history is hidden from those who were not there', async () => {
    const [alice, bob] = [user('alice'), user('bob')]
    const id = await created(alice)
    await server.send({
      room: id,
      type: 'm.room.history_visibility',
      state_key: '',
      sender: alice,
      content: { history_visibility: 'joined' },
    })
    await server.message(id, alice, 'before')
    await server.member(id, bob, 'join')
    await server.message(id, alice, 'after')
    const first = await server.sync(bob)
    // What was sent while history was shared can be read; what was sent after that, before the join, cannot.
    expect(types(first.rooms.join[id].timeline.events).slice(3)).toEqual([
      'm.room.history_visibility/',
      `m.room.member/${bob}`,
      'm.room.message/-',
    ])
    expect(bodies(first, id)).not.toContain('before')
    expect(first.rooms.join[id].timeline.events.map((e: SyncAnswer) => e.unsigned.membership)).toEqual([
      ...Array(4).fill('leave'),
      'join',
      'join',
    ])
  })

  test('unread counts follow events, receipts and threads', async () => {
    const [alice, bob] = [user('alice'), user('bob')]
    const id = await created(alice)
    await server.member(id, bob, 'join')
    const { next_batch } = await server.sync(bob)
    const a = await server.message(id, alice, 'A')
    const b = await server.message(id, alice, 'B', { thread_root: a })
    await server.message(id, alice, 'C', { thread_root: a, push: 3 })
    const d = await server.message(id, alice, 'D', { push: 3 })
    await server.message(id, alice, 'E', { thread_root: a })
    const f = await server.message(id, alice, 'F')
    const threads = '{"room":{"timeline":{"unread_thread_notifications":true}}}'
    const counts = async (restart: boolean) => {
      if (restart) server.restart()
      const all = (await server.sync(bob, { since: next_batch })).rooms.join[id]
      const main = (await server.sync(bob, { since: next_batch, filter: threads })).rooms.join[id]
      return [
        all.unread_notifications.notification_count,
        all.unread_notifications.highlight_count,
        main.unread_notifications.notification_count,
        main.unread_notifications.highlight_count,
        main.unread_thread_notifications?.[a]?.notification_count ?? 0,
        main.unread_thread_notifications?.[a]?.highlight_count ?? 0,
      ]
    }
    for (const restart of [false, true]) expect(await counts(restart)).toEqual([6, 2, 3, 1, 3, 1])
    await server.receipt({ room: id, user: bob, event_id: a, thread_id: 'main' })
    for (const restart of [false, true]) expect(await counts(restart)).toEqual([5, 2, 2, 1, 3, 1])
    await server.receipt({ room: id, user: bob, event_id: b, thread_id: a })
    for (const restart of [false, true]) expect(await counts(restart)).toEqual([4, 2, 2, 1, 2, 1])
    await server.receipt({ room: id, user: bob, event_id: d })
    for (const restart of [false, true]) expect(await counts(restart)).toEqual([2, 0, 1, 0, 1, 0])
    await server.receipt({ room: id, user: bob, event_id: f, thread_id: a })
    for (const restart of [false, true]) expect(await counts(restart)).toEqual([1, 0, 1, 0, 0, 0])
    await server.message(id, bob, 'mine')
    for (const restart of [false, true]) expect(await counts(restart)).toEqual([0, 0, 0, 0, 0, 0])
  })

  test('receipts: private ones for their owner, the unthreaded one first', async () => {
    const [alice, bob] = [user('alice'), user('bob')]
    const id = await created(alice)
    await server.member(id, bob, 'join')
    const { next_batch } = await server.sync(bob)
    const a = await server.message(id, alice, 'A')
    await server.receipt({ room: id, user: bob, event_id: a, type: 'm.read.private' })
    await server.receipt({ room: id, user: alice, event_id: a })
    await server.receipt({ room: id, user: alice, event_id: a, thread_id: 'main' })
    const receipts = (answer: SyncAnswer) => answer.rooms.join[id].ephemeral.events[0].content[a]
    for (const query of [{ since: next_batch }, {}]) {
      expect(receipts(await server.sync(bob, query))).toEqual({
        'm.read': { [alice]: { ts: server.clock.now() } },
        'm.read.private': { [bob]: { ts: server.clock.now() } },
      })
      expect(Object.keys(receipts(await server.sync(alice, query)))).toEqual(['m.read'])
    }
  })

  test('ignored users are not heard, their state is', async () => {
    const [alice, bob] = [user('alice'), user('bob')]
    const id = await created(alice)
    await server.member(id, bob, 'join')
    await server.accountData(alice, 'm.ignored_user_list', { ignored_users: { [bob]: {} } })
    const { next_batch } = await server.sync(alice)
    await server.message(id, bob, 'noise')
    await server.send({ room: id, type: 'm.room.topic', state_key: '', sender: bob, content: { topic: 't' } })
    const answer = await server.sync(alice, { since: next_batch })
    expect(types(answer.rooms.join[id].timeline.events)).toEqual(['m.room.topic/'])
    const other = await created(bob)
    await server.member(other, alice, 'invite', bob)
    expect((await server.sync(alice, { since: answer.next_batch })).rooms).toBeUndefined()
  })

  test.each([
    ['m.invite_permission_config', { default_action: 'block' }],
    ['org.matrix.msc4155.invite_permission_config', { ignored_users: ['@*'] }],
    ['org.matrix.msc4155.invite_permission_config', { blocked_servers: ['*'] }],
  ])('client-server-api/#invite-permission: what %s keeps out is not shown, until it is let in', async (type, rule) => {
    const [alice, bob] = [user('alice'), user('bob')]
    const { next_batch: since } = await server.sync(alice)
    const id = await created(bob)
    await server.member(id, alice, 'invite', bob)
    await server.accountData(alice, type, rule)
    for (const restart of [false, true]) {
      if (restart) server.restart()
      expect((await server.sync(alice)).rooms).toBeUndefined()
      expect((await server.sync(alice, { since })).rooms).toBeUndefined()
    }
    await server.accountData(alice, type, {})
    expect(Object.keys((await server.sync(alice)).rooms.invite)).toEqual([id])
  })

  test('lazy loading sends the members that a timeline needs, once', async () => {
    const [alice, bob, carol] = [user('alice'), user('bob'), user('carol')]
    const id = await created(alice)
    await server.send({ room: id, type: 'm.room.name', state_key: '', sender: alice, content: { name: 'n' } })
    await server.member(id, bob, 'join')
    await server.member(id, carol, 'join')
    await server.message(id, alice, 'one')
    const filter = '{"room":{"timeline":{"limit":1},"state":{"lazy_load_members":true}}}'
    const first = await server.sync(bob, { filter })
    const members = (answer: SyncAnswer) =>
      answer.rooms.join[id].state.events.flatMap((e: { type: string; state_key: string }) =>
        e.type === 'm.room.member' ? [e.state_key] : [],
      )
    expect(members(first).sort()).toEqual([alice, bob].sort())
    await server.message(id, carol, 'two')
    const second = await server.sync(bob, { filter, since: first.next_batch })
    expect(members(second)).toEqual([carol])
    expect(members(await server.sync(bob, { filter, since: first.next_batch }))).toEqual([carol])
    await server.message(id, carol, 'three')
    expect(members(await server.sync(bob, { filter, since: second.next_batch }))).toEqual([])
  })

  test('a waiting client is woken', async () => {
    const [alice, bob] = [user('alice'), user('bob')]
    const id = await created(alice)
    await server.member(id, bob, 'join')
    const { next_batch } = await server.sync(bob)
    const waiting = server.sync(bob, { since: next_batch, timeout: 30_000 })
    await server.message(id, alice, 'wake')
    expect(bodies(await waiting, id)).toEqual(['wake'])
    const idle = server.sync(bob, { since: (await waiting).next_batch, timeout: 30_000 })
    await new Promise((resolve) => setImmediate(resolve))
    server.clock.advance(30_001)
    expect((await idle).rooms).toBeUndefined()
    server.replication.publishEphemeral('typing', [{ room_id: id, user_ids: [alice] }])
    const typing = await server.sync(bob, { since: next_batch })
    expect(typing.rooms.join[id].ephemeral.events).toEqual([{ type: 'm.typing', content: { user_ids: [alice] } }])
  })

  test('the end of typing is told by a handler that meets the user only then', async () => {
    const [alice, bob, carol] = [user('alice'), user('bob'), user('carol')]
    const id = await created(alice)
    await server.member(id, bob, 'join')
    server.restart()
    server.replication.publishEphemeral('typing', [{ room_id: id, user_ids: [alice] }])
    // Another handler told bob of it, up to here.
    const { next_batch } = await server.sync(carol)
    server.replication.publishEphemeral('typing', [{ room_id: id, user_ids: [] }])
    const { rooms } = await server.sync(bob, { since: next_batch })
    expect(rooms.join[id].ephemeral.events).toEqual([{ type: 'm.typing', content: { user_ids: [] } }])
  })

  test('presence of those who share a room', async () => {
    const [alice, bob, carol] = [user('alice'), user('bob'), user('carol')]
    const id = await created(alice)
    await server.member(id, bob, 'join')
    const tokens = { bob: (await server.sync(bob)).next_batch, carol: (await server.sync(carol)).next_batch }
    const state = { presence: 'online', last_active_ts: server.clock.now(), currently_active: true } as const
    const waiting = server.sync(bob, { since: tokens.bob, timeout: 30_000 })
    server.replication.publishEphemeral('presence', [{ user_id: alice, ...state }])
    expect((await waiting).presence.events).toEqual([
      {
        type: 'm.presence',
        sender: alice,
        content: { presence: 'online', last_active_ago: 0, currently_active: true },
      },
    ])
    const alone = await server.sync(carol, { since: tokens.carol })
    expect(alone.presence).toBeUndefined()
    await server.member(id, carol, 'join')
    expect((await server.sync(carol, { since: alone.next_batch })).presence.events[0].sender).toBe(alice)
  })

  test('device lists tell who was met and who parted', async () => {
    const [alice, bob] = [user('alice'), user('bob')]
    const id = await created(alice)
    const first = await server.sync(alice)
    await server.member(id, bob, 'join')
    const met = await server.sync(alice, { since: first.next_batch })
    expect(met.device_lists).toEqual({ changed: [bob], left: [] })
    await server.member(id, bob, 'leave')
    const parted = await server.sync(alice, { since: met.next_batch })
    expect(parted.device_lists).toEqual({ changed: [], left: [bob] })
  })

  test('account data, global and of rooms', async () => {
    const alice = user('alice')
    const id = await created(alice)
    const { next_batch } = await server.sync(alice)
    await server.accountData(alice, 'org.test', { a: 1 })
    await server.accountData(alice, 'm.tag', { tags: {} }, id)
    for (const restart of [false, true]) {
      if (restart) server.restart()
      const answer = await server.sync(alice, { since: next_batch })
      expect(answer.account_data.events).toEqual([{ type: 'org.test', content: { a: 1 } }])
      expect(answer.rooms.join[id].account_data.events).toEqual([{ type: 'm.tag', content: { tags: {} } }])
    }
  })

  test('bad tokens are refused, tokens of the future start anew', async () => {
    const alice = user('alice')
    const id = await created(alice)
    await expect(server.sync(alice, { since: 'nonsense' })).rejects.toMatchObject({ errcode: 'M_INVALID_PARAM' })
    await expect(server.sync(alice, { filter: '{' })).rejects.toMatchObject({ errcode: 'M_NOT_JSON' })
    await expect(server.sync(alice, { filter: '12345' })).rejects.toMatchObject({ errcode: 'M_INVALID_PARAM' })
    const future = await server.sync(alice, { since: 's1_999999999_0_0_0_0_0' })
    expect(future.rooms.join[id].timeline.events).toHaveLength(3)
  })

  test('full_state brings all state again, also with a token', async () => {
    const alice = user('alice')
    const id = await created(alice)
    const { next_batch } = await server.sync(alice)
    await server.message(id, alice, 'new')
    const answer = await server.sync(alice, { since: next_batch, full_state: true, timeout: 30_000 })
    expect(bodies(answer, id)).toEqual(['new'])
    expect(answer.rooms.join[id].state.events).toHaveLength(3)
  })

  test('filters: what is left out of a timeline is not left out of the state', async () => {
    const alice = user('alice')
    const id = await created(alice)
    const { next_batch } = await server.sync(alice)
    await server.message(id, alice, 'm')
    await server.send({ room: id, type: 'm.room.topic', state_key: '', sender: alice, content: { topic: 't' } })
    await server.send({ room: id, type: 'org.test_type', sender: alice, content: { url: 'mxc://a' } })
    const cases = [
      { timeline: { types: ['m.room.message'] }, shown: ['m.room.message/-'], state: ['m.room.topic/'] },
      { timeline: { not_types: ['m.room.*'] }, shown: ['org.test_type/-'], state: ['m.room.topic/'] },
      { timeline: { types: ['org.test%type', 'org.test_*'] }, shown: ['org.test_type/-'], state: ['m.room.topic/'] },
      { timeline: { contains_url: true }, shown: ['org.test_type/-'], state: ['m.room.topic/'] },
      { timeline: { not_senders: [alice] }, shown: [], state: ['m.room.topic/'] },
      { timeline: { not_rooms: [id] }, shown: [], state: ['m.room.topic/'] },
    ]
    for (const restart of [false, true]) {
      for (const { timeline, shown, state } of cases) {
        if (restart) server.restart()
        const answer = await server.sync(alice, { since: next_batch, filter: JSON.stringify({ room: { timeline } }) })
        expect(types(answer.rooms.join[id].timeline.events)).toEqual(shown)
        expect(types(answer.rooms.join[id].state.events)).toEqual(state)
      }
    }
    const none = await server.sync(alice, { filter: JSON.stringify({ room: { rooms: [] } }) })
    expect(none.rooms).toBeUndefined()
    const fields = await server.sync(alice, { since: next_batch, filter: '{"event_fields":["content.body","type"]}' })
    expect(fields.rooms.join[id].timeline.events[0]).toEqual({ content: { body: 'm' }, type: 'm.room.message' })
    const wire = await server.sync(alice, { since: next_batch, filter: '{"event_format":"federation"}' })
    expect(wire.rooms.join[id].timeline.events[0]).toEqual({ content: { body: 'm', msgtype: 'm.text' } })
  })

  test('MSC3874: filters by the relation of an event, from memory and from the database', async () => {
    const alice = user('alice')
    const id = await created(alice)
    const { next_batch } = await server.sync(alice)
    const event_id = await server.message(id, alice, 'root')
    for (const rel_type of ['m.thread', 'm.reference']) {
      const relates_to = { rel_type, event_id }
      await server.send({ room: id, type: 'm.room.message', sender: alice, content: { body: rel_type }, relates_to })
    }
    const cases = [
      { timeline: { 'org.matrix.msc3874.rel_types': ['m.thread'] }, shown: ['m.thread'] },
      { timeline: { 'org.matrix.msc3874.not_rel_types': ['m.thread'] }, shown: ['root', 'm.reference'] },
    ]
    for (const restart of [false, true]) {
      for (const { timeline, shown } of cases) {
        if (restart) server.restart()
        const answer = await server.sync(alice, { since: next_batch, filter: JSON.stringify({ room: { timeline } }) })
        const { events } = answer.rooms.join[id].timeline
        expect(events.map((event: { content: { body: string } }) => event.content.body)).toEqual(shown)
      }
    }
  })

  test('a redacted event is nowhere to be seen, and no longer counts', async () => {
    const [alice, bob] = [user('alice'), user('bob')]
    const id = await created(alice)
    await server.member(id, bob, 'join')
    const { next_batch } = await server.sync(bob)
    const event_id = await server.message(id, alice, 'secret')
    await server.message(id, alice, 'open')
    const counted = (answer: SyncAnswer) => answer.rooms.join[id].unread_notifications.notification_count
    expect(counted(await server.sync(bob, { since: next_batch }))).toBe(2)
    await server.redact(event_id)
    const after = await server.sync(bob, { since: next_batch })
    expect(bodies(after, id)).toEqual([undefined, 'open'])
    expect(counted(after)).toBe(1)
  })

  test('a timeline that starts anew brings the aggregations of its events', async () => {
    const alice = user('alice')
    const id = await created(alice)
    const event_id = await server.message(id, alice, 'parent')
    const child = await server.message(id, alice, 'child', { relates_to: { event_id, rel_type: 'm.reference' } })
    const answer = await server.sync(alice)
    const parent = answer.rooms.join[id].timeline.events.find((e: SyncAnswer) => e.event_id === event_id)
    expect(parent.unsigned['m.relations']).toMatchObject({ 'm.reference': { chunk: [{ event_id: child }] } })
  })

  test('many rooms come in one answer, newest first', async () => {
    const alice = user('alice')
    const ids: string[] = []
    for (let i = 0; i < 45; i++) ids.unshift(await created(alice))
    const answer = await server.sync(alice)
    expect(Object.keys(answer.rooms.join)).toEqual(ids)
    for (const id of ids) expect(answer.rooms.join[id].timeline.events).toHaveLength(3)
  })

  test('a forgotten room is not in the archive', async () => {
    const alice = user('alice')
    const id = await created(alice)
    await server.member(id, alice, 'leave')
    const filter = '{"room":{"include_leave":true}}'
    expect((await server.sync(alice, { filter })).rooms.leave[id]).toBeDefined()
    await database.sql`update memberships set forgotten = true where user_id = ${alice}`
    expect((await server.sync(alice, { filter })).rooms).toBeUndefined()
  })

  test('a knock shows the stripped state', async () => {
    const [alice, bob] = [user('alice'), user('bob')]
    const id = await created(alice)
    const { next_batch } = await server.sync(bob)
    await server.member(id, bob, 'knock')
    const answer = await server.sync(bob, { since: next_batch })
    expect(types(answer.rooms.knock[id].knock_state.events)).toContain(`m.room.member/${bob}`)
  })

  test('a member who comes or goes changes the summary of all', async () => {
    const [alice, bob] = [user('alice'), user('bob')]
    const id = await created(alice)
    const first = await server.sync(alice)
    await server.member(id, bob, 'join')
    const second = await server.sync(alice, { since: first.next_batch })
    expect(second.rooms.join[id].summary).toEqual({
      'm.heroes': [bob],
      'm.joined_member_count': 2,
      'm.invited_member_count': 0,
    })
    await server.member(id, bob, 'leave')
    const third = await server.sync(alice, { since: second.next_batch })
    expect(third.rooms.join[id].summary).toMatchObject({ 'm.heroes': [bob], 'm.joined_member_count': 1 })
  })

  test('a message that is delivered to who waits costs no query, nor does an answer without news', async () => {
    const alice = user('alice')
    const id = await created(alice)
    const others = Array.from({ length: 20 }, () => user('bob'))
    for (const other of others) await server.member(id, other, 'join')
    const filter = '{"room":{"state":{"lazy_load_members":true}}}'
    const tokens = await Promise.all(others.map(async (other) => (await server.sync(other, { filter })).next_batch))
    const deliver = async (body: string) => {
      const waiting = others.map((other, i) => server.sync(other, { since: tokens[i], filter, timeout: 30_000 }))
      await server.message(id, alice, body)
      for (const [i, answer] of (await Promise.all(waiting)).entries()) {
        expect(bodies(answer, id)).toEqual([body])
        tokens[i] = answer.next_batch
      }
    }
    await deliver('one')
    const before = server.queries()
    await deliver('two')
    for (const [i, other] of others.entries()) await server.sync(other, { since: tokens[i], filter })
    expect(server.queries()).toBe(before)
  })
})
