/** Events of another server that are forged, broken or not allowed, in transactions that are signed as they should be. What has
 *  no sound format, hash or signature is not stored; what the rules forbid is kept where nobody sees it. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { rulesOf } from '../../shared/core/room-versions.ts'
import { hashAndSignEvent, signEvent } from '../../shared/matrix/event-signing.ts'
import type { EventId, UserId } from '../../shared/matrix/ids.ts'
import type { JsonObject, JsonValue } from '../../shared/matrix/json-value.ts'
import { generateSigningKey } from '../../shared/matrix/signatures.ts'
import { type FederationPeer, federationPeer, type TestAuthority, testAuthority } from '../support/federation-peer.ts'
import { type FederationServer, federationServer } from '../support/federation-server.ts'
import { hostileCases } from '../support/hostile-cases.ts'
import { type PeerRoom, type PeerWish, peerRoom } from '../support/peer-room.ts'

let authority: TestAuthority
let server: FederationServer
let peer: FederationPeer
let other: FederationPeer
const rooms = new Map<string, Promise<PeerRoom>>()
let elsewhere: PeerRoom
const cases = hostileCases(() => server.main.database.sql)
beforeAll(async () => {
  authority = testAuthority()
  ;[peer, other] = await Promise.all([federationPeer(authority), federationPeer(authority)])
  server = await federationServer({ authority })
  elsewhere = await peerRoom(server, peer)
  // Nothing is to be found out by asking.
  for (const one of [peer, other])
    one.on('/_matrix/federation/', () => ({ status: 404, body: { errcode: 'M_NOT_FOUND', error: 'no' } }))
})
afterAll(async () => {
  console.log(cases.report())
  await server?.close()
  await Promise.all([peer?.close(), other?.close()])
  authority?.close()
})

function roomOf(version: string): Promise<PeerRoom> {
  let found = rooms.get(version)
  if (!found) {
    found = peerRoom(server, peer, version)
    rooms.set(version, found)
  }
  return found
}

interface Forgery {
  readonly room: PeerRoom
  /** A sound message, on the wire. */
  readonly sound: JsonObject
  /** An event as the peer would make it, hashed and signed. */
  made(wish: PeerWish): JsonObject
  /** The same with changes, hashed and signed anew: only what it says is wrong. */
  resigned(change: JsonObject, wire?: JsonObject): JsonObject
}

async function forgery(version: string): Promise<Forgery> {
  const room = await roomOf(version)
  const rules = rulesOf(version)
  if (!rules) throw new Error(version)
  const made = (wish: PeerWish) => room.wire(room.makeAside(wish))
  const sound = made({
    type: 'm.room.message',
    content: { msgtype: 'm.text', body: 'sound' },
    ts: Date.now() + ++moment,
  })
  return {
    room,
    sound,
    made,
    resigned: (change, wire = sound) =>
      hashAndSignEvent(rules, { ...wire, signatures: {}, ...change }, peer.server_name, peer.key),
  }
}
let moment = 0

const without = (wire: JsonObject, ...keys: string[]): JsonObject =>
  Object.fromEntries(Object.entries(wire).filter(([key]) => !keys.includes(key)))
const long = (sigil: string) => `${sigil}${'x'.repeat(300)}:${peer.server_name}`
const nested = (depth: number): JsonValue => JSON.parse(`${'['.repeat(depth)}${']'.repeat(depth)}`)

type Forge = (forgery: Forgery) => JsonObject | readonly JsonObject[] | Promise<JsonObject>

async function attack(name: string, version: string, forge: Forge) {
  const context = await forgery(version)
  const forged = await forge(context)
  const wires = Array.isArray(forged) ? (forged as readonly JsonObject[]) : [forged as JsonObject]
  return { room: context.room, ...(await cases.run(`v${version} ${name}`, () => context.room.send(wires))) }
}

