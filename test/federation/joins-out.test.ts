/** https://spec.matrix.org/v1.19/server-server-api/#joining-rooms, as the server whose user joins or is invited. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { authEventKeys } from '../../shared/core/auth-selection.ts'
import { rulesOf } from '../../shared/core/room-versions.ts'
import { buildEvent, parsePdu, wireFromParts } from '../../shared/matrix/event-format.ts'
import { signEvent } from '../../shared/matrix/event-signing.ts'
import type { EventId, RoomId, ServerName, UserId } from '../../shared/matrix/ids.ts'
import type { JsonObject } from '../../shared/matrix/json-value.ts'
import { type FederationPeer, federationPeer, type TestAuthority, testAuthority } from '../support/federation-peer.ts'
import { type FederationServer, federationServer } from '../support/federation-server.ts'

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

let made = 0
const newUser = () => server.main.user(`joiner${++made}`)

interface RoomOptions {
  readonly joinRules?: JsonObject
  /** The creator is said to have let the user in: with their server's signature, or without. */
  readonly vouch?: 'signed' | 'unsigned'
}

/** A room of the peer's, as it answers for it. */
function heldRoom(version: string, { joinRules = { join_rule: 'public' }, vouch }: RoomOptions = {}) {
  const rules = rulesOf(version)!
  const creator = `@creator:${peer.server_name}` as UserId
  const room_id = `!held${++made}:${peer.server_name}` as RoomId
  const ids = new Map<string, EventId>()
  const state: JsonObject[] = []
  let last: EventId[] = []
  let depth = 0
  const add = (type: string, state_key: string | undefined, content: JsonObject, sender = creator) => {
    const event = { type, sender, content, ...(state_key === undefined ? {} : { state_key }) }
    const { pdu, ...texts } = buildEvent(
      rules,
      {
        ...event,
        room_id,
        prev_events: last,
        auth_events: authEventKeys(rules, event).flatMap((key) => ids.get(key.join('\0')) ?? []),
        reference_hashes: new Map(),
        depth: ++depth,
        origin_server_ts: Date.now(),
      },
      peer.server_name,
      peer.key,
    )
    const wire = JSON.parse(wireFromParts(texts.envelope, texts.content)) as JsonObject
    last = [pdu.event_id]
    if (state_key !== undefined) {
      ids.set(`${type}\0${state_key}`, pdu.event_id)
      state.push(wire)
    }
    return { event_id: pdu.event_id, wire }
  }
  add('m.room.create', '', { room_version: version, creator })
  add('m.room.member', creator, { membership: 'join' })
  add('m.room.power_levels', '', { users: { [creator]: 100 } })
  add('m.room.join_rules', '', joinRules)
  const vouching = vouch ? { join_authorised_via_users_server: creator } : {}
  const rests = ['m.room.create\0', 'm.room.power_levels\0', 'm.room.join_rules\0']
  if (vouch) rests.push(`m.room.member\0${creator}`)
  peer.on(`/_matrix/federation/v1/make_join/${encodeURIComponent(room_id)}`, () => ({
    body: {
      room_version: version,
      event: {
        content: { membership: 'join', ...vouching },
        depth: depth + 1,
        prev_events: [...last],
        auth_events: rests.map((key) => ids.get(key)!),
      },
    },
  }))
  peer.on(`/_matrix/federation/v2/send_join/${encodeURIComponent(room_id)}`, ({ body }) => {
    const join = parsePdu(rules, body!)
    if ('error' in join) throw new Error(join.error)
    const before = [...state]
    last = [join.pdu.event_id]
    depth++
    const event = vouch === 'signed' ? signEvent(rules, body!, peer.server_name, peer.key) : body!
    return { body: { origin: peer.server_name, members_omitted: false, state: before, auth_chain: [], event } }
  })
  return { room_id, creator, add }
}

const via = () => [peer.server_name as ServerName]
const join = (room_id: RoomId, user_id: UserId) =>
  server.main.commands.changeMembership({ room_id, user_id, target: user_id, action: 'join', via: via() })
