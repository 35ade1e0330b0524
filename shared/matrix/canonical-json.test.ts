import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { CanonicalJsonError, canonicalJson, canonicalJsonLoose, compareCodePoints } from './canonical-json.ts'
import type { JsonValue } from './json-value.ts'

describe('appendices: canonical JSON', () => {
  test.each([
    ['{}', '{}'],
    ['{"one":1,"two":"Two"}', '{"one":1,"two":"Two"}'],
    ['{"b":"2","a":"1"}', '{"a":"1","b":"2"}'],
    [
      `{"auth":{"success":true,"mxid":"@john.doe:example.com","profile":{"display_name":"John Doe","three_pids":[
        {"medium":"email","address":"john.doe@example.org"},{"medium":"msisdn","address":"123456789"}]}}}`,
      '{"auth":{"mxid":"@john.doe:example.com","profile":{"display_name":"John Doe","three_pids":[{"address":"john.doe@example.org","medium":"email"},{"address":"123456789","medium":"msisdn"}]},"success":true}}',
    ],
    ['{"a":"日本語"}', '{"a":"日本語"}'],
    ['{"本":2,"日":1}', '{"日":1,"本":2}'],
    ['{"a":"\\u65E5"}', '{"a":"日"}'],
    ['{"a":null}', '{"a":null}'],
    ['{"a":-0,"b":1e10}', '{"a":0,"b":10000000000}'],
    // Escapes: the short ones where there are some, \u00xx for other control characters, everything else as it is.
    ['"\\u0000\\u001F\\b\\t\\n\\f\\r\\"\\\\\\/\\u007f\\u2028"', '"\\u0000\\u001f\\b\\t\\n\\f\\r\\"\\\\/\u007f\u2028"'],
    ['[9007199254740991,-9007199254740991]', '[9007199254740991,-9007199254740991]'],
    // Keys that look like numbers, and `__proto__`, are keys like any other.
    ['{"b":1,"10":2,"9":3,"__proto__":4}', '{"10":2,"9":3,"__proto__":4,"b":1}'],
    // By code point U+FF61 comes before U+1F600; by UTF-16 unit it would be after.
    ['{"😀":1,"｡":2}', '{"｡":2,"😀":1}'],
  ])('%s', (text, canonical) => {
    expect(canonicalJson(JSON.parse(text))).toBe(canonical)
  })

  test.each<[string, JsonValue]>([
    ['a float', { a: 1.5 }],
    ['2^53', [2 ** 53]],
    ['-2^53', { a: [{ b: -(2 ** 53) }] }],
    ['a lone surrogate', 'x\ud800'],
    ['a lone surrogate in a key', { '\udc00': 1 }],
    ['infinity, which is how 1e999 parses', JSON.parse('1e999')],
  ])('%s has no encoding', (_, value) => {
    expect(() => canonicalJson(value)).toThrow(CanonicalJsonError)
  })

  test('nesting is bounded, in order or not', () => {
    const nested = (levels: number) => JSON.parse(`${'{"b":1,"a":'.repeat(levels)}0${'}'.repeat(levels)}`)
    expect(() => canonicalJson(nested(1000))).not.toThrow()
    expect(() => canonicalJson(nested(1001))).toThrow(CanonicalJsonError)
  })

  test('rooms/v1 canonical JSON: numbers of any kind pass, surrogates do not', () => {
    expect(canonicalJsonLoose({ b: 1.5, a: 2 ** 53 })).toBe('{"a":9007199254740992,"b":1.5}')
    expect(() => canonicalJsonLoose('\ud800')).toThrow(CanonicalJsonError)
  })
})

const strings = fc.string({ unit: 'binary' })
const json = fc.letrec<{ value: JsonValue }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 4 },
    fc.constant(null),
    fc.boolean(),
    fc.maxSafeInteger(),
    strings,
    fc.array(tie('value'), { maxLength: 4 }),
    fc.dictionary(strings, tie('value'), { maxKeys: 5 }),
  ),
})).value

describe('appendices: canonical JSON, properties', () => {
  test('parsing and printing again changes nothing', () => {
    fc.assert(
      fc.property(json, (value) => {
        const text = canonicalJson(value)
        expect(canonicalJson(JSON.parse(text))).toBe(text)
        expect(JSON.parse(text)).toEqual(JSON.parse(JSON.stringify(value)))
      }),
    )
  })

  test('the order of keys does not matter', () => {
    const reversed = (value: JsonValue): JsonValue => {
      if (Array.isArray(value)) return value.map(reversed)
      if (typeof value !== 'object' || value === null) return value
      return Object.fromEntries(
        Object.entries(value)
          .toReversed()
          .map(([key, entry]) => [key, reversed(entry)]),
      )
    }
    fc.assert(
      fc.property(json, (value) => {
        expect(canonicalJson(reversed(value))).toBe(canonicalJson(value))
      }),
    )
  })

  test('keys compare as their UTF-8 does', () => {
    fc.assert(
      fc.property(strings, strings, (a, b) => {
        expect(Math.sign(compareCodePoints(a, b))).toBe(Math.sign(Buffer.compare(Buffer.from(a), Buffer.from(b))))
      }),
    )
  })
})
