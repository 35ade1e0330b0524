/** Joins, leaves, knocks and invitations of another server that are forged, of the wrong kind, or not theirs to make: refused, and
 *  nobody's membership changes. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { rulesOf } from '../../shared/core/room-versions.ts'
import { buildEvent, parsePdu, wireFromParts } from '../../shared/matrix/event-format.ts'
import { hashAndSignEvent, signEvent } from '../../shared/matrix/event-signing.ts'
import type { EventId, RoomId, UserId } from '../../shared/matrix/ids.ts'
import type { JsonObject } from '../../shared/matrix/json-value.ts'
import { type FederationPeer, federationPeer, type TestAuthority, testAuthority } from '../support/federation-peer.ts'
import { type FederationServer, federationServer } from '../support/federation-server.ts'
import { hostileCases } from '../support/hostile-cases.ts'
import { type PeerRoom, peerRoom } from '../support/peer-room.ts'

let authority: TestAuthority
let server: FederationServer
let peer: FederationPeer
let other: FederationPeer
let room: PeerRoom
let elsewhere: PeerRoom
let carol: UserId
const cases = hostileCases(() => server.main.database.sql)
beforeAll(async () => {
  authority = testAuthority()
  ;[peer, other] = await Promise.all([federationPeer(authority), federationPeer(authority)])
  server = await federationServer({ authority })
  for (const one of [peer, other]) {
    one.on('/_matrix/federation/', () => ({ status: 404, body: { errcode: 'M_NOT_FOUND', error: 'no' } }))
  }
  room = await peerRoom(server, peer)
  elsewhere = await peerRoom(server, peer)
  carol = await server.main.user('carol')
  // Its keys are known from here on.
  await server.ask('GET', '/_matrix/federation/v1/query/profile?user_id=%40carol%3Ahs1', { by: other })
})
afterAll(async () => {
  console.log(cases.report())
  await server?.close()
  await Promise.all([peer?.close(), other?.close()])
  authority?.close()
})

const rules = rulesOf('11')
if (!rules) throw new Error('no room version 11')
const encode = encodeURIComponent
let users = 0
const somebody = () => `@user${++users}:${peer.server_name}` as UserId
const idOf = (wire: JsonObject): string => {
  const event = parsePdu(rules, wire)
  return 'error' in event ? '$none' : event.pdu.event_id
}

/** What a server has to send for one of its users. */
function membership(kind: string, user: UserId = somebody(), content: JsonObject = {}): JsonObject {
  return room.wire(
    room.makeAside({ type: 'm.room.member', state_key: user, sender: user, content: { membership: kind, ...content } }),
  )
}
const resigned = (wire: JsonObject, change: JsonObject, by = peer): JsonObject =>
  hashAndSignEvent(rules, { ...wire, signatures: {}, ...change }, by.server_name, by.key)

interface Sent {
  readonly wire: JsonObject
  readonly path?: { readonly room_id?: string; readonly event_id?: string }
  readonly by?: FederationPeer
}

/** Refused, and but for events that are kept where nobody sees them, without a trace. */
async function expectRefused(name: string, uri: string, body: object, by = peer): Promise<void> {
  const { result, rows, seenChanged } = await cases.run(name, () => server.ask('PUT', uri, { by, body }))
  expect([400, 403, 404]).toContain(result.status)
  expect(result.body).toMatchObject({ errcode: expect.stringMatching(/^M_/), error: expect.any(String) })
  expect(seenChanged).toBe(false)
  for (const table of Object.keys(rows)) {
    expect(['events', 'auth_chains', 'auth_chain_links', 'state_keys']).toContain(table)
  }
}