/** What this server says to an event that is sent to it: `{}`, or why it is not taken. */
async function told({ event_id, wire }: { readonly event_id: EventId; readonly wire: JsonObject }) {
  const { body } = await server.ask('PUT', `/_matrix/federation/v1/send/joins${++made}`, {
    by: peer,
    body: { origin: peer.server_name, origin_server_ts: 1, pdus: [wire] },
  })
  return (body.pdus as JsonObject)[event_id]
}
/** An invitation to a room that is said to have this version. */
async function invite(room_id: RoomId, target: UserId, version: string, sender: UserId) {
  const { pdu, envelope, content } = buildEvent(
    rulesOf(version)!,
    {
      room_id,
      type: 'm.room.member',
      state_key: target,
      sender,
      content: { membership: 'invite' },
      prev_events: [],
      auth_events: [],
      depth: 10,
      origin_server_ts: ++made,
    },
    peer.server_name,
    peer.key,
  )
  const uri = `/_matrix/federation/v2/invite/${encodeURIComponent(room_id)}/${encodeURIComponent(pdu.event_id)}`
  const event = JSON.parse(wireFromParts(envelope, content)) as JsonObject
  const { status } = await server.ask('PUT', uri, {
    by: peer,
    body: { room_version: version, event, invite_room_state: [] },
  })
  expect(status).toBe(200)
}
const rowOf = async (room_id: RoomId) => {
  const [row] = await server.main.database.sql<{ room_version: string; creator: string }[]>`
    select room_version, creator from rooms where room_id = ${room_id}`
  return row
}
const membership = async (room_id: RoomId, user: UserId) => {
  const [row] = await server.main.database.sql<{ membership: string }[]>`
    select membership from memberships join rooms using (room_nid) where room_id = ${room_id} and user_id = ${user}`
  return row?.membership
}

test.each(['6', '10', '11'])(
  'a user joins a room of version %s, and hears what is said there next',
  async (version) => {
    const { room_id, add } = heldRoom(version)
    const user = await newUser()
    await join(room_id, user)
    expect(await membership(room_id, user)).toBe('join')
    expect(await told(add('m.room.message', undefined, { body: 'hello', msgtype: 'm.text' }))).toEqual({})
  },
)

test.each(['1', '6', '11'])(
  'a room has the version of its create event, whatever an invitation said: %s',
  async (said) => {
    const { room_id, creator, add } = heldRoom('10')
    const [invited, user] = [await newUser(), await newUser()]
    await invite(room_id, invited, said, `@liar:${peer.server_name}` as UserId)
    expect(await rowOf(room_id)).toMatchObject({ room_version: said })
    await join(room_id, user)
    expect(await rowOf(room_id)).toEqual({ room_version: '10', creator })
    expect(await told(add('m.room.message', undefined, { body: 'hello', msgtype: 'm.text' }))).toEqual({})
  },
)

describe('rooms/v8 restricted joins', () => {
  const joinRules = { join_rule: 'restricted', allow: [{ type: 'm.room_membership', room_id: '!a:b' }] }
  test('with the signature of whoever vouches', async () => {
    const { room_id } = heldRoom('11', { joinRules, vouch: 'signed' })
    const user = await newUser()
    await join(room_id, user)
    expect(await membership(room_id, user)).toBe('join')
  })
  test('without it the user is not in the room: every other server would refuse the event', async () => {
    const { room_id } = heldRoom('11', { joinRules, vouch: 'unsigned' })
    const user = await newUser()
    await expect(join(room_id, user)).rejects.toMatchObject({ status: 502 })
    expect(await membership(room_id, user)).toBeUndefined()
  })
})

describe('an invitation to a room elsewhere', () => {
  const notices = async (room_id: RoomId, user: UserId) => {
    const [row] = await server.main.database.sql<{ count: number }[]>`
      select count(*)::integer as count from events e join rooms r using (room_nid)
      join push_deviations d on d.room_nid = e.room_nid and d.position = e.position and d.user_id = ${user}
      where r.room_id = ${room_id} and d.push & 1 = 1`
    return row?.count
  }
  test('notifies, as one to a room here does', async () => {
    const user = await newUser()
    const { room_id, creator } = heldRoom('11')
    await invite(room_id, user, '11', creator)
    expect(await notices(room_id, user)).toBe(1)
  })
  test('of somebody whom the user ignores does not', async () => {
    const user = await newUser()
    const { room_id, creator } = heldRoom('11')
    const content = JSON.stringify({ ignored_users: [creator] })
    const type = 'org.matrix.msc4155.invite_permission_config'
    await server.main.commands.setAccountData({ user_id: user, type, content })
    await invite(room_id, user, '11', creator)
    expect(await notices(room_id, user)).toBe(0)
  })
})
