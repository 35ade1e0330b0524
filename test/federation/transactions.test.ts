/** https://spec.matrix.org/v1.19/server-server-api/#transactions and
 *  https://spec.matrix.org/v1.19/server-server-api/#checks-performed-on-receipt-of-a-pdu, from another server's side. */
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { stageEvents } from '../../functions/main/federation/staging.ts'
import type { EventId } from '../../shared/matrix/ids.ts'
import type { JsonObject } from '../../shared/matrix/json-value.ts'
import { type FederationPeer, federationPeer, type TestAuthority, testAuthority } from '../support/federation-peer.ts'
import { type FederationServer, federationServer } from '../support/federation-server.ts'
import { type PeerRoom, peerRoom } from '../support/peer-room.ts'

let authority: TestAuthority
let peer: FederationPeer
let server: FederationServer
beforeAll(async () => {
  authority = testAuthority()
  peer = await federationPeer(authority)
  server = await federationServer({ authority })
})
afterAll(async () => {
  await server.close()
  await peer.close()
  authority.close()
})

const eventually = <T>(look: () => Promise<T | undefined>): Promise<T> =>
  vi.waitFor(
    async () => {
      const found = await look()
      if (found === undefined) throw new Error('it is not there')
      return found
    },
    { timeout: 10_000, interval: 20 },
  )
const stored = async (event_id: EventId) => {
  const [row] = await server.main.database.sql<
    { position: number | null; flags: number; content: string; state_root: number }[]
  >`
    select position, flags, content, state_root from events where event_id = ${event_id}`
  return row
}
const staged = async () => {
  const [row] = await server.main.database.sql<{ n: number }[]>`select count(*)::integer as n from staged_pdus`
  return row?.n
}
const current = async (room: PeerRoom, type: string, state_key = '') => {
  const [row] = await server.main.database.sql<{ event_id: EventId; content: string }[]>`
    select e.event_id, e.content from current_state c join rooms r using (room_nid) join events e on e.event_nid = c.event_nid
    where r.room_id = ${room.room_id} and c.type = ${type} and c.state_key = ${state_key}`
  return row && { event_id: row.event_id, content: JSON.parse(row.content) as JsonObject }
}
const message = (room: PeerRoom, body: string) =>
  room.make({ type: 'm.room.message', content: { msgtype: 'm.text', body } })
const topic = (room: PeerRoom, text: string) =>
  room.make({ type: 'm.room.topic', state_key: '', content: { topic: text } })
const idsIn = (uri: string) => uri.split('/').map(decodeURIComponent)

