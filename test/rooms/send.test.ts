import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { DeviceId, EventId, RoomId, UserId } from '../../shared/matrix/ids.ts'
import type { JsonObject } from '../../shared/matrix/json-value.ts'
import { type TestMain, testMain } from '../support/main.ts'

let main: TestMain
let alice: UserId
let bob: UserId
beforeAll(async () => {
  main = await testMain()
  ;[alice, bob] = await Promise.all([main.user('alice', 'Alice'), main.user('bob')])
})
afterAll(() => main.drop())

const publicRoom = async (extra: object = {}) =>
  (await main.commands.createRoom({ user_id: alice, preset: 'public_chat', ...extra })).room_id
const join = (room_id: RoomId, user_id: UserId) =>
  main.commands.changeMembership({ room_id, user_id, target: user_id, action: 'join' })
const say = (room_id: RoomId, user_id: UserId, body: string, txn_id?: string) =>
  main.commands.sendEvent({
    room_id,
    user_id,
    device_id: 'D' as DeviceId,
    txn_id,
    type: 'm.room.message',
    content: { msgtype: 'm.text', body },
  })
const setState = (room_id: RoomId, user_id: UserId, type: string, content: JsonObject, state_key = '') =>
  main.commands.sendEvent({ room_id, user_id, type, state_key, content })
const stored = async (event_id: EventId) => {
  const [row] = await main.database.sql<
    { position: number; depth: number; content: string; envelope: string; redacted_by_nid: number | null }[]
  >`select position, depth, content, envelope, redacted_by_nid from events where event_id = ${event_id}`
  if (!row) throw new Error(`${event_id} is not stored`)
  return row
}
const forbidden = expect.objectContaining({ errcode: 'M_FORBIDDEN', status: 403 })

describe('client-server-api/#sending-events-to-a-room', () => {
  test('30 sends at once: distinct contiguous positions, depths and previous events in a chain', async () => {
    const room_id = await publicRoom()
    const sent = await Promise.all(Array.from({ length: 30 }, (_, i) => say(room_id, alice, `message ${i}`)))
    const rows = await Promise.all(sent.map(({ event_id }) => stored(event_id)))
    const first = rows[0]!
    expect(rows.map((row) => row.position)).toEqual(rows.map((_, i) => first.position + i))
    expect(rows.map((row) => row.depth)).toEqual(rows.map((_, i) => first.depth + i))
    expect(rows.slice(1).map((row) => JSON.parse(row.envelope).prev_events)).toEqual(
      sent.slice(0, -1).map(({ event_id }) => [event_id]),
    )
  })

  test('a room that was evicted or whose server restarted goes on where it stood', async () => {
    const room_id = await publicRoom()
    await join(room_id, bob)
    const { event_id: last } = await say(room_id, bob, 'before')
    await main.close()
    main = await main.restarted()
    const { event_id } = await say(room_id, bob, 'after')
    expect(JSON.parse((await stored(event_id)).envelope).prev_events).toEqual([last])
  })

  test.each([
    { why: 'a user who is not in the room', by: () => bob, type: 'm.room.message', state_key: undefined },
    { why: 'state without power', by: () => bob, type: 'm.room.name', state_key: '', joined: true },
    { why: "another user's own state", by: () => bob, type: 'x', state_key: '@alice:hs1', joined: true },
  ])('M_FORBIDDEN: $why', async ({ by, type, state_key, joined }) => {
    const room_id = await publicRoom({ power_level_content_override: { events: { x: 0 } } })
    if (joined) await join(room_id, bob)
    await expect(
      main.commands.sendEvent({ room_id, user_id: by(), type, state_key, content: { name: 'x' } }),
    ).rejects.toEqual(forbidden)
  })

  test('a room that nobody here knows is one the user is not in', async () => {
    await expect(say('!nowhere:hs1' as RoomId, alice, 'x')).rejects.toEqual(forbidden)
  })

  test.each([
    { why: 'a float', content: { a: 1.5 }, errcode: 'M_BAD_JSON', status: 400 },
    { why: 'an integer that is too large', content: { a: 2 ** 53 }, errcode: 'M_BAD_JSON', status: 400 },
    { why: 'too much', content: { a: 'x'.repeat(66_000) }, errcode: 'M_TOO_LARGE', status: 413 },
  ])('$errcode: $why; the room goes on', async ({ content, errcode, status }) => {
    const room_id = await publicRoom()
    await expect(
      main.commands.sendEvent({ room_id, user_id: alice, type: 'm.room.message', content }),
    ).rejects.toMatchObject({ errcode, status })
    await say(room_id, alice, 'still there')
  })

  test('floats are content in room versions before 6', async () => {
    const room_id = await publicRoom({ room_version: '5' })
    await main.commands.sendEvent({ room_id, user_id: alice, type: 'm.room.message', content: { a: 1.5 } })
  })

  test('m.room.create cannot be sent', async () => {
    const room_id = await publicRoom()
    await expect(setState(room_id, alice, 'm.room.create', { entropy: 1 })).rejects.toMatchObject({ status: 400 })
  })
})

describe('client-server-api/#transaction-identifiers', () => {
  test('the same transaction twice has one effect, at once, later and after a restart', async () => {
    const room_id = await publicRoom()
    const [one, two] = await Promise.all([say(room_id, alice, 'a', 't'), say(room_id, alice, 'b', 't')])
    expect(two).toEqual(one)
    expect(await say(room_id, alice, 'c', 't')).toEqual(one)
    await main.close()
    main = await main.restarted()
    expect(await say(room_id, alice, 'd', 't')).toEqual(one)
    expect(JSON.parse((await stored(one.event_id)).content).body).toBe('a')
  })
  test('it is scoped to the room and the device', async () => {
    const [first, second] = [await publicRoom(), await publicRoom()]
    const one = await say(first, alice, 'a', 'scoped')
    expect(await say(second, alice, 'a', 'scoped')).not.toEqual(one)
    const other = await main.commands.sendEvent({
      room_id: first,
      user_id: alice,
      device_id: 'E' as DeviceId,
      txn_id: 'scoped',
      type: 'm.room.message',
      content: {},
    })
    expect(other).not.toEqual(one)
  })
})

