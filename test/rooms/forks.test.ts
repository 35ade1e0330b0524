import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Receipt, receiveEvents } from '../../functions/main/rooms/receive-events.ts'
import { authEventKeys } from '../../shared/core/auth-selection.ts'
import { type RoomRules, rulesOf } from '../../shared/core/room-versions.ts'
import { buildEvent, pduFromStored, type StoredEvent } from '../../shared/matrix/event-format.ts'
import type { EventId, RoomId, ServerName, UserId } from '../../shared/matrix/ids.ts'
import type { JsonObject } from '../../shared/matrix/json-value.ts'
import { generateSigningKey } from '../../shared/matrix/signatures.ts'
import { type TestMain, testMain } from '../support/main.ts'

let main: TestMain
let alice: UserId
let bob: UserId
const otherServer = 'hs2' as ServerName
const otherKey = generateSigningKey('a_other')
beforeAll(async () => {
  main = await testMain()
  ;[alice, bob] = await Promise.all([main.user('alice'), main.user('bob')])
})
afterAll(() => main.drop())

/** One of each algorithm of state resolution and format of events that tells these tests apart. */
const versions = ['2', '11', '12']
let rules: RoomRules
const levels = () => ({ users: rules.creatorsHaveInfinitePower ? { [bob]: 50 } : { [alice]: 100, [bob]: 50 } })
interface Wish {
  readonly type: string
  readonly state_key?: string
  readonly sender: UserId
  readonly content: JsonObject
  readonly ts?: number
}

/** A room where bob has power 50, and an event in it to fork from. */
async function forkedFrom(): Promise<{ room_id: RoomId; base: EventId }> {
  const { room_id } = await main.commands.createRoom({
    user_id: alice,
    room_version: rules.version,
    preset: 'public_chat',
    power_level_content_override: levels(),
  })
  await main.commands.changeMembership({ room_id, user_id: bob, target: bob, action: 'join' })
  const { event_id } = await say(room_id, 'base')
  return { room_id, base: event_id }
}
const say = (room_id: RoomId, body: string, user_id = alice) =>
  main.commands.sendEvent({ room_id, user_id, type: 'm.room.message', content: { body } })
const setTopic = (room_id: RoomId, topic: string, user_id = alice) =>
  main.commands.sendEvent({ room_id, user_id, type: 'm.room.topic', state_key: '', content: { topic } })

/** An event of another server, on the state that the current one was at `base`; nothing there is newer in these tests. */
async function elsewhere(room_id: RoomId, base: readonly EventId[], wish: Wish) {
  const rows = await main.database.sql<{ event_id: EventId; envelope: string; content: string }[]>`
    select event_id, envelope, content from events join rooms using (room_nid)
    where room_id = ${room_id} and position <= (select max(position) from events where event_id in ${main.database.sql([...base])})
    order by position`
  const pdus = rows.map((row) => pduFromStored(rules, row.event_id, room_id, row.envelope, row.content))
  const auth_events = authEventKeys(rules, wish).flatMap(([type, state_key]) => {
    const found = pdus.findLast((pdu) => pdu.type === type && pdu.state_key === state_key)
    return found ? [found.event_id] : []
  })
  const depth = Math.max(...pdus.map((pdu) => pdu.depth)) + 1
  const { ts = Date.now(), ...event } = wish
  return buildEvent(
    rules,
    { ...event, room_id, prev_events: base, auth_events, depth, origin_server_ts: ts },
    otherServer,
    otherKey,
  )
}
async function receive(room_id: RoomId, base: readonly EventId[], wish: Wish): Promise<Receipt & { id: EventId }> {
  const event = await elsewhere(room_id, base, wish)
  return { ...(await receiveOne(room_id, event)), id: event.pdu.event_id }
}
const receiveOne = async (room_id: RoomId, event: StoredEvent) =>
  (await receiveEvents(main.rooms, room_id, [event]))[0]!
const stored = async (event_id: EventId) => {
  const [row] = await main.database.sql<{ position: number | null; flags: number; envelope: string }[]>`
    select position, flags, envelope from events where event_id = ${event_id}`
  return row!
}
/** Ids of the events that it follows; older versions of rooms pair them with hashes. */
const previousOf = async (event_id: EventId): Promise<EventId[]> => {
  const references = JSON.parse((await stored(event_id)).envelope).prev_events as (EventId | [EventId, JsonObject])[]
  return references.map((reference) => {
    if (typeof reference === 'string') return reference
    expect(reference[1]).toEqual({ sha256: expect.stringMatching(/^[A-Za-z0-9+/]{43}$/) })
    return reference[0]
  })
}
const current = async (room_id: RoomId, type: string, state_key = '') => {
  const [row] = await main.database.sql<{ event_id: EventId; content: string }[]>`
    select e.event_id, e.content from current_state c join rooms r using (room_nid) join events e on e.event_nid = c.event_nid
    where r.room_id = ${room_id} and c.type = ${type} and c.state_key = ${state_key}`
  return row && { event_id: row.event_id, content: JSON.parse(row.content) }
}

