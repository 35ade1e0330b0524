import { describe, expect, test } from 'vitest'
import { parsePropertyPath, propertyAt } from './property-path.ts'

describe('appendices/#dot-separated-property-paths', () => {
  test.each([
    ['content', ['content']],
    ['content.body', ['content', 'body']],
    ['content.m\\.relates_to', ['content', 'm.relates_to']],
    ['m\\\\foo', ['m\\foo']],
    ['m\\\\.foo', ['m\\', 'foo']],
    ['m\\x', ['m\\x']],
    ['m\\', ['m\\']],
    ['a..b', ['a', '', 'b']],
    ['', ['']],
  ])('%j', (path, keys) => expect(parsePropertyPath(path)).toEqual(keys))

  test.each([
    [['a', 'b'], 1],
    [['a'], { b: 1 }],
    [['a', 'b', 'c'], undefined],
    [['toString'], undefined],
    [['list', '0'], undefined],
    [[], { a: { b: 1 }, list: [1] }],
  ])('%j', (keys, value) => expect(propertyAt({ a: { b: 1 }, list: [1] }, keys)).toEqual(value))
})
