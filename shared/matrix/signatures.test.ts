import { describe, expect, test } from 'vitest'
import { rulesOf } from '../core/room-versions.ts'
import { decodeBase64, encodeBase64, encodeBase64Url } from './base64.ts'
import { hashAndSignEvent, isSignedBy, requiredSigners, signEvent } from './event-signing.ts'
import { contentHashMatches } from './hashes.ts'
import type { JsonObject } from './json-value.ts'
import { redactPdu } from './redaction.ts'
import {
  generateSigningKey,
  parseSigningKeyFile,
  serialiseSigningKey,
  signingKeyFromSeed,
  signJson,
  verifyJson,
  verifyKeyFromBase64,
} from './signatures.ts'

const seed = 'YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1'
const key = signingKeyFromSeed('1', decodeBase64(seed)!)!
const lookup = (keyId: string) => (keyId === key.keyId ? verifyKeyFromBase64(key.publicKeyBase64) : undefined)
const v1 = rulesOf('1')!
const v12 = rulesOf('12')!

describe('appendices: unpadded base64', () => {
  test.each([
    ['', ''],
    ['f', 'Zg'],
    ['fo', 'Zm8'],
    ['foo', 'Zm9v'],
    ['foob', 'Zm9vYg'],
    ['fooba', 'Zm9vYmE'],
    ['foobar', 'Zm9vYmFy'],
  ])('%j', (text, encoded) => {
    expect(encodeBase64(Buffer.from(text))).toBe(encoded)
    expect(decodeBase64(encoded)?.toString()).toBe(text)
  })

  test('both alphabets are read, with and without padding; anything else is not', () => {
    const bytes = Buffer.from([0xfb, 0xff])
    expect([encodeBase64(bytes), encodeBase64Url(bytes)]).toEqual(['+/8', '-_8'])
    expect(decodeBase64('+/8=')).toEqual(bytes)
    expect(decodeBase64('-_8')).toEqual(bytes)
    for (const text of ['Z', 'Zg!', 'Z g', 'ключ']) expect(decodeBase64(text)).toBeUndefined()
  })
})

describe('appendices: cryptographic test vectors, JSON signing', () => {
  test.each<[JsonObject, string]>([
    [{}, 'K8280/U9SSy9IVtjBuVeLr+HpOB4BQFWbg+UZaADMtTdGYI7Geitb76LTrr5QV/7Xg4ahLwYGYZzuHGZKM5ZAQ'],
    [{ one: 1, two: 'Two' }, 'KqmLSbO39/Bzb0QIYE82zqLwsA+PDzYIpIRA2sRQ4sL53+sN6/fpNSoqE7BP7vBZhG6kYdD13EIMJpvhJI+6Bw'],
  ])('%j', (object, signature) => {
    const signed = signJson(object, 'domain', key)
    expect(signed).toEqual({ ...object, signatures: { domain: { 'ed25519:1': signature } } })
    expect(verifyJson(signed, 'domain', lookup)).toBe(true)
    expect(verifyJson({ ...signed, unsigned: { age: 1 } }, 'domain', lookup)).toBe(true)
  })
})

describe('appendices: checking for a signature', () => {
  const signed = signJson({ one: 1 }, 'domain', key)
  const withSignatures = (signatures: JsonObject) => ({ one: 1, signatures: { domain: signatures } })
  const good = (signed.signatures as { domain: { 'ed25519:1': string } }).domain['ed25519:1']
  test.each<[string, JsonObject]>([
    ['changed', { ...signed, one: 2 }],
    ['no signatures', { one: 1 }],
    ['signatures is no object', { one: 1, signatures: [] }],
    ['of another server', signJson({ one: 1 }, 'other', key)],
    ['by an unknown key', signJson({ one: 1 }, 'domain', generateSigningKey('2'))],
    ['of an unknown algorithm', withSignatures({ 'rsa:1': good })],
    ['no base64', withSignatures({ 'ed25519:1': '!' })],
    ['too short', withSignatures({ 'ed25519:1': good.slice(0, 40) })],
    ['a number', withSignatures({ 'ed25519:1': 1 })],
    ['over what has no encoding', { ...signed, text: '\ud800' }],
  ])('%s: fails', (_, object) => {
    expect(verifyJson(object, 'domain', lookup)).toBe(false)
  })

  test('signatures by unknown keys are skipped beside one that holds', () => {
    expect(verifyJson(signJson(signed, 'domain', generateSigningKey('2')), 'domain', lookup)).toBe(true)
  })
})