describe.each(versions)('server-server-api/#checks-performed-on-receipt-of-a-pdu, room version %s', (version) => {
  beforeAll(() => {
    rules = rulesOf(version)!
  })

  test('a fork is merged by the next event', async () => {
    const { room_id, base } = await forkedFrom()
    const { event_id: ours } = await say(room_id, 'ours')
    const theirs = await receive(room_id, [base], { type: 'm.room.message', sender: bob, content: { body: 'theirs' } })
    expect(theirs.outcome).toBe('accepted')
    const { event_id: merge } = await say(room_id, 'merge')
    expect((await previousOf(merge)).toSorted()).toEqual([ours, theirs.id].toSorted())
    expect((await stored(theirs.id)).position).not.toBeNull()
  })

  test('the same event twice is known; one on events that are not here is not stored', async () => {
    const { room_id, base } = await forkedFrom()
    const event = await elsewhere(room_id, [base], { type: 'm.room.message', sender: bob, content: {} })
    expect(await receiveOne(room_id, event)).toEqual({ outcome: 'accepted' })
    expect(await receiveOne(room_id, event)).toEqual({ outcome: 'known' })
    const built = { ...event, pdu: { ...event.pdu, event_id: '$x' as EventId, prev_events: ['$none' as EventId] } }
    expect(await receiveOne(room_id, built)).toEqual({
      outcome: 'missing',
      prev_events: ['$none'],
      auth_events: [],
    })
  })

  test.each([
    { first: 'theirs', ts: 1_000 },
    { first: 'ours', ts: Date.now() + 3_600_000 },
  ])('conflicting state: $first came first, so the other one holds', async ({ first, ts }) => {
    const { room_id, base } = await forkedFrom()
    await setTopic(room_id, 'ours')
    const theirs = await receive(room_id, [base], {
      type: 'm.room.topic',
      state_key: '',
      sender: bob,
      content: { topic: 'theirs' },
      ts,
    })
    expect(theirs.outcome).toBe('accepted')
    const expected = first === 'ours' ? 'theirs' : 'ours'
    expect((await current(room_id, 'm.room.topic'))?.content).toEqual({ topic: expected })
    // What is in memory, what is stored and what follows agree.
    await main.close()
    main = await main.restarted()
    await say(room_id, 'merge')
    expect((await current(room_id, 'm.room.topic'))?.content).toEqual({ topic: expected })
    const { event_id } = await setTopic(room_id, expected, expected === 'ours' ? alice : bob)
    expect(event_id).toBe((await current(room_id, 'm.room.topic'))?.event_id)
  })

  test('a ban on one fork outweighs what the banned did on the other', async () => {
    const { room_id, base } = await forkedFrom()
    await main.commands.sendEvent({
      room_id,
      user_id: bob,
      type: 'm.room.member',
      state_key: bob,
      content: { membership: 'join', displayname: 'Robert' },
    })
    await setTopic(room_id, "bob's", bob)
    const banned = await receive(room_id, [base], {
      type: 'm.room.member',
      state_key: bob,
      sender: alice,
      content: { membership: 'ban' },
    })
    expect(banned.outcome).toBe('accepted')
    expect((await current(room_id, 'm.room.member', bob))?.event_id).toBe(banned.id)
    expect(await current(room_id, 'm.room.topic')).toBeUndefined()
    await expect(say(room_id, 'still here', bob)).rejects.toMatchObject({ errcode: 'M_FORBIDDEN' })
    const [member] = await main.database.sql<{ membership: string; joined_members: number }[]>`
      select m.membership, s.joined_members from memberships m join rooms using (room_nid)
      join room_summaries s using (room_nid) where room_id = ${room_id} and user_id = ${bob}`
    expect(member).toEqual({ membership: 'ban', joined_members: 1 })
  })

  test('what the current state forbids is soft-failed: stored, in no timeline, followed by nothing', async () => {
    const { room_id, base } = await forkedFrom()
    const { event_id: ban } = await main.commands.changeMembership({
      room_id,
      user_id: alice,
      target: bob,
      action: 'ban',
    })
    const late = await receive(room_id, [base], { type: 'm.room.message', sender: bob, content: { body: 'late' } })
    expect(late.outcome).toBe('soft-failed')
    expect(await stored(late.id)).toMatchObject({ position: null, flags: 2 })
    const { event_id } = await say(room_id, 'next')
    expect(await previousOf(event_id)).toEqual([ban])
  })

  test('what the state before it forbids is rejected, and so is what names it as an auth event', async () => {
    const { room_id, base } = await forkedFrom()
    const coup = await receive(room_id, [base], {
      type: 'm.room.power_levels',
      state_key: '',
      sender: bob,
      content: { users: { [alice]: 0, [bob]: 100 } },
    })
    expect(coup.outcome).toBe('rejected')
    expect(await stored(coup.id)).toMatchObject({ position: null, flags: 1 })
    const event = await elsewhere(room_id, [base], { type: 'm.room.message', sender: alice, content: {} })
    const auth_events = [...event.pdu.auth_events.slice(0, 1), coup.id, ...event.pdu.auth_events.slice(2)]
    const built = { ...event, pdu: { ...event.pdu, auth_events } }
    expect(await receiveOne(room_id, built)).toMatchObject({ outcome: 'rejected' })
    expect((await current(room_id, 'm.room.power_levels'))?.content).toMatchObject(levels())
  })
})
