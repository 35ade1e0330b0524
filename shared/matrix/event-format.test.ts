import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type RoomRules, roomRules, rulesOf } from '../core/room-versions.ts'
import { decodeBase64 } from './base64.ts'
import {
  buildEvent,
  createEventIdOf,
  type EventDraft,
  parsePdu,
  pduFromStored,
  type StoredEvent,
  wireFromParts,
} from './event-format.ts'
import { isSignedBy } from './event-signing.ts'
import { contentHashMatches, eventIdOf } from './hashes.ts'
import type { EventId, RoomId, ServerName, UserId } from './ids.ts'
import type { JsonObject } from './json-value.ts'
import { redactPdu } from './redaction.ts'
import { signingKeyFromSeed, verifyKeyFromBase64 } from './signatures.ts'

const key = signingKeyFromSeed('1', decodeBase64('YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1')!)!
const keys = () => verifyKeyFromBase64(key.publicKeyBase64)
const server = 'example.org' as ServerName
const alice = '@alice:example.org' as UserId
const v10 = rulesOf('10')!
const v12 = rulesOf('12')!
const versions = Object.values(roomRules)

const message: EventDraft = {
  room_id: '!room:example.org' as RoomId,
  type: 'm.room.message',
  sender: alice,
  content: { msgtype: 'm.text', body: 'Grüße 🌍' },
  prev_events: ['$previous' as EventId],
  auth_events: ['$create' as EventId, '$levels' as EventId],
  depth: 7,
  origin_server_ts: 1_700_000_000_000,
}
const build = (rules: RoomRules, differences: Partial<EventDraft> = {}) =>
  buildEvent(rules, { ...message, ...differences }, server, key)
const wireOf = ({ envelope, content }: StoredEvent) => JSON.parse(wireFromParts(envelope, content)) as JsonObject

describe.each(versions)('rooms/v$version event format', (rules) => {
  const member = { type: 'm.room.member', state_key: alice, content: { membership: 'join', displayname: 'Alice' } }
  test.each([
    ['a message', {}],
    ['a state event', member],
    ['a redaction', { type: 'm.room.redaction', content: { reason: 'spam' }, redacts: '$target' as EventId }],
    ['one whose content names the target', { type: 'm.room.redaction', content: { redacts: '$target' } }],
    ['a create event', { type: 'm.room.create', state_key: '', content: {}, prev_events: [], auth_events: [] }],
  ])('%s: what we build, others parse, verify and redact to the same event', (_, differences) => {
    const built = build(rules, differences)
    const wire = wireOf(built)
    const parsed = parsePdu(rules, { ...wire, unsigned: { age: 5 } })
    expect(parsed).toEqual(built)
    expect(contentHashMatches(rules, wire)).toBe(true)
    expect(isSignedBy(rules, wire, server, keys)).toBe(true)
    expect(isSignedBy(rules, redactPdu(rules, wire), server, keys)).toBe(true)
    expect(eventIdOf(rules, wire)).toBe(built.pdu.event_id)
    expect(eventIdOf(rules, redactPdu(rules, wire))).toBe(built.pdu.event_id)
    const { event_id, room_id } = built.pdu
    expect(pduFromStored(rules, event_id, room_id, built.envelope, built.content)).toEqual(built.pdu)
  })

  test('a redaction names its target where the version looks for it', () => {
    const { pdu, envelope, content } = build(rules, { type: 'm.room.redaction', content: {}, redacts: '$x' as EventId })
    expect(pdu.redacts).toBe('$x')
    expect(JSON.parse(content).redacts).toBe(rules.redactsInContent ? '$x' : undefined)
    expect(JSON.parse(envelope).redacts).toBe(rules.redactsInContent ? undefined : '$x')
  })

  // Servers have always taken them so in the versions before.
  test.each(['type', 'state_key'])('%s of 256 bytes and 128 characters', (name) => {
    const { envelope, content } = build(rules, { type: 'm.room.name', state_key: '' })
    const wire = { ...JSON.parse(envelope), content: JSON.parse(content), [name]: 'ä'.repeat(128) }
    expect('error' in parsePdu(rules, wire)).toBe(rules.fieldLimitInBytes)
  })

  test.each<[string, JsonObject | unknown[]]>([
    ['no object', []],
    ['content is an array', { content: [] }],
    ['type is a number', { type: 1 }],
    ['type of 256 characters', { type: 'ä'.repeat(256) }],
    ['state_key is null', { state_key: null }],
    ['state_key of 256 bytes', { state_key: 'x'.repeat(256) }],
    ['sender is no user id', { sender: 'alice' }],
    ['sender of 256 bytes', { sender: `@${'x'.repeat(250)}:a.bc` }],
    ['room_id is missing', { room_id: undefined as never }],
    ['room_id is an alias', { room_id: '#room:example.org' }],
    ['depth is negative', { depth: -1 }],
    ['depth is a string', { depth: '7' }],
    ['depth is a fraction', { depth: 7.5 }],
    ['origin_server_ts is missing', { origin_server_ts: undefined as never }],
    ['hashes is missing', { hashes: undefined as never }],
    ['signatures is an array', { signatures: [] }],
    ['unsigned is a string', { unsigned: 'x' }],
    ['prev_events is an object', { prev_events: {} }],
    ['prev_events holds a number', { prev_events: [1] }],
    ['a lone surrogate', { content: { body: '\ud800' } }],
    ['an infinite number', { content: { n: Number.POSITIVE_INFINITY } }],
  ])('%s: not valid', (_, differences) => {
    const wire = Array.isArray(differences) ? differences : { ...wireOf(build(rules)), ...differences }
    expect(parsePdu(rules, wire)).toEqual({ error: expect.any(String) })
  })

  test('at most 20 previous events and 10 auth events', () => {
    const wire = wireOf(build(rules))
    const times = (count: number) =>
      Array.from({ length: count }, (_, i) => (rules.eventReferencesHaveHashes ? [`$${i}`, {}] : `$${i}`))
    expect(parsePdu(rules, { ...wire, prev_events: times(20), auth_events: times(10) })).toHaveProperty('pdu')
    expect(parsePdu(rules, { ...wire, prev_events: times(21) })).toHaveProperty('error')
    expect(parsePdu(rules, { ...wire, auth_events: times(11) })).toHaveProperty('error')
  })

  test.each([
    ['a float', 1.5],
    ['2^53+1', 2 ** 53 + 2],
  ])('%s passes where canonical JSON is not enforced', (_, value) => {
    const wire = { ...wireOf(build(rules)), content: { value } }
    expect(parsePdu(rules, wire)).toHaveProperty(rules.strictCanonicalJson ? 'error' : 'pdu')
  })
})

