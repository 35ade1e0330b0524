/** https://spec.matrix.org/v1.19/server-server-api/#joining-rooms, as the server that is asked. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { rulesOf } from '../../shared/core/room-versions.ts'
import { buildEvent, type EventDraft, parsePdu, wireFromParts } from '../../shared/matrix/event-format.ts'
import { isSignedBy } from '../../shared/matrix/event-signing.ts'
import type { EventId, RoomId, UserId } from '../../shared/matrix/ids.ts'
import type { JsonObject } from '../../shared/matrix/json-value.ts'
import { verifyKeyFromBase64 } from '../../shared/matrix/signatures.ts'
import { type FederationPeer, federationPeer, type TestAuthority, testAuthority } from '../support/federation-peer.ts'
import { type FederationServer, federationServer } from '../support/federation-server.ts'

let authority: TestAuthority
let peer: FederationPeer
let other: FederationPeer
let server: FederationServer
let alice: UserId
beforeAll(async () => {
  authority = testAuthority()
  ;[peer, other] = await Promise.all([federationPeer(authority), federationPeer(authority)])
  server = await federationServer({ authority })
  alice = await server.main.user('alice')
})
afterAll(async () => {
  await server.close()
  await Promise.all([peer.close(), other.close()])
  authority.close()
})

const encode = encodeURIComponent
let users = 0
const somebody = () => `@user${++users}:${peer.server_name}` as UserId
const room = async (version: string, more: object = {}) =>
  (await server.main.commands.createRoom({ user_id: alice, room_version: version, preset: 'public_chat', ...more }))
    .room_id
const make = (what: string, room_id: RoomId, user: UserId, versions = '?ver=1&ver=6&ver=11&ver=12', by = peer) =>
  server.ask('GET', `/_matrix/federation/v1/make_${what}/${encode(room_id)}/${encode(user)}${versions}`, { by })

/** The event completed as its user's server does. */
function complete(version: string, template: JsonObject, change: JsonObject = {}) {
  const rules = rulesOf(version)!
  const ids = (references: unknown) =>
    (references as (EventId | [EventId, { sha256: string }])[]).map((one) => (typeof one === 'string' ? one : one[0]))
  const hashes = new Map(
    [...(template.prev_events as []), ...(template.auth_events as [])]
      .filter((one) => typeof one !== 'string')
      .map(([id, { sha256 }]: [EventId, { sha256: string }]) => [id, sha256] as const),
  )
  const draft = {
    ...template,
    prev_events: ids(template.prev_events),
    auth_events: ids(template.auth_events),
    reference_hashes: hashes,
    ...change,
  } as unknown as EventDraft
  const { pdu, envelope, content } = buildEvent(rules, draft, peer.server_name, peer.key)
  return { event_id: pdu.event_id, wire: JSON.parse(wireFromParts(envelope, content)) as JsonObject }
}
const send = (what: string, room_id: RoomId, event_id: string, body: JsonObject, query = '', v = 'v2') =>
  server.ask('PUT', `/_matrix/federation/${v}/send_${what}/${encode(room_id)}/${encode(event_id)}${query}`, {
    by: peer,
    body,
  })
async function join(version: string, room_id: RoomId, user = somebody(), query = '') {
  const made = await make('join', room_id, user)
  expect(made.status).toBe(200)
  const { event_id, wire } = complete(version, made.body.event as JsonObject)
  return { user, event_id, ...(await send('join', room_id, event_id, wire, query)) }
}
const membership = async (room_id: RoomId, user: UserId) => {
  const [row] = await server.main.database.sql<{ membership: string }[]>`
    select membership from memberships m join rooms r using (room_nid) where r.room_id = ${room_id} and user_id = ${user}`
  return row?.membership
}

describe.each(['1', '6', '11', '12'])('room version %s', (version) => {
  test('a join brings the state before it and all that this rests on, each event as it was signed', async () => {
    const room_id = await room(version)
    const { status, body, user, event_id } = await join(version, room_id)
    expect(status).toBe(200)
    expect(await membership(room_id, user)).toBe('join')
    const rules = rulesOf(version)!
    const parsed = [...(body.state as JsonObject[]), ...(body.auth_chain as JsonObject[])].map((wire) => {
      const event = parsePdu(rules, wire)
      if ('error' in event) throw new Error(event.error)
      expect(
        isSignedBy(rules, wire, 'hs1', () =>
          verifyKeyFromBase64(server.main.federation.signingKeys[0].publicKeyBase64),
        ),
      ).toBe(true)
      return event.pdu
    })
    const known = new Set(parsed.map((pdu) => pdu.event_id))
    expect(known.size).toBe(parsed.length)
    for (const pdu of parsed) for (const id of pdu.auth_events) expect(known).toContain(id)
    expect(parsed.map((pdu) => pdu.type)).toContain('m.room.create')
    expect(parsed.filter((pdu) => pdu.state_key === user)).toEqual([])
    expect(known).not.toContain(event_id)
    expect(body).toMatchObject({ members_omitted: false, origin: 'hs1' })
  })

  test('it may leave out the members, and names their servers instead', async () => {
    const room_id = await room(version, { name: 'Named' })
    await join(version, room_id)
    const { body } = await join(version, room_id, somebody(), '?omit_members=true')
    expect(body.members_omitted).toBe(true)
    expect((body.servers_in_room as string[]).toSorted()).toEqual(['hs1', peer.server_name].toSorted())
    expect((body.state as JsonObject[]).filter((event) => event.type === 'm.room.member')).toEqual([])
    // The joining user's own join rests on nobody's; the levels rest on the creator's.
    expect((body.auth_chain as JsonObject[]).map((event) => event.state_key)).toContain(alice)
  })

  test('of a room without a name it brings those after whom it is called', async () => {
    const { body } = await join(version, await room(version), somebody(), '?omit_members=true')
    const members = (body.state as JsonObject[]).filter((event) => event.type === 'm.room.member')
    expect(members.map((event) => event.state_key)).toEqual([alice])
    expect(body.servers_in_room).toEqual(['hs1'])
  })

  test('the old endpoint answers with a pair', async () => {
    const room_id = await room(version)
    const made = await make('join', room_id, somebody())
    const { event_id, wire } = complete(version, made.body.event as JsonObject)
    const { body } = await send('join', room_id, event_id, wire, '', 'v1')
    expect(body).toMatchObject({ 0: 200, 1: { members_omitted: false } })
  })

  test('a leave', async () => {
    const room_id = await room(version)
    const { user } = await join(version, room_id)
    const made = await make('leave', room_id, user, '')
    const { event_id, wire } = complete(version, made.body.event as JsonObject)
    expect(await send('leave', room_id, event_id, wire)).toMatchObject({ status: 200, body: {} })
    expect(await membership(room_id, user)).toBe('leave')
    expect(await make('leave', room_id, user, '')).toMatchObject({ status: 403 })
  })
})

