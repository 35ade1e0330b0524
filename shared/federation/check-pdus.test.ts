/** https://spec.matrix.org/v1.19/server-server-api/#checks-performed-on-receipt-of-a-pdu, checks 1 to 3 */
import { describe, expect, test } from 'vitest'
import { rulesOf } from '../core/room-versions.ts'
import { buildEvent, wireFromParts } from '../matrix/event-format.ts'
import { signEvent } from '../matrix/event-signing.ts'
import type { EventId, RoomId, ServerName, UserId } from '../matrix/ids.ts'
import type { JsonObject } from '../matrix/json-value.ts'
import { generateSigningKey, type SigningKey, verifyKeyFromBase64 } from '../matrix/signatures.ts'
import { type CheckedPdu, checkPdus } from './check-pdus.ts'
import type { KeyRing, KeysWanted } from './key-ring.ts'

const hs2 = 'hs2' as ServerName
const hs3 = 'hs3' as ServerName
const keys: Record<string, SigningKey> = { [hs2]: generateSigningKey('a'), [hs3]: generateSigningKey('b') }
const validUntil = 1_000_000

function ring(): Pick<KeyRing, 'load'> & { readonly asked: KeysWanted[][] } {
  const asked: KeysWanted[][] = []
  return {
    asked,
    async load(wanted) {
      asked.push([...wanted])
      return {
        key(server, key_id, validAt) {
          const key = keys[server]
          if (key?.keyId !== key_id || (validAt !== undefined && validAt > validUntil)) return undefined
          return verifyKeyFromBase64(key.publicKeyBase64)
        },
      }
    },
  }
}

function wire(version: string, more: { type?: string; content?: JsonObject; ts?: number; state_key?: string } = {}) {
  const { type = 'm.room.message', content = { body: 'hello' }, ts = 1, state_key } = more
  const built = buildEvent(
    rulesOf(version)!,
    {
      room_id: '!room:hs2' as RoomId,
      type,
      state_key,
      sender: '@bob:hs2' as UserId,
      content,
      prev_events: ['$previous' as EventId],
      auth_events: [],
      depth: 3,
      origin_server_ts: ts,
    },
    hs2,
    keys[hs2]!,
  )
  return JSON.parse(wireFromParts(built.envelope, built.content)) as JsonObject
}

const versions = ['1', '3', '4', '6', '11', '12']
const check = async (version: string, ...wires: JsonObject[]) => checkPdus(ring(), rulesOf(version)!, wires)
const refusal = (checked: CheckedPdu | undefined) => (checked && 'refused' in checked ? checked.refused : undefined)
const content = (checked: CheckedPdu | undefined) =>
  checked && 'event' in checked ? checked.event.pdu.content : undefined

describe.each(versions)('room version %s', (version) => {
  test('an event as it was signed passes', async () => {
    const [one] = await check(version, wire(version))
    expect(content(one)).toEqual({ body: 'hello' })
  })

  test('content that is not what was hashed is redacted', async () => {
    const [one] = await check(version, { ...wire(version), content: { body: 'forged' } })
    expect(content(one)).toEqual({})
  })

  test('what no redaction takes can not be changed', async () => {
    const [one] = await check(version, { ...wire(version), origin_server_ts: 2 })
    expect(refusal(one)).toMatch(/no signature of hs2/)
  })

  test('an event without signatures, with those of others alone, or with one by an unknown key is refused', async () => {
    const sound = wire(version)
    const other = signEvent(rulesOf(version)!, { ...sound, signatures: {} }, hs3, keys[hs3]!)
    const unknown = { ...sound, signatures: { hs2: { 'ed25519:unknown': 'A'.repeat(86) } } }
    const answers = await check(version, { ...sound, signatures: {} }, other, unknown, {
      ...sound,
      signatures: [] as never,
    })
    expect(answers.map(refusal).every((reason) => reason !== undefined)).toBe(true)
  })

  test('one that is no event does not keep the others from being checked', async () => {
    const answers = await check(version, { type: 'm.room.message' }, wire(version), [] as never)
    expect(answers.map((one) => 'event' in one)).toEqual([false, true, false])
  })

  test('a key that is no longer valid when the event says it was made', async () => {
    const [one] = await check(version, wire(version, { ts: validUntil + 1 }))
    // https://spec.matrix.org/v1.19/rooms/v5/#signing-key-validity-period
    expect('event' in one!).toBe(!rulesOf(version)!.enforcesKeyValidity)
  })
})

test('the keys of all events are asked for together, one wish a server', async () => {
  const keyRing = ring()
  await checkPdus(keyRing, rulesOf('11')!, [wire('11', { ts: 5 }), wire('11', { ts: 9 }), wire('11', { ts: 7 })])
  expect(keyRing.asked).toEqual([[{ server_name: hs2, key_ids: [keys[hs2]!.keyId], validAt: 9 }]])
})

// https://spec.matrix.org/v1.19/rooms/v8/#authorization-rules
test('who let a user into a restricted room has signed that', async () => {
  const join = wire('11', {
    type: 'm.room.member',
    state_key: '@bob:hs2',
    content: { membership: 'join', join_authorised_via_users_server: '@carol:hs3' },
  })
  const both = signEvent(rulesOf('11')!, join, hs3, keys[hs3]!)
  const [alone, together] = await check('11', join, both)
  expect(refusal(alone)).toMatch(/not signed by hs3/)
  expect('event' in together!).toBe(true)
})

// https://spec.matrix.org/v1.19/server-server-api/#validating-hashes-and-signatures-on-received-events
test('in the first versions the server that named the event has signed it too', async () => {
  const [one] = await check('1', { ...wire('1'), event_id: '$named:hs3' })
  expect(refusal(one)).toMatch(/hs3/)
})