describe.each([
  ['join', 'v2'],
  ['join', 'v1'],
  ['leave', 'v2'],
  ['leave', 'v1'],
  ['knock', 'v1'],
])('send_%s %s', (kind, version) => {
  const forgeries: [string, () => Sent][] = [
    ['without a signature', () => ({ wire: { ...membership(kind), signatures: {} } })],
    ['signed by another server', () => ({ wire: resigned(membership(kind), {}, other) })],
    ['sent by another server', () => ({ wire: membership(kind), by: other })],
    [
      'of a user of another server',
      () => ({ wire: resigned(membership(kind), { sender: '@x:hs9', state_key: '@x:hs9' }) }),
    ],
    [
      'of a user of this server',
      () => ({ wire: resigned(membership(kind), { sender: room.alice, state_key: room.alice }) }),
    ],
    ['for another user', () => ({ wire: resigned(membership(kind), { state_key: `@victim:${peer.server_name}` }) })],
    [
      'without a state key',
      () => {
        const { state_key: _, ...wire } = membership(kind)
        return { wire: resigned(wire, {}) }
      },
    ],
    ['of another membership', () => ({ wire: membership(kind === 'leave' ? 'join' : 'leave') })],
    ['that is a ban', () => ({ wire: membership('ban') })],
    ['that is a message', () => ({ wire: room.wire(room.makeAside({ type: 'm.room.message', content: {} })) })],
    [
      'that is other state',
      () => ({ wire: room.wire(room.makeAside({ type: 'm.room.power_levels', state_key: '', content: {} })) }),
    ],
    ['of another room than the path', () => ({ wire: membership(kind), path: { room_id: elsewhere.room_id } })],
    [
      'of a room that is not here',
      () => ({ wire: resigned(membership(kind), { room_id: '!gone:hs1' }), path: { room_id: '!gone:hs1' } }),
    ],
    ['with another id than the path', () => ({ wire: membership(kind), path: { event_id: '$other' } })],
    ['without auth events', () => ({ wire: resigned(membership(kind), { auth_events: [] }) })],
    [
      'on auth events of another room',
      () => {
        const foreign = elsewhere.makeAside({ type: 'm.room.topic', state_key: '', content: {} })
        return { wire: resigned(membership(kind), { auth_events: [...foreign.pdu.auth_events] }) }
      },
    ],
    ['on previous events that nobody has', () => ({ wire: resigned(membership(kind), { prev_events: ['$nowhere'] }) })],
    ['with a depth that is none', () => ({ wire: resigned(membership(kind), { depth: 'deep' }) })],
    [
      'larger than an event',
      () => ({ wire: resigned(membership(kind), { content: { membership: kind, reason: 'x'.repeat(70_000) } }) }),
    ],
    ['that is nothing', () => ({ wire: {} })],
    ['of a user without a name', () => ({ wire: resigned(membership(kind), { sender: '@', state_key: '@' }) })],
    [
      'of a server that has no sound name',
      () => ({ wire: resigned(membership(kind), { sender: '@x:a b', state_key: '@x:a b' }) }),
    ],
  ]
  test.each(forgeries)('%s', async (name, forge) => {
    const { wire, path = {}, by } = forge()
    const { room_id = room.room_id, event_id = idOf(wire) } = path
    const uri = `/_matrix/federation/${version}/send_${kind}/${encode(room_id)}/${encode(event_id)}`
    await expectRefused(`send_${kind} ${version} ${name}`, uri, wire, by)
  })
})

