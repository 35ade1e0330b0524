import { describe, expect, test } from 'vitest'
import { parseJson, parseJsonObject } from './parse-json.ts'

const nested = (levels: number) => '['.repeat(levels) + ']'.repeat(levels)

describe('client-server-api: standard error response', () => {
  test.each(['', '{', "{'a':1}", 'undefined', '{"a":1,}', 'NaN', '\u{feff}{}x'])('%j is no JSON', (text) => {
    expect(() => parseJson(text)).toThrow(expect.objectContaining({ errcode: 'M_NOT_JSON' }))
  })

  test.each(['[]', '"text"', 'null', '1'])('%s is no object', (text) => {
    expect(() => parseJsonObject(text)).toThrow(expect.objectContaining({ errcode: 'M_BAD_JSON' }))
  })

  test('of a key given twice the last value counts', () => {
    expect(parseJson('{"a":1,"a":2}')).toEqual({ a: 2 })
  })

  test('U+0000 and __proto__ are text', () => {
    expect(parseJson('"\\u0000"')).toBe('\0')
    expect(Object.keys(parseJsonObject('{"__proto__":{"admin":true}}'))).toEqual(['__proto__'])
  })

  test.each([
    '{"a":1e400}',
    '[-1E+999]',
    `[1${'0'.repeat(400)}]`,
    '["\\ud800"]',
    '{"\\uDFFF":1}',
    '["\\ude00\\ud83d"]',
  ])('what would not come back the same is refused: %s', (text) => {
    expect(() => parseJson(text)).toThrow(expect.objectContaining({ errcode: 'M_BAD_JSON' }))
  })

  test.each(['{"a":1e30}', '[0e999]', '[1E-400]', '["\\ud83d\\ude00"]', '["1e400"]', '["\\\\ud800"]'])(
    '%s is fine',
    (text) => {
      expect(parseJson(text)).toEqual(JSON.parse(text))
    },
  )

  test('nesting is bounded', () => {
    expect(parseJson(nested(1000))).toBeInstanceOf(Array)
    expect(() => parseJson(nested(1001))).toThrow(expect.objectContaining({ errcode: 'M_BAD_JSON' }))
    expect(() => parseJson(nested(1_000_000))).toThrow(expect.objectContaining({ errcode: 'M_BAD_JSON' }))
  })

  test.each([`"${'['.repeat(2000)}"`, `["\\\\","${'[\\"'.repeat(2000)}"]`, `[${Array(2000).fill('[]')}]`])(
    'brackets in strings and beside each other are not nesting',
    (text) => {
      expect(parseJson(text)).toEqual(JSON.parse(text))
    },
  )
})