describe('has no sound signature', () => {
  const signedBy =
    (server_name: string, key = generateSigningKey('a_x')) =>
    ({ sound, room }: Forgery) =>
      signEvent(room.rules, { ...sound, signatures: {} }, server_name, key)
  const forgeries: [string, Forge][] = [
    ['none at all', ({ sound }) => ({ ...sound, signatures: {} })],
    ['no signatures', ({ sound }) => without(sound, 'signatures')],
    ['signatures that are a list', ({ sound }) => ({ ...sound, signatures: [] })],
    ['an empty one', ({ sound }) => ({ ...sound, signatures: { [peer.server_name]: {} } })],
    ['one that is no text', ({ sound }) => ({ ...sound, signatures: { [peer.server_name]: { [peer.key.keyId]: 1 } } })],
    [
      'one of zeroes',
      ({ sound }) => ({ ...sound, signatures: { [peer.server_name]: { [peer.key.keyId]: 'A'.repeat(86) } } }),
    ],
    [
      'one by a key of the same id',
      (forged) => signedBy(peer.server_name, { ...generateSigningKey('x'), keyId: peer.key.keyId })(forged),
    ],
    ['one by a key that nobody published', (forged) => signedBy(peer.server_name)(forged)],
    ['one by another server', (forged) => signedBy(other.server_name, other.key)(forged)],
    [
      'one by another algorithm',
      ({ sound }) => ({ ...sound, signatures: { [peer.server_name]: { 'rsa:1': 'AAAA' } } }),
    ],
    [
      'hundreds of them, all wrong',
      ({ sound }) => ({
        ...sound,
        signatures: {
          [peer.server_name]: Object.fromEntries(
            Array.from({ length: 500 }, (_, i) => [`ed25519:${i}`, 'A'.repeat(86)]),
          ),
        },
      }),
    ],
    [
      'one of a key that is not valid then',
      ({ resigned }) => resigned({ origin_server_ts: Date.now() + 30 * 24 * 3_600_000 }),
    ],
    ['a time that was changed', ({ sound }) => ({ ...sound, origin_server_ts: 1 })],
    ['another depth', ({ sound }) => ({ ...sound, depth: 1_000_000 })],
    ['another sender of the same server', ({ sound }) => ({ ...sound, sender: `@eve:${peer.server_name}` })],
    ['other previous events', ({ sound }) => ({ ...sound, prev_events: ['$other'] })],
    ['other auth events', ({ sound }) => ({ ...sound, auth_events: [] })],
    ['another hash', ({ sound }) => ({ ...sound, hashes: { sha256: 'A'.repeat(43) } })],
    ['no hash', ({ sound }) => ({ ...sound, hashes: {} })],
    ['a state key that was added', ({ sound }) => ({ ...sound, state_key: '' })],
    ['another type', ({ sound }) => ({ ...sound, type: 'm.room.topic' })],
    ['a sender on this server', ({ sound, room }) => ({ ...sound, sender: room.alice })],
    ['a sender on this server, signed by the peer', ({ resigned, room }) => resigned({ sender: room.alice })],
    ['a sender on a server that nobody finds', ({ resigned }) => resigned({ sender: '@eve:nowhere.invalid' })],
    ['a sender whose server has no sound name', ({ resigned }) => resigned({ sender: '@eve:a b' })],
  ]
  test.each(forgeries.flatMap(([name, forge]) => ['6', '12'].map((version) => ({ name, version, forge }))))(
    'v$version: $name',
    async ({ name, version, forge }) => {
      const { result, rows, seenChanged } = await attack(`signature: ${name}`, version, forge)
      expect(result.status).toBe(200)
      const outcomes = Object.values(result.body.pdus as Record<string, object>)
      for (const outcome of outcomes) expect(outcome).toEqual({ error: expect.any(String) })
      expect(rows).toEqual({})
      expect(seenChanged).toBe(false)
    },
  )

  test.each<[string, Forge]>([
    ['a name that another server gave it', ({ resigned }) => resigned({ event_id: `$forged:${other.server_name}` })],
    ['a name of this server', ({ resigned }) => resigned({ event_id: '$forged:hs1' })],
    ['a name that is too long', ({ resigned }) => resigned({ event_id: long('$') })],
    ['a name that is none', ({ resigned }) => resigned({ event_id: 'forged' })],
    ['no name', ({ sound }) => without(sound, 'event_id')],
    ['references without hashes', ({ resigned }) => resigned({ prev_events: ['$x'] })],
    ['references with more than hashes', ({ resigned }) => resigned({ prev_events: [['$x', {}, 1]] })],
  ])('v1: %s', async (name, forge) => {
    const { rows, seenChanged } = await attack(`v1 names: ${name}`, '1', forge)
    expect(rows).toEqual({})
    expect(seenChanged).toBe(false)
  })

  // https://spec.matrix.org/v1.19/rooms/v8/#authorization-rules
  test('v11: none of the server whose user let it in', async () => {
    const { result, rows, seenChanged } = await attack('signature: of who let it in', '11', ({ made }) => {
      const frank = `@frank:${peer.server_name}` as UserId
      const content = { membership: 'join', join_authorised_via_users_server: `@x:${other.server_name}` }
      return made({ type: 'm.room.member', state_key: frank, sender: frank, content })
    })
    expect(Object.values(result.body.pdus as object)).toEqual([{ error: expect.stringMatching(/not signed/) }])
    expect(rows).toEqual({})
    expect(seenChanged).toBe(false)
  })

  test('v1: the name of an event that is there does not put another in its place', async () => {
    const room = await roomOf('1')
    const mine = await room.say('the first')
    const { rows, seenChanged } = await attack('v1 names: one that is taken', '1', ({ resigned }) =>
      resigned({ event_id: mine.pdu.event_id, content: { body: 'the second' } }),
    )
    expect(rows).toEqual({})
    expect(seenChanged).toBe(false)
  })
})

