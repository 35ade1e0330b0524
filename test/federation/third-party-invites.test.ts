/** https://spec.matrix.org/v1.19/server-server-api/#third-party-invites */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { rulesOf } from '../../shared/core/room-versions.ts'
import { signEvent } from '../../shared/matrix/event-signing.ts'
import type { RoomId, UserId } from '../../shared/matrix/ids.ts'
import type { JsonObject } from '../../shared/matrix/json-value.ts'
import { generateSigningKey, signJson } from '../../shared/matrix/signatures.ts'
import { type FederationPeer, federationPeer, type TestAuthority, testAuthority } from '../support/federation-peer.ts'
import { type FederationServer, federationServer } from '../support/federation-server.ts'

let authority: TestAuthority
let peer: FederationPeer
let server: FederationServer
let alice: UserId
const identityKey = generateSigningKey('0')
beforeAll(async () => {
  authority = testAuthority()
  peer = await federationPeer(authority)
  server = await federationServer({ authority })
  alice = await server.main.user('alice')
})
afterAll(async () => {
  await server.close()
  await peer.close()
  authority.close()
})

let made = 0
/** A room to which Alice invited an address. */
async function invited(): Promise<{ room_id: RoomId; token: string }> {
  const { room_id } = await server.main.commands.createRoom({
    user_id: alice,
    preset: 'private_chat',
    room_version: '11',
  })
  const token = `token${++made}`
  await server.main.commands.sendEvent({
    room_id,
    user_id: alice,
    type: 'm.room.third_party_invite',
    state_key: token,
    content: {
      display_name: 'bo...@ex...',
      key_validity_url: 'https://identity.example/valid',
      public_key: identityKey.publicKeyBase64,
      public_keys: [{ public_key: identityKey.publicKeyBase64 }],
    },
  })
  return { room_id, token }
}
const signed = (mxid: string, token: string, key = identityKey) => signJson({ mxid, token }, 'identity.example', key)
const exchange = (room_id: RoomId, target: string, proof: JsonObject, change: JsonObject = {}) =>
  server.ask('PUT', `/_matrix/federation/v1/exchange_third_party_invite/${encodeURIComponent(room_id)}`, {
    by: peer,
    body: {
      type: 'm.room.member',
      room_id,
      sender: alice,
      state_key: target,
      content: { membership: 'invite', third_party_invite: { display_name: 'bob', signed: proof } },
      ...change,
    },
  })
const membership = async (room_id: RoomId, user: string) => {
  const [row] = await server.main.database.sql<{ membership: string }[]>`
    select membership from memberships m join rooms r using (room_nid) where r.room_id = ${room_id} and user_id = ${user}`
  return row?.membership
}

test('whose address it is, is invited by way of their server', async () => {
  const { room_id, token } = await invited()
  const bob = `@bob:${peer.server_name}`
  peer.on('/_matrix/federation/v2/invite/', ({ body }) => ({
    body: { event: signEvent(rulesOf('11')!, body!.event as JsonObject, peer.server_name, peer.key) },
  }))
  expect(await exchange(room_id, bob, signed(bob, token))).toEqual({ status: 200, body: {} })
  expect(await membership(room_id, bob)).toBe('invite')
})

test('a proof by somebody whom the room did not ask, of another user, or of another token is none', async () => {
  const { room_id, token } = await invited()
  const bob = `@bob:${peer.server_name}`
  const forged = signed(bob, token, generateSigningKey('0'))
  const ofAnother = signed(`@carol:${peer.server_name}`, token)
  const other = signed(bob, 'other')
  for (const proof of [forged, ofAnother, other]) {
    expect(await exchange(room_id, bob, proof)).toMatchObject({ status: 403, body: { errcode: 'M_FORBIDDEN' } })
  }
  expect(await exchange(room_id, bob, signed(bob, token), { sender: '@mallory:hs1' })).toMatchObject({ status: 403 })
  expect(await exchange(room_id, bob, signed(bob, token), { sender: bob })).toMatchObject({ status: 400 })
  expect(await membership(room_id, bob)).toBeUndefined()
})

test('an address that is bound to a user here: invited at once, or by the inviter’s server', async () => {
  const { room_id, token } = await invited()
  const carol = await server.main.user(`carol${++made}`)
  const elsewhere = '!elsewhere:x' as RoomId
  const asked: JsonObject[] = []
  peer.on('/_matrix/federation/v1/exchange_third_party_invite/', ({ body }) => {
    asked.push(body!)
    return { body: {} }
  })
  const dave = `@dave:${peer.server_name}`
  const { status } = await server.ask('PUT', '/_matrix/federation/v1/3pid/onbind', {
    body: {
      medium: 'email',
      address: 'carol@example.org',
      mxid: carol,
      invites: [
        {
          medium: 'email',
          address: 'carol@example.org',
          mxid: carol,
          room_id,
          sender: alice,
          signed: signed(carol, token),
        },
        {
          medium: 'email',
          address: 'x',
          mxid: carol,
          room_id: elsewhere,
          sender: dave,
          signed: signed(carol, 'theirs'),
        },
        // Of somebody else than who was bound.
        { medium: 'email', address: 'x', mxid: alice, room_id, sender: alice, signed: signed(alice, token) },
      ],
    },
  })
  expect(status).toBe(200)
  expect(await membership(room_id, carol)).toBe('invite')
  expect(asked).toMatchObject([{ room_id: elsewhere, sender: dave, state_key: carol }])
})