describe('appendices: cryptographic test vectors, event signing', () => {
  const minimal: JsonObject = {
    room_id: '!x:domain',
    sender: '@a:domain',
    origin: 'domain',
    origin_server_ts: 1000000,
    signatures: {},
    hashes: {},
    type: 'X',
    content: {},
    prev_events: [],
    auth_events: [],
    depth: 3,
    unsigned: { age_ts: 1000000 },
  }
  const redactable: JsonObject = {
    content: { body: 'Here is the message content' },
    event_id: '$0:domain',
    origin: 'domain',
    origin_server_ts: 1000000,
    type: 'm.room.message',
    room_id: '!r:domain',
    sender: '@u:domain',
    signatures: {},
    unsigned: { age_ts: 1000000 },
  }
  test.each([
    [
      minimal,
      '5jM4wQpv6lnBo7CLIghJuHdW+s2CMBJPUOGOC89ncos',
      'KxwGjPSDEtvnFgU00fwFz+l6d2pJM6XBIaMEn81SXPTRl16AqLAYqfIReFGZlHi5KLjAWbOoMszkwsQma+lYAg',
    ],
    [
      redactable,
      'onLKD1bGljeBWQhWZ1kaP9SorVmRQNdN5aM2JYU2n/g',
      'Wm+VzmOUOz08Ds+0NTWb1d4CZrVsJSikkeRxh6aCcUwu6pNC78FunoD7KNWzqFn241eYHYMGCA5McEiVPdhzBA',
    ],
  ])('%j', (event, sha256, signature) => {
    const signed = hashAndSignEvent(v1, event, 'domain', key)
    expect(signed).toEqual({ ...event, hashes: { sha256 }, signatures: { domain: { 'ed25519:1': signature } } })
    expect(contentHashMatches(v1, signed)).toBe(true)
    expect(isSignedBy(v1, signed, 'domain', lookup)).toBe(true)
    expect(isSignedBy(v1, redactPdu(v1, signed), 'domain', lookup)).toBe(true)
    expect(contentHashMatches(v1, { ...signed, content: { body: 'forged' } })).toBe(false)
    expect(isSignedBy(v1, { ...signed, sender: '@b:domain' }, 'domain', lookup)).toBe(false)
  })

  test('a second server signs beside the first', () => {
    const other = generateSigningKey('x')
    const both = signEvent(v1, hashAndSignEvent(v1, minimal, 'domain', key), 'other', other)
    expect(isSignedBy(v1, both, 'domain', lookup)).toBe(true)
    expect(isSignedBy(v1, both, 'other', () => verifyKeyFromBase64(other.publicKeyBase64))).toBe(true)
  })
})

describe('server-server-api: validating hashes and signatures on received events', () => {
  const event: JsonObject = { type: 'm.room.message', sender: '@a:one', event_id: '$x:two', content: {} }
  const invite: JsonObject = {
    type: 'm.room.member',
    sender: '@a:one',
    content: { membership: 'invite', third_party_invite: {} },
  }
  test.each([
    ['rooms/v1: sender and event id', v1, event, ['one', 'two']],
    ['rooms/v12: the sender alone', v12, event, ['one']],
    ['a third-party invite is signed by whoever sends it', v12, invite, []],
  ])('%s', (_, rules, wire, servers) => {
    expect(requiredSigners(rules, wire)).toEqual(servers)
  })
})

describe('signing key files', () => {
  test('one key a line, as Synapse writes them', () => {
    const fresh = generateSigningKey()
    const [a, b] = parseSigningKeyFile(`ed25519 1 ${seed}\n\n${serialiseSigningKey(fresh)}`)
    expect(a).toMatchObject({ keyId: 'ed25519:1', publicKeyBase64: key.publicKeyBase64 })
    expect(b).toMatchObject({ keyId: fresh.keyId, publicKeyBase64: fresh.publicKeyBase64 })
    // The last digit differs: of the seed's 258 bits in base64 two are spare.
    expect(serialiseSigningKey(a!)).toBe(`ed25519 1 ${seed.replace(/1$/, '0')}\n`)
  })
  test.each(['rsa 1 AAAA', 'ed25519 1', 'ed25519 1 AAAA', `ed25519 1 ${seed} x`])('%s is refused', (line) => {
    expect(() => parseSigningKeyFile(line)).toThrow()
  })
})