describe('has no sound format', () => {
  const forgeries: [string, Forge][] = [
    ['no type', ({ sound }) => without(sound, 'type')],
    ['a type that is no text', ({ sound }) => ({ ...sound, type: 1 })],
    ['a type of 256 bytes', ({ resigned }) => resigned({ type: 'x'.repeat(256) })],
    ['a type of 200 characters in 800 bytes', ({ resigned }) => resigned({ type: '😀'.repeat(200) })],
    ['a state key of 256 bytes', ({ resigned }) => resigned({ state_key: 'x'.repeat(256) })],
    ['a state key that is no text', ({ resigned }) => resigned({ state_key: null })],
    ['a sender that is too long', ({ resigned }) => resigned({ sender: long('@') })],
    ['a sender without a server', ({ resigned }) => resigned({ sender: '@bob' })],
    ['no sender', ({ sound }) => without(sound, 'sender')],
    ['content that is a list', ({ resigned }) => resigned({ content: [] })],
    ['no content', ({ sound }) => without(sound, 'content')],
    ['more than 64 KiB', ({ resigned }) => resigned({ content: { body: 'x'.repeat(65_536) } })],
    ['a depth below zero', ({ resigned }) => resigned({ depth: -1 })],
    ['a depth that is text', ({ resigned }) => resigned({ depth: '1' })],
    ['no depth', ({ sound }) => without(sound, 'depth')],
    ['a depth with a fraction', ({ sound }) => ({ ...sound, depth: 1.5 })],
    ['a depth beyond all bounds', ({ sound }) => ({ ...sound, depth: 2 ** 60 })],
    ['a time that is text', ({ resigned }) => resigned({ origin_server_ts: 'now' })],
    ['a time with a fraction', ({ sound }) => ({ ...sound, origin_server_ts: 1.5 })],
    ['a number in its content that is not exact', ({ sound }) => ({ ...sound, content: { x: 2 ** 60 } })],
    ['a fraction in its content', ({ sound }) => ({ ...sound, content: { x: 1.5 } })],
    ['hashes that are a list', ({ resigned, sound }) => ({ ...resigned({}, sound), hashes: [] })],
    ['no hashes', ({ sound }) => without(sound, 'hashes')],
    ['unsigned that is a list', ({ sound }) => ({ ...sound, unsigned: [] })],
    ['previous events that are no list', ({ resigned }) => resigned({ prev_events: {} })],
    ['previous events that are numbers', ({ resigned }) => resigned({ prev_events: [1, 2] })],
    ['previous events that are no ids', ({ resigned }) => resigned({ prev_events: ['event', ''] })],
    ['21 previous events', ({ resigned }) => resigned({ prev_events: Array.from({ length: 21 }, (_, i) => `$${i}`) })],
    [
      'ten thousand previous events',
      ({ resigned }) => resigned({ prev_events: Array.from({ length: 10_000 }, () => '$x') }),
    ],
    ['11 auth events', ({ resigned }) => resigned({ auth_events: Array.from({ length: 11 }, (_, i) => `$${i}`) })],
    ['no auth events', ({ sound }) => without(sound, 'auth_events')],
    ['previous events with ids of 300 bytes', ({ resigned }) => resigned({ prev_events: [`$${'x'.repeat(300)}`] })],
    ['a room id that is none', ({ resigned }) => resigned({ room_id: 'room' })],
    ['a room id that is a list', ({ sound }) => ({ ...sound, room_id: [] })],
    ['the room id of another room here', ({ sound }) => ({ ...sound, room_id: elsewhere.room_id })],
    ['the room id of a room that is not here', ({ resigned }) => resigned({ room_id: `!gone:${peer.server_name}` })],
  ]
  test.each(forgeries)('%s', async (name, forge) => {
    const { result, rows, seenChanged } = await attack(`format: ${name}`, '11', forge)
    expect(result.status).toBe(200)
    const outcomes = Object.values(result.body.pdus as Record<string, object>)
    for (const outcome of outcomes) expect(outcome).toEqual({ error: expect.any(String) })
    expect(rows).toEqual({})
    expect(seenChanged).toBe(false)
  })

  test.each<[string, Forge]>([
    [
      'a create event with a room id',
      ({ made }) =>
        made({
          type: 'm.room.create',
          state_key: '',
          content: { room_version: '12' },
          prev_events: [],
          auth_events: [],
        }),
    ],
    ['no room id', ({ sound }) => without(sound, 'room_id')],
  ])('v12: %s', async (name, forge) => {
    const { rows, seenChanged } = await attack(`format: ${name}`, '12', forge)
    expect(rows).toEqual({})
    expect(seenChanged).toBe(false)
  })
})

