/** https://spec.matrix.org/v1.19/server-server-api/#retrieving-events and #backfilling-and-retrieving-missing-events, as the
 *  server that is asked. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { rulesOf } from '../../shared/core/room-versions.ts'
import { parsePdu } from '../../shared/matrix/event-format.ts'
import type { EventId } from '../../shared/matrix/ids.ts'
import type { JsonObject } from '../../shared/matrix/json-value.ts'
import { type FederationPeer, federationPeer, type TestAuthority, testAuthority } from '../support/federation-peer.ts'
import { type FederationServer, federationServer } from '../support/federation-server.ts'
import { type PeerRoom, peerRoom } from '../support/peer-room.ts'

let authority: TestAuthority
let server: FederationServer
let peer: FederationPeer
let stranger: FederationPeer
beforeAll(async () => {
  authority = testAuthority()
  ;[peer, stranger] = await Promise.all([federationPeer(authority), federationPeer(authority)])
  server = await federationServer({ authority })
})
afterAll(async () => {
  await server.close()
  await Promise.all([peer.close(), stranger.close()])
  authority.close()
})

const encode = encodeURIComponent
const prefix = '/_matrix/federation/v1'
const get = (uri: string, by = peer) => server.ask('GET', `${prefix}${uri}`, { by })
const say = (room: PeerRoom, body: string) =>
  server.main.commands.sendEvent({
    room_id: room.room_id,
    user_id: room.alice,
    type: 'm.room.message',
    content: { body },
  })
const set = (room: PeerRoom, type: string, content: object) =>
  server.main.commands.sendEvent({
    room_id: room.room_id,
    user_id: room.alice,
    type,
    state_key: '',
    content: content as never,
  })
const idsOf = (room: PeerRoom, wires: unknown) =>
  (wires as JsonObject[]).map((wire) => {
    const event = parsePdu(rulesOf(room.rules.version)!, wire)
    if ('error' in event) throw new Error(event.error)
    return event.pdu.event_id
  })
const current = async (room: PeerRoom) => {
  const rows = await server.main.database.sql<{ event_id: EventId }[]>`
    select e.event_id from current_state c join rooms r using (room_nid) join events e on e.event_nid = c.event_nid
    where r.room_id = ${room.room_id}`
  return rows.map((row) => row.event_id).toSorted()
}

describe.each(['1', '6', '11', '12'])('room version %s', (version) => {
  test('an event, as it was signed', async () => {
    const room = await peerRoom(server, peer, version)
    const { event_id } = await say(room, 'hello')
    const { status, body } = await get(`/event/${encode(event_id)}`)
    expect(status).toBe(200)
    expect(body).toMatchObject({ origin: 'hs1', origin_server_ts: expect.any(Number) })
    expect(idsOf(room, body.pdus)).toEqual([event_id])
    expect(body.pdus).toMatchObject([{ content: { body: 'hello' } }])
  })

  test('the state before an event, and what it rests on, as events and as ids', async () => {
    const room = await peerRoom(server, peer, version)
    const before = await current(room)
    const { event_id } = await set(room, 'm.room.topic', { topic: 'x' })
    const at = `${encode(room.room_id)}?event_id=${encode(event_id)}`
    const [whole, ids] = await Promise.all([get(`/state/${at}`), get(`/state_ids/${at}`)])
    expect(idsOf(room, whole.body.pdus).toSorted()).toEqual(before)
    expect((ids.body.pdu_ids as string[]).toSorted()).toEqual(before)
    expect(idsOf(room, whole.body.auth_chain).toSorted()).toEqual((ids.body.auth_chain_ids as string[]).toSorted())
  })

  test('the auth chain of an event is whole', async () => {
    const room = await peerRoom(server, peer, version)
    const { event_id } = await say(room, 'hello')
    const { body } = await get(`/event_auth/${encode(room.room_id)}/${encode(event_id)}`)
    const chain = new Map((body.auth_chain as JsonObject[]).map((wire, i) => [idsOf(room, body.auth_chain)[i], wire]))
    for (const wire of chain.values()) {
      for (const reference of wire.auth_events as (string | [string])[]) {
        expect(chain.has((typeof reference === 'string' ? reference : reference[0]) as EventId)).toBe(true)
      }
    }
    expect([...chain.values()].map(({ type }) => type)).toContain('m.room.create')
    expect(chain.has(event_id)).toBe(false)
  })

  test('what came before, newest first, and what lies between', async () => {
    const room = await peerRoom(server, peer, version)
    const sent: EventId[] = []
    for (let i = 0; i < 5; i++) sent.push((await say(room, `${i}`)).event_id)
    const [first, , , , last] = sent as [EventId, EventId, EventId, EventId, EventId]
    const back = await get(`/backfill/${encode(room.room_id)}?v=${encode(last)}&limit=3`)
    expect(idsOf(room, back.body.pdus)).toEqual(sent.slice(2).toReversed())
    const missing = await server.ask('POST', `${prefix}/get_missing_events/${encode(room.room_id)}`, {
      by: peer,
      body: { earliest_events: [first], latest_events: [last], limit: 10 },
    })
    expect(idsOf(room, missing.body.events)).toEqual(sent.slice(1, 4))
    const few = await server.ask('POST', `${prefix}/get_missing_events/${encode(room.room_id)}`, {
      by: peer,
      body: { earliest_events: [], latest_events: [last], limit: 2 },
    })
    expect(idsOf(room, few.body.events)).toEqual(sent.slice(2, 4))
  })
})

test('what a server could not see is redacted', async () => {
  const room = await peerRoom(server, peer)
  await set(room, 'm.room.history_visibility', { history_visibility: 'joined' })
  const { event_id: seen } = await say(room, 'seen')
  const member = { room_id: room.room_id, user_id: room.alice, target: room.bob }
  await server.main.commands.changeMembership({ ...member, action: 'kick' })
  const { event_id: secret } = await say(room, 'secret')
  await room.catchUp()
  const join = room.make({ type: 'm.room.member', state_key: room.bob, content: { membership: 'join' } })
  await room.send([room.wire(join)])
  expect((await get(`/event/${encode(seen)}`)).body.pdus).toMatchObject([{ content: { body: 'seen' } }])
  const { body } = await get(`/event/${encode(secret)}`)
  expect((body.pdus as JsonObject[])[0]?.content).toEqual({})
  expect(idsOf(room, body.pdus)).toEqual([secret])
  const back = await get(`/backfill/${encode(room.room_id)}?v=${encode(secret)}&limit=5`)
  expect(JSON.stringify(back.body)).not.toContain('secret')
})

describe('what is refused', () => {
  test.each([
    ['event', (_: PeerRoom, id: string) => get(`/event/${id}`, stranger)],
    ['state', (room: PeerRoom, id: string) => get(`/state/${encode(room.room_id)}?event_id=${id}`, stranger)],
    ['state_ids', (room: PeerRoom, id: string) => get(`/state_ids/${encode(room.room_id)}?event_id=${id}`, stranger)],
    ['event_auth', (room: PeerRoom, id: string) => get(`/event_auth/${encode(room.room_id)}/${id}`, stranger)],
    ['backfill', (room: PeerRoom, id: string) => get(`/backfill/${encode(room.room_id)}?v=${id}&limit=1`, stranger)],
    [
      'get_missing_events',
      (room: PeerRoom, id: string) =>
        server.ask('POST', `${prefix}/get_missing_events/${encode(room.room_id)}`, {
          by: stranger,
          body: { earliest_events: [], latest_events: [decodeURIComponent(id)] },
        }),
    ],
  ])('%s for a server that is not in the room', async (_, ask) => {
    const room = await peerRoom(server, peer)
    const { event_id } = await say(room, 'x')
    expect(await ask(room, encode(event_id))).toMatchObject({ status: 403, body: { errcode: 'M_FORBIDDEN' } })
  })

  test('events and rooms that are not here, and events of another room', async () => {
    const [room, other] = [await peerRoom(server, peer), await peerRoom(server, peer)]
    const { event_id } = await say(other, 'x')
    expect(await get('/event/%24none')).toMatchObject({ status: 404 })
    expect(await get('/state/!none%3Ahs1?event_id=%24x')).toMatchObject({ status: 404 })
    const elsewhere = encode(event_id)
    expect(await get(`/state/${encode(room.room_id)}?event_id=${elsewhere}`)).toMatchObject({ status: 404 })
    expect(await get(`/event_auth/${encode(room.room_id)}/${elsewhere}`)).toMatchObject({ status: 404 })
    expect((await get(`/backfill/${encode(room.room_id)}?v=${elsewhere}&limit=5`)).body.pdus).toEqual([])
    expect(await get(`/backfill/${encode(room.room_id)}?limit=5`)).toMatchObject({ status: 400 })
  })

  test('an event that was rejected', async () => {
    const room = await peerRoom(server, peer)
    const bad = room.makeAside({ type: 'm.room.power_levels', state_key: '', content: { users: { [room.bob]: 100 } } })
    await room.send([room.wire(bad)])
    expect(await get(`/event/${encode(bad.pdu.event_id)}`)).toMatchObject({ status: 404 })
  })

  test('a server that the room shuts out', async () => {
    const room = await peerRoom(server, peer)
    const { event_id } = await set(room, 'm.room.server_acl', { allow: ['*'], allow_ip_literals: false })
    expect(await get(`/event/${encode(event_id)}`)).toMatchObject({ status: 403 })
  })
})