describe('client-server-api/#put_matrixclientv3roomsroomidstateeventtypestatekey', () => {
  test('setting state to what it is makes no event', async () => {
    const room_id = await publicRoom()
    const one = await setState(room_id, alice, 'x', { b: 1, a: [1] })
    expect(await setState(room_id, alice, 'x', { a: [1], b: 1 })).toEqual(one)
    expect(await setState(room_id, alice, 'x', { a: [1], b: 2 })).not.toEqual(one)
  })

  test('m.room.canonical_alias: aliases must point to the room', async () => {
    const room_id = await publicRoom()
    const other = await publicRoom({ room_alias_name: 'other' })
    expect(other).toBeDefined()
    const alias = '#mine:hs1' as Parameters<typeof main.commands.createAlias>[0]['alias']
    await main.commands.createAlias({ alias, room_id, user_id: alice })
    const set = (content: JsonObject) => setState(room_id, alice, 'm.room.canonical_alias', content)
    await set({ alias })
    await expect(set({ alias: '#none:hs1' })).rejects.toMatchObject({ errcode: 'M_BAD_ALIAS', status: 400 })
    await expect(set({ alias, alt_aliases: ['#other:hs1'] })).rejects.toMatchObject({ errcode: 'M_BAD_ALIAS' })
    await expect(set({ alias: '%mine:hs1' })).rejects.toMatchObject({ errcode: 'M_INVALID_PARAM', status: 400 })
    await main.commands.deleteAlias({ alias, room_id, user_id: alice })
    const [row] = await main.database.sql<{ content: string }[]>`
      select e.content from current_state c join rooms r using (room_nid) join events e on e.event_nid = c.event_nid
      where r.room_id = ${room_id} and c.type = 'm.room.canonical_alias'`
    expect(row?.content).toBe('{}')
  })
})

describe('client-server-api/#mroompower_levels', () => {
  test('creators of version 12 are not listed', async () => {
    const room_id = await publicRoom()
    const levels = { users: { [alice]: 100 } }
    await expect(setState(room_id, alice, 'm.room.power_levels', levels)).rejects.toMatchObject({ status: 400 })
  })
  test('who took the power from themselves does not get it back', async () => {
    const room_id = await publicRoom({ room_version: '11' })
    await setState(room_id, alice, 'm.room.power_levels', {})
    await expect(setState(room_id, alice, 'm.room.power_levels', { users: {} })).rejects.toEqual(forbidden)
  })
})

describe('client-server-api/#redactions', () => {
  const redact = (room_id: RoomId, user_id: UserId, redacts: EventId) =>
    main.commands.sendEvent({ room_id, user_id, type: 'm.room.redaction', redacts, content: { reason: 'r' } })

  test.each(['2', '10', '12'])('version %s: own events go, those of others only with power', async (room_version) => {
    const room_id = await publicRoom({ room_version })
    await join(room_id, bob)
    const { event_id: alices } = await say(room_id, alice, 'a')
    const { event_id: bobs } = await say(room_id, bob, 'b')
    await expect(redact(room_id, bob, alices)).rejects.toEqual(forbidden)
    const { event_id: redaction } = await redact(room_id, bob, bobs)
    const row = await stored(bobs)
    expect(row.content).toBe('{}')
    expect(row.redacted_by_nid).not.toBeNull()
    const wire = await stored(redaction)
    const place = room_version === '12' ? JSON.parse(wire.content) : JSON.parse(wire.envelope)
    expect(place.redacts).toBe(bobs)
    await redact(room_id, alice, alices)
    expect((await stored(alices)).content).toBe('{}')
  })

  test('redacted state stays state, without its content', async () => {
    const room_id = await publicRoom({ name: 'Before' })
    const { event_id } = await setState(room_id, alice, 'm.room.name', { name: 'Now' })
    await redact(room_id, alice, event_id)
    const [summary] = await main.database.sql<{ name: string | null }[]>`
      select s.name from room_summaries s join rooms using (room_nid) where room_id = ${room_id}`
    expect(summary).toEqual({ name: null })
    expect(await setState(room_id, alice, 'm.room.name', {})).toEqual({ event_id })
  })
})

describe('client-server-api/#avoiding-duplicate-annotations', () => {
  test('one reaction a key and user', async () => {
    const room_id = await publicRoom()
    await join(room_id, bob)
    const { event_id } = await say(room_id, alice, 'a')
    const react = (user_id: UserId, key: string) =>
      main.commands.sendEvent({
        room_id,
        user_id,
        type: 'm.reaction',
        content: { 'm.relates_to': { rel_type: 'm.annotation', event_id, key } },
      })
    const [first] = await Promise.allSettled([react(alice, 'x')])
    expect(first.status).toBe('fulfilled')
    await expect(react(alice, 'x')).rejects.toMatchObject({ errcode: 'M_DUPLICATE_ANNOTATION', status: 400 })
    await react(alice, 'y')
    const both = await Promise.allSettled([react(bob, 'x'), react(bob, 'x')])
    expect(both.map((outcome) => outcome.status)).toEqual(['fulfilled', 'rejected'])
  })
})