describe('says what was not signed, and that is taken off', () => {
  test.each<[string, Forge]>([
    ['other content', ({ sound }) => ({ ...sound, content: { body: 'forged', url: 'mxc://evil/x' } })],
    ['content nested 900 deep', ({ sound }) => ({ ...sound, content: { x: nested(900) } })],
    ['more content', ({ sound }) => ({ ...sound, content: { ...(sound.content as JsonObject), more: 1 } })],
    ['a key beside it', ({ sound }) => ({ ...sound, 'org.evil': { x: 1 } })],
  ])('%s', async (name, forge) => {
    const { result, room } = await attack(`content: ${name}`, '11', forge)
    const [id] = Object.keys(result.body.pdus as object)
    const [row] = await server.main.database.sql<{ content: string; envelope: string }[]>`
      select content, envelope from events where event_id = ${String(id)}`
    expect(row?.content).toBe('{}')
    expect(row?.envelope).not.toContain('evil')
    await room.catchUp()
  })

  test('what is said beside the signatures is not kept', async () => {
    const { result, room } = await attack('content: unsigned', '11', ({ sound }) => ({
      ...sound,
      unsigned: { redacted_because: { type: 'm.room.redaction' }, age: -1, 'm.relations': { x: 1 } },
    }))
    const [id] = Object.keys(result.body.pdus as object)
    const [row] = await server.main.database.sql<{ envelope: string }[]>`
      select envelope from events where event_id = ${String(id)}`
    expect(row?.envelope).not.toContain('redacted_because')
    await room.catchUp()
  })
})

