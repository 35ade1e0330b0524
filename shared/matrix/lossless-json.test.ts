import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { rulesOf } from '../core/room-versions.ts'
import { CanonicalJsonError, canonicalJson, canonicalJsonLoose } from './canonical-json.ts'
import { parsePdu, wireFromParts } from './event-format.ts'
import type { JsonObject } from './json-value.ts'
import { parseJsonLossless, withPlainNumbers } from './lossless-json.ts'

describe('appendices: canonical JSON, room versions 1 to 5', () => {
  test.each([
    ['1', '1'],
    ['-0', '0'],
    ['9007199254740993', '9007199254740993'],
    ['-123456789012345678901234567890', '-123456789012345678901234567890'],
    ['1000000000000000000000', '1000000000000000000000'],
    ['50.0', '50.0'],
    ['50.57', '50.57'],
    ['-0.0', '-0.0'],
    ['0.0', '0.0'],
    ['1e3', '1000.0'],
    ['5.114698E4', '51146.98'],
    ['0.0001', '0.0001'],
    ['0.00001', '1e-05'],
    ['0.00012345', '0.00012345'],
    ['0.000012345', '1.2345e-05'],
    ['1e15', '1000000000000000.0'],
    ['1e16', '1e+16'],
    ['123456789012345680000.0', '1.2345678901234568e+20'],
    ['1.5e300', '1.5e+300'],
    ['2.5e-7', '2.5e-07'],
  ])('%s is printed %s', (text, printed) => {
    expect(canonicalJsonLoose(parseJsonLossless(`{"b":[${text}],"a":"x"}`))).toBe(`{"a":"x","b":[${printed}]}`)
    expect(canonicalJsonLoose(parseJsonLossless(`{"a":${text}}`))).toBe(`{"a":${printed}}`)
  })

  test('numbers beyond a double, and floats where canonical JSON is enforced, are refused', () => {
    expect(() => parseJsonLossless('[1e999]')).toThrow(expect.objectContaining({ errcode: 'M_BAD_JSON' }))
    expect(() => canonicalJson(parseJsonLossless('[1.0]'))).toThrow(CanonicalJsonError)
    expect(() => canonicalJson(parseJsonLossless('[9007199254740993]'))).toThrow(CanonicalJsonError)
  })

  test('an object that looks like a raw number is an object', () => {
    expect(canonicalJson(parseJsonLossless('{"b":{"rawJSON":"1"},"a":1}'))).toBe('{"a":1,"b":{"rawJSON":"1"}}')
  })

  test('floats keep their value', () => {
    fc.assert(
      fc.property(fc.double({ noNaN: true, noDefaultInfinity: true }), (value) => {
        const text = Object.is(value, -0) ? '-0.0' : value.toExponential()
        const once = canonicalJsonLoose(parseJsonLossless(`[${text}]`))
        expect(JSON.parse(once)).toEqual([value])
        expect(canonicalJsonLoose(parseJsonLossless(once))).toBe(once)
        expect(withPlainNumbers(parseJsonLossless(`[${text}]`))).toEqual([value])
      }),
    )
  })

  test('an event keeps their text in storage and on the wire, the core sees plain numbers', () => {
    const text = `{"auth_events":[],"content":{"users":{"@a:b":50.0}},"depth":9223372036854775807,"hashes":{},
      "origin_server_ts":1,"prev_events":[],"room_id":"!r:b","sender":"@a:b","signatures":{},"state_key":"",
      "type":"m.room.power_levels"}`
    const rules = rulesOf('4')!
    const parsed = parsePdu(rules, parseJsonLossless(text))
    if ('error' in parsed) throw new Error(parsed.error)
    expect(parsed.pdu).toMatchObject({ content: { users: { '@a:b': 50 } }, depth: Number.MAX_SAFE_INTEGER })
    const wire = wireFromParts(parsed.envelope, parsed.content)
    expect(wire).toContain('{"users":{"@a:b":50.0}}')
    expect(wire).toContain('"depth":9223372036854775807')
    const plain = parsePdu(rules, JSON.parse(text) as JsonObject)
    expect(plain).not.toMatchObject({ pdu: { event_id: parsed.pdu.event_id } })
    expect(parsePdu(rulesOf('6')!, parseJsonLossless(text))).toHaveProperty('error')
  })
})
