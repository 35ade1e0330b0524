/** Invitations and knocks of users of this server in rooms that it is not in.
 *  https://spec.matrix.org/v1.19/server-server-api/#inviting-to-a-room */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { rulesOf } from '../../shared/core/room-versions.ts'
import { buildEvent, wireFromParts } from '../../shared/matrix/event-format.ts'
import { isSignedBy } from '../../shared/matrix/event-signing.ts'
import type { EventId, RoomId, UserId } from '../../shared/matrix/ids.ts'
import type { JsonObject } from '../../shared/matrix/json-value.ts'
import { verifyKeyFromBase64 } from '../../shared/matrix/signatures.ts'
import { type FederationPeer, federationPeer, type TestAuthority, testAuthority } from '../support/federation-peer.ts'
import { type FederationServer, federationServer } from '../support/federation-server.ts'

let authority: TestAuthority
let peer: FederationPeer
let server: FederationServer
const rules = rulesOf('11')!
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
const newRoom = () => `!room${++made}:${peer.server_name}` as RoomId
const newUser = () => server.main.user(`guest${++made}`)
const inviter = () => `@inviter:${peer.server_name}` as UserId

function member(
  room_id: RoomId,
  target: UserId,
  membership: string,
  more: { readonly depth?: number; readonly sender?: UserId } = {},
) {
  const { pdu, envelope, content } = buildEvent(
    rules,
    {
      room_id,
      type: 'm.room.member',
      state_key: target,
      sender: more.sender ?? inviter(),
      content: { membership },
      prev_events: ['$previous' as EventId],
      auth_events: [],
      depth: more.depth ?? 10,
      origin_server_ts: ++made,
    },
    peer.server_name,
    peer.key,
  )
  return { event_id: pdu.event_id, wire: JSON.parse(wireFromParts(envelope, content)) as JsonObject }
}
const name = { type: 'm.room.name', state_key: '', sender: '@inviter:x', content: { name: 'A room elsewhere' } }
const invite = (
  room_id: RoomId,
  { event_id, wire }: ReturnType<typeof member>,
  stripped: readonly unknown[] = [name],
) =>
  server.ask('PUT', `/_matrix/federation/v2/invite/${encodeURIComponent(room_id)}/${encodeURIComponent(event_id)}`, {
    by: peer,
    body: { room_version: '11', event: wire, invite_room_state: stripped },
  })
const tell = (wire: JsonObject) =>
  server.ask('PUT', `/_matrix/federation/v1/send/${++made}`, {
    by: peer,
    body: { origin: peer.server_name, origin_server_ts: 1, pdus: [wire] },
  })
const membership = async (room_id: RoomId, user: UserId) => {
  const [row] = await server.main.database.sql<{ membership: string; told: string | null }[]>`
    select m.membership, s.events as told from memberships m join rooms r using (room_nid)
    left join stripped_states s on s.room_nid = m.room_nid and s.user_id = m.user_id
    where r.room_id = ${room_id} and m.user_id = ${user}`
  return row
}

test('an invitation is signed by this server, and the user has what they were told of the room', async () => {
  const [room_id, user] = [newRoom(), await newUser()]
  const { status, body } = await invite(room_id, member(room_id, user, 'invite'))
  expect(status).toBe(200)
  const key = verifyKeyFromBase64(server.main.federation.signingKeys[0].publicKeyBase64)
  expect(isSignedBy(rules, body.event as JsonObject, 'hs1', () => key)).toBe(true)
  expect(await membership(room_id, user)).toEqual({ membership: 'invite', told: JSON.stringify([name]) })
})

test('who invited takes it back; nobody else does', async () => {
  const [room_id, user] = [newRoom(), await newUser()]
  await invite(room_id, member(room_id, user, 'invite'))
  await tell(member(room_id, user, 'leave', { depth: 11, sender: `@other:${peer.server_name}` as UserId }).wire)
  expect(await membership(room_id, user)).toMatchObject({ membership: 'invite' })
  await tell(member(room_id, user, 'leave', { depth: 12 }).wire)
  expect(await membership(room_id, user)).toEqual({ membership: 'leave', told: null })
})

test('what took back an earlier invitation, and was overtaken by the next one, takes nothing back', async () => {
  const [room_id, user] = [newRoom(), await newUser()]
  await invite(room_id, member(room_id, user, 'invite', { depth: 10 }))
  const late = member(room_id, user, 'leave', { depth: 11 })
  await invite(room_id, member(room_id, user, 'invite', { depth: 12 }))
  expect((await tell(late.wire)).status).toBe(200)
  expect(await membership(room_id, user)).toMatchObject({ membership: 'invite' })
})

test('the user refuses: by way of the inviter, and also where that server is gone', async () => {
  const [room_id, user] = [newRoom(), await newUser()]
  const invitation = member(room_id, user, 'invite')
  await invite(room_id, invitation)
  const sent: JsonObject[] = []
  peer.on(`/_matrix/federation/v1/make_leave/${encodeURIComponent(room_id)}`, () => ({
    body: {
      room_version: '11',
      event: { content: {}, depth: 11, prev_events: [invitation.event_id], auth_events: [invitation.event_id] },
    },
  }))
  peer.on(`/_matrix/federation/v2/send_leave/${encodeURIComponent(room_id)}`, ({ body }) => {
    sent.push(body!)
    return { body: {} }
  })
  await server.main.commands.changeMembership({ room_id, user_id: user, target: user, action: 'leave' })
  expect(sent).toMatchObject([{ state_key: user, content: { membership: 'leave' }, signatures: { hs1: {} } }])
  expect(await membership(room_id, user)).toMatchObject({ membership: 'leave' })

  await server.main.commands.forgetRoom({ room_id, user_id: user })
  const [row] = await server.main.database.sql`
    select forgotten from memberships join rooms using (room_nid) where room_id = ${room_id} and user_id = ${user}`
  expect(row).toEqual({ forgotten: true })

  const [gone, other] = [newRoom(), await newUser()]
  await invite(gone, member(gone, other, 'invite'))
  await server.main.commands.changeMembership({ room_id: gone, user_id: other, target: other, action: 'leave' })
  expect(await membership(gone, other)).toMatchObject({ membership: 'leave' })
})

test('nobody here, somebody who takes no invitations, and an event that is none are refused', async () => {
  const room_id = newRoom()
  const nobody = '@nobody:hs1' as UserId
  expect(await invite(room_id, member(room_id, nobody, 'invite'))).toMatchObject({ status: 404 })
  const user = await newUser()
  expect(await invite(room_id, member(room_id, user, 'join'))).toMatchObject({ status: 400 })
  expect(await invite(newRoom(), member(room_id, user, 'invite'))).toMatchObject({ status: 400 })
  expect(await membership(room_id, user)).toBeUndefined()
})