describe('is not allowed', () => {
  const state = (type: string, content: JsonObject, more: Partial<PeerWish> = {}): Forge => {
    return ({ made }) => made({ type, state_key: '', content, ...more })
  }
  const member = (target: (room: PeerRoom) => string, content: JsonObject, more: Partial<PeerWish> = {}): Forge => {
    return ({ made, room }) => made({ type: 'm.room.member', state_key: target(room), content, ...more })
  }
  const alice = (room: PeerRoom) => room.alice
  const eve = () => `@eve:${peer.server_name}`
  const forgeries: [string, Forge][] = [
    ['power above its own', state('m.room.power_levels', { users: {}, state_default: 100 })],
    [
      'power for itself',
      ({ made, room }) =>
        made({
          type: 'm.room.power_levels',
          state_key: '',
          content: { users: { [room.alice]: 100, [room.bob]: 100 } },
        }),
    ],
    [
      'power taken from its better',
      ({ made, room }) => made({ type: 'm.room.power_levels', state_key: '', content: { users: { [room.bob]: 50 } } }),
    ],
    [
      'power that is no number',
      ({ made, room }) =>
        made({ type: 'm.room.power_levels', state_key: '', content: { users: { [room.alice]: '100' } } }),
    ],
    ['power for who is nobody', state('m.room.power_levels', { users: { everybody: 50 } })],
    ['a ban of its better', member(alice, { membership: 'ban' })],
    ['a kick of its better', member(alice, { membership: 'leave' })],
    ['a join for somebody else', member(alice, { membership: 'join', displayname: 'forged' })],
    ['a membership that there is not', member(eve, { membership: 'owner' })],
    ['a membership that is no text', member(eve, { membership: 1 })],
    ['no membership', member(eve, {})],
    ['a member who is nobody', member(() => 'eve', { membership: 'invite' })],
    ['an invitation of who is in the room', member(alice, { membership: 'invite' })],
    [
      'a third-party invitation without a token',
      member(eve, {
        membership: 'invite',
        third_party_invite: { signed: { mxid: `@eve:x`, token: 'x', signatures: {} } },
      }),
    ],
    ['a third-party invitation that is none', member(eve, { membership: 'invite', third_party_invite: 'x' })],
    ['a second create event', state('m.room.create', { room_version: '11' })],
    [
      'a second create event without what came before',
      state('m.room.create', { room_version: '11' }, { prev_events: [], auth_events: [] }),
    ],
    ['state of another user', ({ made, room }) => made({ type: 'org.example', state_key: room.alice, content: {} })],
    ['a tombstone', state('m.room.tombstone', { body: 'go', replacement_room: '!evil:evil' })],
    ['a server ACL that shuts all out', state('m.room.server_acl', { allow: [] })],
    ['encryption', state('m.room.encryption', { algorithm: 'm.megolm.v1.aes-sha2' })],
    [
      'a message of who is not in the room',
      ({ resigned, made }) => resigned({ sender: eve() }, made({ type: 'm.room.message', content: { body: 'x' } })),
    ],
    [
      'a topic of who is not in the room',
      ({ resigned, made }) =>
        resigned({ sender: eve() }, made({ type: 'm.room.topic', state_key: '', content: { topic: 'x' } })),
    ],
    [
      'an invitation by who is not in the room',
      ({ resigned, made }) =>
        resigned(
          { sender: eve() },
          made({ type: 'm.room.member', state_key: `@x:${peer.server_name}`, content: { membership: 'invite' } }),
        ),
    ],
    [
      'no auth events at all',
      ({ made }) => made({ type: 'm.room.topic', state_key: '', content: {}, auth_events: [] }),
    ],
    [
      'one auth event twice',
      ({ made, sound }) =>
        made({
          type: 'm.room.topic',
          state_key: '',
          content: {},
          auth_events: [...(sound.auth_events as EventId[]), ...(sound.auth_events as EventId[])].slice(0, 4),
        }),
    ],
    [
      'an auth event that has no place there',
      async ({ made, sound, room }) =>
        made({
          type: 'm.room.topic',
          state_key: '',
          content: {},
          auth_events: [...(sound.auth_events as EventId[]), await currentId(room, 'm.room.history_visibility')],
        }),
    ],
    [
      'auth events of another room',
      async ({ made }) =>
        made({
          type: 'm.room.topic',
          state_key: '',
          content: {},
          auth_events: await Promise.all(
            ['m.room.create', 'm.room.power_levels'].map((type) => currentId(elsewhere, type)),
          ),
        }),
    ],
  ]
  test.each(forgeries)('%s', async (name, forge) => {
    const { rows, seenChanged, result } = await attack(`rules: ${name}`, '11', forge)
    expect(result.status).toBe(200)
    expect(seenChanged).toBe(false)
    // Kept, so that it is not looked at again; nobody sees it.
    for (const table of Object.keys(rows))
      expect(['events', 'auth_chains', 'auth_chain_links', 'state_keys', 'staged_pdus']).toContain(table)
    // What rests on something that can't be had waits for it, and is given up.
    const waiting = async () => (await server.main.database.sql`select 1 from staged_pdus`).length
    await expect.poll(waiting, { timeout: 10_000 }).toBe(0)
    const [id] = Object.keys(result.body.pdus as object)
    const stored = await server.main.database.sql`select flags, position from events where event_id = ${String(id)}`
    for (const row of stored) expect(row).toEqual({ flags: 1, position: null })
  })
})

async function currentId(room: PeerRoom, type: string): Promise<EventId> {
  const [row] = await server.main.database.sql<{ event_id: EventId }[]>`
    select event_id from current_state c join rooms r using (room_nid) join events e using (event_nid)
    where r.room_id = ${room.room_id} and c.type = ${type} and c.state_key = ''`
  if (!row) throw new Error(`no ${type}`)
  return row.event_id
}
