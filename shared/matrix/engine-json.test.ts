import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { hasEscapedKey, parseText, readText } from './engine-json.ts'
import { parseJsonLossless } from './lossless-json.ts'
import { parseJson } from './parse-json.ts'

describe('appendices/#canonical-json: keys are read as they are written', () => {
  test.each([
    ['{"engine-a":1,"\\\\":2}', '{"engine-a":1,"\\n":2}', '\n'],
    ['{"engine-b":1,"\\\\":2}', '{"engine-b":1,"\\u001f" : 2.50}', '\u001f'],
    ['{"engine-c":1,"\\\\u00":2}', '{"engine-c":1,"\\u0074ype":2}', 'type'],
  ])('whatever was read before: %s, then %s', (before, text, key) => {
    for (const parse of [parseText, parseJson, parseJsonLossless]) {
      parse(before)
      expect(Object.keys(parse(text) as object)[1]).toBe(key)
    }
  })

  test.each([
    ['{"a":"\\n"}', false],
    ['{"a":"\\":","b":1}', false],
    ['["\\"", {"b\\\\" \t\r\n: 1}]', true],
    ['{"a":"\\\\","\\"":1}', true],
    ['{"a\\', false],
  ])('whether %s has an escape in a key', (text, has) => {
    expect(hasEscapedKey(text)).toBe(has)
  })

  test('reads what was written', () =>
    fc.assert(
      fc.property(fc.json({ maxDepth: 5 }), fc.constantFrom(undefined, 1, '\t'), (json, indent) => {
        const value: unknown = JSON.parse(json)
        const text = JSON.stringify(value, null, indent)
        expect(JSON.stringify(readText(text, Number))).toBe(JSON.stringify(value))
      }),
    ))

  test('__proto__ is a key, of two the last counts, and what is no JSON is refused', () => {
    expect(Object.keys(parseText('{"__proto__":{"\\n":1}}') as object)).toEqual(['__proto__'])
    expect(parseText('{"\\n":1,"b":[ ],"\\n":{ }}')).toEqual({ '\n': {}, b: [] })
    expect(parseText('{"\\n":[true,null,-1.5e1,[[]]]}')).toEqual({ '\n': [true, null, -15, [[]]] })
    expect(() => parseText('{"\\n":1,}')).toThrow(SyntaxError)
  })

  test('numbers beside such keys keep their text', () => {
    expect(JSON.stringify(parseJsonLossless('{"\\"":[50.0,9007199254740993,1]}'))).toBe(
      '{"\\"":[50.0,9007199254740993,1]}',
    )
  })
})