describe.each(['1', '6', '11', '12'])('room version %s', (version) => {
  test('events of one transaction are stored in their order, and the peer is a member', async () => {
    const room = await peerRoom(server, peer, version)
    const events = ['a', 'b', 'c'].map((body) => message(room, body))
    const { status, body } = await room.send(events.map(room.wire))
    expect(status).toBe(200)
    expect(body.pdus).toEqual(Object.fromEntries(events.map(({ pdu }) => [pdu.event_id, {}])))
    const positions = await Promise.all(events.map(async ({ pdu }) => (await stored(pdu.event_id))!.position!))
    expect(positions).toEqual([positions[0], positions[0]! + 1, positions[0]! + 2])
    expect(await current(room, 'm.room.member', room.bob)).toMatchObject({ content: { membership: 'join' } })
  })

  test('state moves on, a fork is resolved, and our next event follows both', async () => {
    const room = await peerRoom(server, peer, version)
    await server.main.commands.sendEvent({
      room_id: room.room_id,
      user_id: room.alice,
      type: 'm.room.message',
      content: {},
    })
    const first = topic(room, 'first')
    await room.send([room.wire(first)])
    expect(await current(room, 'm.room.topic')).toEqual({ event_id: first.pdu.event_id, content: { topic: 'first' } })
    const second = topic(room, 'second')
    await room.send([room.wire(second), room.wire(message(room, 'after'))])
    expect((await current(room, 'm.room.topic'))?.content).toEqual({ topic: 'second' })
  })

  test('a gap is filled from the peer', async () => {
    const room = await peerRoom(server, peer, version)
    const lost = [message(room, 'lost 1'), topic(room, 'lost'), message(room, 'lost 2')]
    const last = message(room, 'last')
    peer.on('/_matrix/federation/v1/get_missing_events/', ({ uri, body }) => {
      expect(idsIn(uri)).toContain(room.room_id)
      expect(body).toMatchObject({ latest_events: [last.pdu.event_id] })
      return { body: { events: lost.map(room.wire) } }
    })
    expect(await room.send([room.wire(last)])).toMatchObject({
      status: 200,
      body: { pdus: { [last.pdu.event_id]: {} } },
    })
    const row = await eventually(() => stored(last.pdu.event_id))
    const positions = await Promise.all(lost.map(async ({ pdu }) => (await stored(pdu.event_id))?.position ?? 0))
    expect([...positions, row.position]).toEqual([...positions, row.position].toSorted((a, b) => a! - b!))
    expect((await current(room, 'm.room.topic'))?.content).toEqual({ topic: 'lost' })
    await eventually(async () => (await staged()) === 0 || undefined)
  })

  test('a gap that one answer does not fill is filled by several', async () => {
    const room = await peerRoom(server, peer, version)
    const lost = Array.from({ length: 45 }, (_, i) => message(room, `lost ${i}`))
    const last = message(room, 'last')
    peer.on('/_matrix/federation/v1/get_missing_events/', ({ body }) => {
      const [latest] = (body?.latest_events ?? []) as EventId[]
      const at = lost.findIndex(({ pdu }) => pdu.event_id === latest)
      const upTo = at < 0 ? lost.length : at
      return { body: { events: lost.slice(Math.max(0, upTo - 20), upTo).map(room.wire) } }
    })
    await room.send([room.wire(last)])
    await eventually(() => stored(last.pdu.event_id))
    const rows = await Promise.all(lost.map(({ pdu }) => stored(pdu.event_id)))
    const positions = rows.map((row) => row?.position ?? 0)
    expect(positions).toEqual(positions.toSorted((a, b) => a - b))
    expect(positions[0]).toBeGreaterThan(0)
  })

  test('where what the peer tells has a gap before it, the state there is asked for', async () => {
    const room = await peerRoom(server, peer, version)
    await room.catchUp()
    const state = await server.main.database.sql<{ event_id: EventId }[]>`
      select e.event_id from current_state c join rooms r using (room_nid) join events e on e.event_nid = c.event_nid
      where r.room_id = ${room.room_id}`
    const [before, hidden] = [topic(room, 'in the gap'), message(room, 'before the end')]
    const between = message(room, 'behind the gap')
    const last = message(room, 'last')
    const ids = [...state.map((row) => row.event_id), before.pdu.event_id]
    const byId = new Map([before, hidden].map((event) => [event.pdu.event_id as string, event]))
    peer.on('/_matrix/federation/v1/get_missing_events/', () => ({ body: { events: [room.wire(between)] } }))
    peer.on('/_matrix/federation/v1/state_ids/', ({ uri }) => {
      expect(uri).toContain(encodeURIComponent(hidden.pdu.event_id))
      return { body: { pdu_ids: ids, auth_chain_ids: [] } }
    })
    peer.on('/_matrix/federation/v1/event/', ({ uri }) => {
      const event = byId.get(idsIn(uri).at(-1) ?? '')
      if (!event) return { status: 404, body: { errcode: 'M_NOT_FOUND', error: 'no' } }
      return { body: { origin: peer.server_name, origin_server_ts: 1, pdus: [room.wire(event)] } }
    })
    await room.send([room.wire(last)])
    expect(await eventually(() => stored(last.pdu.event_id))).toMatchObject({ flags: 0 })
    expect(await stored(hidden.pdu.event_id)).toMatchObject({ flags: 4, position: null })
    expect((await current(room, 'm.room.topic'))?.content).toEqual({ topic: 'in the gap' })
  })
})

test('an event that is not allowed is kept, and shown to nobody; those that rest on it are rejected with it', async () => {
  const room = await peerRoom(server, peer)
  const levels = room.makeAside({ type: 'm.room.power_levels', state_key: '', content: { users: { [room.bob]: 100 } } })
  expect((await room.send([room.wire(levels)])).body).toEqual({ pdus: { [levels.pdu.event_id]: {} } })
  expect(await stored(levels.pdu.event_id)).toMatchObject({ position: null, flags: 1 })
  const [create, join] = await Promise.all([current(room, 'm.room.create'), current(room, 'm.room.member', room.bob)])
  const based = room.makeAside({
    type: 'm.room.name',
    state_key: '',
    content: { name: 'mine' },
    auth_events: [create!.event_id, levels.pdu.event_id, join!.event_id],
  })
  await room.send([room.wire(based)])
  expect(await stored(based.pdu.event_id)).toMatchObject({ position: null, flags: 1 })
  expect((await current(room, 'm.room.name'))?.content).not.toEqual({ name: 'mine' })
})

test('an event that was allowed where it was made, and is no longer, is soft-failed', async () => {
  const room = await peerRoom(server, peer)
  const before = room.makeAside({ type: 'm.room.message', content: { body: 'from before the ban' } })
  await server.main.commands.changeMembership({
    room_id: room.room_id,
    user_id: room.alice,
    target: room.bob,
    action: 'ban',
  })
  await room.send([room.wire(before)])
  expect(await stored(before.pdu.event_id)).toMatchObject({ position: null, flags: 2 })
})

