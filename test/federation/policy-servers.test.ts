/** https://spec.matrix.org/v1.19/server-server-api/#policy-servers */
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { rulesOf } from '../../shared/core/room-versions.ts'
import { redactedForSigning } from '../../shared/matrix/hashes.ts'
import type { EventId } from '../../shared/matrix/ids.ts'
import type { JsonObject } from '../../shared/matrix/json-value.ts'
import { generateSigningKey, signText } from '../../shared/matrix/signatures.ts'
import { type FederationPeer, federationPeer, type TestAuthority, testAuthority } from '../support/federation-peer.ts'
import { type FederationServer, federationServer } from '../support/federation-server.ts'
import { type PeerRoom, peerRoom } from '../support/peer-room.ts'

let authority: TestAuthority
let peer: FederationPeer
let server: FederationServer
const policyKey = generateSigningKey('policy_server')
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

const signatureOn = (wire: JsonObject) => signText(redactedForSigning(rules, wire), policyKey)
const asked = () => peer.requests.filter((request) => request.uri === '/_matrix/policy/v1/sign').length
function signing(sign: (wire: JsonObject) => string | undefined) {
  peer.on('/_matrix/policy/v1/sign', ({ body }) => {
    const signature = sign(body!)
    if (signature === undefined) return { status: 400, body: { errcode: 'M_FORBIDDEN', error: 'This looks like spam' } }
    return { body: { [peer.server_name]: { 'ed25519:policy_server': signature } } }
  })
}
beforeEach(() => signing(signatureOn))

async function guardedRoom(): Promise<PeerRoom> {
  const room = await peerRoom(server, peer)
  await server.main.commands.sendEvent({
    room_id: room.room_id,
    user_id: room.alice,
    type: 'm.room.policy',
    state_key: '',
    content: { via: peer.server_name, public_keys: { ed25519: policyKey.publicKeyBase64 } },
  })
  await room.catchUp()
  return room
}
const say = (room: PeerRoom, body: string) =>
  server.main.commands.sendEvent({
    room_id: room.room_id,
    user_id: room.alice,
    type: 'm.room.message',
    content: { body },
  })
const stored = async (event_id: EventId) => {
  const [row] = await server.main.database.sql<{ flags: number; envelope: string }[]>`
    select flags, envelope from events where event_id = ${event_id}`
  return row && { flags: row.flags, signatures: JSON.parse(row.envelope).signatures as Record<string, object> }
}

test('an event of ours bears the signature that the policy server gave', async () => {
  const room = await guardedRoom()
  const { event_id } = await say(room, 'hello')
  const { signatures } = (await stored(event_id))!
  expect(signatures).toMatchObject({
    hs1: { 'ed25519:a_test': expect.any(String) },
    [peer.server_name]: { 'ed25519:policy_server': expect.any(String) },
  })
})

test('what the policy server refuses is not sent, and its words reach the client', async () => {
  const room = await guardedRoom()
  signing(() => undefined)
  await expect(say(room, 'buy this')).rejects.toMatchObject({ errcode: 'M_FORBIDDEN', message: 'This looks like spam' })
  // The room goes on.
  signing(signatureOn)
  await say(room, 'hello')
})

test('a signature by another key is none', async () => {
  const room = await guardedRoom()
  const other = generateSigningKey('policy_server')
  signing((wire) => signText(redactedForSigning(rules, wire), other))
  await expect(say(room, 'hello')).rejects.toMatchObject({ errcode: 'M_FORBIDDEN' })
})

test('one that is away keeps events back, and says when to come again', async () => {
  const room = await guardedRoom()
  peer.on('/_matrix/policy/v1/sign', () => ({ status: 502, body: 'no' }))
  await expect(say(room, 'hello')).rejects.toMatchObject({ errcode: 'M_UNAVAILABLE' })
})

test('an event of another server that was signed is taken without asking; one that was not is asked about', async () => {
  const room = await guardedRoom()
  const signed = room.make({ type: 'm.room.message', content: { body: 'signed' } })
  const wire = room.wire(signed)
  const signatures = wire.signatures as Record<string, JsonObject>
  const own = signatures[peer.server_name]!
  const before = asked()
  await room.send([
    {
      ...wire,
      signatures: { ...signatures, [peer.server_name]: { ...own, 'ed25519:policy_server': signatureOn(wire) } },
    },
  ])
  expect(asked()).toBe(before)
  expect(await stored(signed.pdu.event_id)).toMatchObject({ flags: 0 })

  const unsigned = await room.say('not signed yet')
  expect(asked()).toBe(before + 1)
  expect(await stored(unsigned.pdu.event_id)).toMatchObject({
    flags: 0,
    signatures: { [peer.server_name]: { 'ed25519:policy_server': expect.any(String) } },
  })
})

test('one that the policy server does not recommend is soft-failed', async () => {
  const room = await guardedRoom()
  signing(() => undefined)
  const spam = room.makeAside({ type: 'm.room.message', content: { body: 'buy this' } })
  await room.send([room.wire(spam)])
  expect(await stored(spam.pdu.event_id)).toMatchObject({ flags: 2 })
})

test('without a member of the policy server, or for the event that names it, nobody is asked', async () => {
  const room = await guardedRoom()
  const before = asked()
  await server.main.commands.sendEvent({
    room_id: room.room_id,
    user_id: room.alice,
    type: 'm.room.policy',
    state_key: '',
    content: { via: 'elsewhere.example', public_keys: { ed25519: policyKey.publicKeyBase64 } },
  })
  await say(room, 'hello')
  expect(asked()).toBe(before)
})