describe('rooms: event ids', () => {
  test.each([
    ['1', /^\$[\w-]{24}:example\.org$/],
    ['2', /^\$[\w-]{24}:example\.org$/],
    ['3', /^\$[A-Za-z0-9+/]{43}$/],
    ['4', /^\$[\w-]{43}$/],
    ['12', /^\$[\w-]{43}$/],
  ])('version %s', (version, format) => {
    const ids = Array.from({ length: 50 }, (_, depth) => build(rulesOf(version)!, { depth }).pdu.event_id)
    expect(new Set(ids).size).toBe(50)
    for (const id of ids) expect(id).toMatch(format)
  })

  test('the same hash in both alphabets', () => {
    const id3 = build(rulesOf('3')!).pdu.event_id
    expect(build(rulesOf('4')!).pdu.event_id).toBe(id3.replaceAll('+', '-').replaceAll('/', '_'))
  })

  test('unsigned and further signatures change no id, content does', () => {
    const wire = wireOf(build(v12))
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.string()), fc.string(), (unsigned, signer) => {
        const signatures = { ...(wire.signatures as JsonObject), [signer]: {} }
        expect(eventIdOf(v12, { ...wire, unsigned, signatures })).toBe(eventIdOf(v12, wire))
      }),
    )
    expect(build(v12, { content: { body: 'x' } }).pdu.event_id).not.toBe(build(v12).pdu.event_id)
  })

  test('rooms/v1: references carry the hashes that the caller knows', () => {
    const hashes = new Map([['$create' as EventId, 'aGFzaA']])
    const envelope = JSON.parse(build(rulesOf('1')!, { reference_hashes: hashes }).envelope)
    expect(envelope.auth_events).toEqual([
      ['$create', { sha256: 'aGFzaA' }],
      ['$levels', {}],
    ])
  })
})