test('the ends of a room are brought together again, also where nobody here says anything', async () => {
  const room = await peerRoom(server, peer)
  const base = message(room, 'base')
  await room.send([room.wire(base)])
  const forks = Array.from({ length: 30 }, (_, i) =>
    room.makeAside({ type: 'm.room.message', content: { body: `fork ${i}` }, prev_events: [base.pdu.event_id] }),
  )
  await room.send(forks.map(room.wire))
  const ends = async () => {
    const [row] = await server.main.database.sql<{ n: number }[]>`
      select cardinality(forward_extremities) as n from room_heads join rooms using (room_nid) where room_id = ${room.room_id}`
    return row && row.n <= 10 ? row.n : undefined
  }
  expect(await eventually(ends)).toBeLessThanOrEqual(10)
})

test('a redaction takes effect, and one of a stranger to the event does not', async () => {
  const room = await peerRoom(server, peer)
  const mine = await room.say('regretted')
  const redaction = room.make({
    type: 'm.room.redaction',
    content: { redacts: mine.pdu.event_id },
    redacts: mine.pdu.event_id,
  })
  await room.send([room.wire(redaction)])
  expect((await stored(mine.pdu.event_id))?.content).toBe('{}')
})

test('events of a room that is not here, and of one that bans the server, are refused by their ids', async () => {
  const room = await peerRoom(server, peer)
  await server.main.commands.sendEvent({
    room_id: room.room_id,
    user_id: room.alice,
    type: 'm.room.server_acl',
    state_key: '',
    content: { allow: ['*'], deny: ['127.0.0.1'], allow_ip_literals: true },
  })
  const banned = message(room, 'banned')
  const elsewhere = { ...room.wire(message(room, 'elsewhere')), room_id: '!unknown:hs9' }
  const { status, body } = await room.send([room.wire(banned), elsewhere])
  expect(status).toBe(200)
  const results = Object.values(body.pdus as Record<string, { error: string }>).map(({ error }) => error)
  expect(results).toEqual(['Your server is banned from the room', 'This server is not in the room'])
  expect(await stored(banned.pdu.event_id)).toBeUndefined()
})

test('what an event follows right away its sender has to give: no state is taken in place of it', async () => {
  const room = await peerRoom(server, peer)
  message(room, 'kept back')
  const last = message(room, 'last')
  const asked = peer.requests.length
  peer.on('/_matrix/federation/v1/get_missing_events/', () => ({ body: { events: [] } }))
  await room.send([room.wire(last)])
  await eventually(async () => ((await staged()) === 0 ? true : undefined))
  expect(await stored(last.pdu.event_id)).toBeUndefined()
  expect(peer.requests.slice(asked).map(({ uri }) => uri.split('/')[4])).toEqual(['get_missing_events'])
})

test('what can not be had is given up, and what comes later does not wait for it', async () => {
  const room = await peerRoom(server, peer)
  peer.on('/_matrix/federation/v1/get_missing_events/', () => ({
    status: 403,
    body: { errcode: 'M_FORBIDDEN', error: 'no' },
  }))
  const lost = room.makeAside({
    type: 'm.room.message',
    content: { body: 'lost' },
    prev_events: ['$nowhere' as EventId],
  })
  const next = message(room, 'next')
  await room.send([room.wire(lost)])
  await room.send([room.wire(next)])
  expect(await eventually(() => stored(next.pdu.event_id))).toMatchObject({ flags: 0 })
  await eventually(async () => (await staged()) === 0 || undefined)
  expect(await stored(lost.pdu.event_id)).toBeUndefined()
})

test('the sender has its answer before what is missing is asked for, and the event is stored by then', async () => {
  const room = await peerRoom(server, peer)
  const answer = Promise.withResolvers<void>()
  const lost = message(room, 'lost')
  const last = message(room, 'last')
  peer.on('/_matrix/federation/v1/get_missing_events/', async () => {
    await answer.promise
    return { body: { events: [room.wire(lost)] } }
  })
  expect(await room.send([room.wire(last)])).toMatchObject({ status: 200 })
  expect(await staged()).toBe(1)
  answer.resolve()
  expect(await eventually(() => stored(last.pdu.event_id))).toMatchObject({ flags: 0 })
})

test('what waits is taken up after a restart', async () => {
  const own = await federationServer({ authority })
  const room = await peerRoom(own, peer)
  const last = message(room, 'last')
  await own.main.close()
  const { sql } = own.main.database
  const [row] = await sql<{ room_nid: number }[]>`select room_nid from rooms where room_id = ${room.room_id}`
  expect(await stageEvents(sql, row!, { origin: peer.server_name, now: 1, events: [last] })).toBe(true)
  const again = await own.main.restarted()
  await eventually(async () => {
    const [found] = await sql`select 1 from events where event_id = ${last.pdu.event_id}`
    return found
  })
  await again.drop()
})