test('a knock is answered with what one may know of the room', async () => {
  const room_id = await room('11', {
    name: 'Knock here',
    initial_state: [{ type: 'm.room.join_rules', content: { join_rule: 'knock' } }],
  })
  const user = somebody()
  const made = await make('knock', room_id, user)
  const { event_id, wire } = complete('11', made.body.event as JsonObject)
  const { status, body } = await send('knock', room_id, event_id, wire, '', 'v1')
  expect(status).toBe(200)
  expect(body.knock_room_state).toContainEqual(
    expect.objectContaining({ type: 'm.room.name', content: { name: 'Knock here' }, state_key: '' }),
  )
  expect(await membership(room_id, user)).toBe('knock')
})

describe('what is refused', () => {
  test('a user of another server than the one that asks', async () => {
    const room_id = await room('11')
    expect(await make('join', room_id, somebody(), '?ver=11', other)).toMatchObject({ status: 403 })
  })
  test('a version that the joining server does not know', async () => {
    const answer = await make('join', await room('11'), somebody(), '?ver=1&ver=2')
    expect(answer).toMatchObject({ status: 400, body: { errcode: 'M_INCOMPATIBLE_ROOM_VERSION', room_version: '11' } })
  })
  test('a room that is not here', async () => {
    expect(await make('join', '!none:hs1' as RoomId, somebody())).toMatchObject({
      status: 404,
      body: { errcode: 'M_NOT_FOUND' },
    })
  })
  test('a private room, a banned user, a server that is shut out', async () => {
    const closed = await room('11', { preset: 'private_chat' })
    expect(await make('join', closed, somebody())).toMatchObject({ status: 403, body: { errcode: 'M_FORBIDDEN' } })
    const room_id = await room('11')
    const { user } = await join('11', room_id)
    await server.main.commands.changeMembership({ room_id, user_id: alice, target: user, action: 'ban' })
    expect(await make('join', room_id, user)).toMatchObject({ status: 403 })
    const content = { allow: ['*'], deny: ['127.0.0.1'] }
    await server.main.commands.sendEvent({ room_id, user_id: alice, type: 'm.room.server_acl', state_key: '', content })
    expect(await make('join', room_id, somebody())).toMatchObject({ status: 403 })
  })
  test('whoever is in none of the rooms that let into a restricted one; where this server can not tell, another may', async () => {
    const allowed = await room('11')
    const restricted = (rooms: readonly string[]) =>
      room('11', {
        initial_state: [
          {
            type: 'm.room.join_rules',
            content: {
              join_rule: 'restricted',
              allow: rooms.map((room_id) => ({ type: 'm.room_membership', room_id })),
            },
          },
        ],
      })
    const room_id = await restricted([allowed])
    const user = somebody()
    expect(await make('join', room_id, user)).toMatchObject({ status: 403, body: { errcode: 'M_FORBIDDEN' } })
    const unclear = await restricted(['!elsewhere:hs9'])
    expect(await make('join', unclear, user)).toMatchObject({ body: { errcode: 'M_UNABLE_TO_AUTHORISE_JOIN' } })
    await join('11', allowed, user)
    const { status, body } = await join('11', room_id, user)
    expect(status).toBe(200)
    // Vouched for by us.
    expect(Object.keys((body.event as JsonObject).signatures as object).toSorted()).toEqual(
      ['hs1', peer.server_name].toSorted(),
    )
    // Who is no longer let in can not come with the old event's like.
    await server.main.commands.changeMembership({ room_id: allowed, user_id: alice, target: user, action: 'kick' })
    expect(await make('leave', room_id, user, '')).toMatchObject({ status: 200 })
  })
  test.each<[string, JsonObject]>([
    ['a message', { type: 'm.room.message', state_key: undefined as never }],
    ['another membership', { content: { membership: 'leave' } }],
    ['another room', { room_id: '!other:hs1' }],
    ['another user', { sender: '@somebody:hs9', state_key: '@somebody:hs9' }],
  ])('%s in place of a join', async (_, change) => {
    const room_id = await room('11')
    const made = await make('join', room_id, somebody())
    const { event_id, wire } = complete('11', made.body.event as JsonObject, change)
    expect((await send('join', room_id, event_id, wire)).status).toBe(400)
  })
  test('an event without its signature, and one with another id than the path', async () => {
    const room_id = await room('11')
    const made = await make('join', room_id, somebody())
    const { event_id, wire } = complete('11', made.body.event as JsonObject)
    expect((await send('join', room_id, event_id, { ...wire, signatures: {} })).status).toBe(400)
    expect((await send('join', room_id, '$other', wire)).status).toBe(400)
  })
})