describe.each([v10, v12])('rooms/v$version: any content, any state key', (rules) => {
  const text = fc.string({ unit: 'grapheme' })
  const content = fc.dictionary(text, fc.oneof(text, fc.maxSafeInteger(), fc.boolean(), fc.dictionary(text, text)))
  const types = fc.constantFrom(
    'm.room.message',
    ...Object.keys(rules.redaction.content).filter((type) => type !== 'm.room.create'),
  )
  test('the signature and the id survive redaction, the content hash does not survive a change', () => {
    fc.assert(
      fc.property(types, fc.option(text, { nil: undefined }), content, (type, state_key, value) => {
        fc.pre(Buffer.byteLength(state_key ?? '') <= 255)
        const built = build(rules, { type, content: value, ...(state_key === undefined ? {} : { state_key }) })
        const wire = wireOf(built)
        expect(parsePdu(rules, wire)).toEqual(built)
        const redacted = redactPdu(rules, wire)
        expect(isSignedBy(rules, redacted, server, keys)).toBe(true)
        expect(eventIdOf(rules, redacted)).toBe(built.pdu.event_id)
        expect(contentHashMatches(rules, wire)).toBe(true)
        expect(contentHashMatches(rules, { ...wire, content: { ...value, 'm.added': 1 } })).toBe(false)
      }),
      { numRuns: 50 },
    )
  })
})

describe('rooms/v12: the room id is the create event', () => {
  const create = {
    type: 'm.room.create',
    state_key: '',
    content: { room_version: '12' },
    prev_events: [],
    auth_events: [],
  }
  test('the create event has neither room_id nor creator', () => {
    const built = build(v12, create)
    expect(wireOf(built)).not.toHaveProperty('room_id')
    expect(built.pdu.room_id).toBe(`!${built.pdu.event_id.slice(1)}`)
    expect(createEventIdOf(built.pdu.room_id)).toBe(built.pdu.event_id)
    expect(parsePdu(v12, wireOf(built))).toEqual(built)
  })
  test('with a room_id it is not valid', () => {
    expect(parsePdu(v12, { ...wireOf(build(v12, create)), room_id: '!x' })).toHaveProperty('error')
  })
  test('every other event needs one, also a create event with a state key', () => {
    expect(wireOf(build(v12, { ...create, state_key: 'x' }))).toHaveProperty('room_id')
    expect(wireOf(build(v10, create))).toHaveProperty('room_id')
  })
})

describe('client-server-api: size limits', () => {
  const sized = (bytes: number) => {
    const empty = build(v12, { content: { body: '' } })
    const room = bytes - Buffer.byteLength(wireFromParts(empty.envelope, empty.content))
    return { content: { body: 'x'.repeat(room) } }
  }
  test('65536 bytes are an event, one more is none', () => {
    const largest = build(v12, sized(65_536))
    const wire = wireOf(largest)
    expect(parsePdu(v12, wire)).toHaveProperty('pdu')
    expect(parsePdu(v12, { ...wire, origin_server_ts: 10_000_000_000_000 })).toHaveProperty('error')
    expect(() => build(v12, sized(65_537))).toThrow(expect.objectContaining({ errcode: 'M_TOO_LARGE' }))
  })
  test('bytes count, not characters', () => {
    expect(() => build(v12, { content: { body: '🌍'.repeat(20_000) } })).toThrow(
      expect.objectContaining({ errcode: 'M_TOO_LARGE' }),
    )
  })
  test('100 kB', () => {
    expect(() => build(v12, { content: { body: 'x'.repeat(100_000) } })).toThrow(
      expect.objectContaining({ errcode: 'M_TOO_LARGE', status: 413 }),
    )
  })
  test.each([
    ['type', { type: 'x'.repeat(256) }],
    ['state_key', { state_key: 'ä'.repeat(128) }],
  ])('%s of 256 bytes', (_, differences) => {
    expect(() => build(v12, differences)).toThrow(expect.objectContaining({ errcode: 'M_TOO_LARGE' }))
  })
})

describe('rooms/v6 canonical JSON: enforced on what clients send', () => {
  test.each([
    ['a float', { n: 1.5 }],
    ['2^53+1', { n: 2 ** 53 + 2 }],
    ['a lone surrogate', { body: '\udfff' }],
  ])('%s', (_, content) => {
    expect(() => build(v10, { content })).toThrow(expect.objectContaining({ errcode: 'M_BAD_JSON', status: 400 }))
  })
  test('a float in a version 5 room passes', () => {
    expect(build(rulesOf('5')!, { content: { n: 1.5 } }).content).toBe('{"n":1.5}')
  })
})

test('server-server-api: a depth at its limit stays there', () => {
  expect(build(v12, { depth: Number.MAX_SAFE_INTEGER + 1 }).pdu.depth).toBe(Number.MAX_SAFE_INTEGER)
})