describe('what the room does not allow', () => {
  const send = (name: string, kind: string, wire: JsonObject, to = room) =>
    expectRefused(
      name,
      `/_matrix/federation/v${kind === 'knock' ? 1 : 2}/send_${kind}/${encode(to.room_id)}/${encode(idOf(wire))}`,
      wire,
    )

  test('a join of who is banned', async () => {
    const user = somebody()
    await server.main.commands.changeMembership({
      room_id: room.room_id,
      user_id: room.alice,
      target: user,
      action: 'ban',
    })
    await room.catchUp()
    await send('a join of who is banned', 'join', membership('join', user))
  })
  test('a leave of who is not there', () => send('a leave of who is not there', 'leave', membership('leave')))
  test('a knock where nobody is to knock', () => send('a knock on a public room', 'knock', membership('knock')))
  test('a join of who is not invited', async () => {
    const closed = await peerRoom(server, peer)
    await server.main.commands.sendEvent({
      room_id: closed.room_id,
      user_id: closed.alice,
      type: 'm.room.join_rules',
      state_key: '',
      content: { join_rule: 'invite' },
    })
    await closed.catchUp()
    const user = somebody()
    const wire = closed.wire(
      closed.makeAside({ type: 'm.room.member', state_key: user, sender: user, content: { membership: 'join' } }),
    )
    await send('a join of who is not invited', 'join', wire, closed)
  })
})

describe('invitations', () => {
  const room_id = () => `!theirs:${peer.server_name}` as RoomId
  const invitation = (change: JsonObject = {}): JsonObject => {
    const bob = `@bob:${peer.server_name}` as UserId
    const { envelope, content } = buildEvent(
      rules,
      {
        room_id: room_id(),
        type: 'm.room.member',
        state_key: carol,
        sender: bob,
        content: { membership: 'invite' },
        prev_events: ['$previous' as EventId],
        auth_events: ['$create' as EventId],
        depth: 5,
        origin_server_ts: 1,
      },
      peer.server_name,
      peer.key,
    )
    return resigned(JSON.parse(wireFromParts(envelope, content)) as JsonObject, change)
  }
  interface Invitation {
    readonly event: JsonObject
    readonly room_version?: string
    readonly state?: unknown
    readonly path?: { readonly room_id?: string; readonly event_id?: string }
    readonly by?: FederationPeer
  }
  const forgeries: [string, () => Invitation][] = [
    ['without a signature', () => ({ event: { ...invitation(), signatures: {} } })],
    [
      'signed by another server',
      () => ({ event: signEvent(rules, { ...invitation(), signatures: {} }, other.server_name, other.key) }),
    ],
    ['sent by another server', () => ({ event: invitation(), by: other })],
    ['of nobody here', () => ({ event: invitation({ state_key: '@x:hs9' }) })],
    ['of who is no user', () => ({ event: invitation({ state_key: 'carol' }) })],
    [
      'without a state key',
      () => {
        const { state_key: _, ...event } = invitation()
        return { event: resigned(event, {}) }
      },
    ],
    ['that is a join', () => ({ event: invitation({ content: { membership: 'join' } }) })],
    ['that is a message', () => ({ event: invitation({ type: 'm.room.message' }) })],
    ['by a user of another server', () => ({ event: invitation({ sender: '@x:hs9' }) })],
    ['by a user of this server', () => ({ event: invitation({ sender: '@alice:hs1' }) })],
    ['into another room than the path', () => ({ event: invitation(), path: { room_id: '!other:hs9' } })],
    ['with another id than the path', () => ({ event: invitation(), path: { event_id: '$other' } })],
    ['of a version that there is not', () => ({ event: invitation(), room_version: '99' })],
    ['of another version than it is made for', () => ({ event: invitation(), room_version: '1' })],
    ['with a state that is no list', () => ({ event: invitation(), state: 'x' })],
    ['with a state of a thousand events', () => ({ event: invitation(), state: Array(1_000).fill({}) })],
    [
      'that is larger than an event',
      () => ({ event: invitation({ content: { membership: 'invite', reason: 'x'.repeat(70_000) } }) }),
    ],
    ['that is nothing', () => ({ event: {} })],
  ]
  test.each(forgeries)('%s', async (name, forge) => {
    const { event, room_version = '11', state = [], path = {}, by } = forge()
    const { room_id: to = room_id(), event_id = idOf(event) } = path
    const uri = `/_matrix/federation/v2/invite/${encode(to)}/${encode(event_id)}`
    await expectRefused(`invite ${name}`, uri, { event, room_version, invite_room_state: state }, by)
  })
})
