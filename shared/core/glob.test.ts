import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { compileGlob, includesWords } from './glob.ts'

describe('appendices: glob-style matching', () => {
  test.each([
    ['lunc?*', 'lunch plans', true],
    ['lunc?*', 'lunch', true],
    ['lunc?*', ' lunch', false],
    ['lunc?*', 'lunc', false],
    ['*', '', true],
    ['', '', true],
    ['', 'a', false],
    ['a*b*c', 'abc', true],
    ['a*b*c', 'acb', false],
    ['*.example', 'a.example', true],
    ['a?c', 'a💥c', true],
    ['a?', 'a💥c', false],
    ['a.c', 'abc', false],
    ['*aa', 'aaa', true],
    ['a*a', 'a', false],
  ])('%j against %j: %j', (pattern, text, expected) => expect(compileGlob(pattern).matches(text)).toBe(expected))

  test.each([
    ['ex*ple', 'an example event.', true],
    ['ex*ple', 'exple', true],
    ['ex*ple', 'an exciting triple-whammy', true],
    ['ex*ple', 'an examplex', false],
    ['cake', 'no cakes here', false],
    ['cake', 'cake', true],
    ['cake', 'a pan_cake', false],
    ['cake', 'cup-cake!', true],
    ['@room', 'hello @room', true],
    ['@room', 'hello @rooms', false],
    ['c?ke', 'a coke', true],
    ['c?ke', 'acoke', false],
    ['*cake', 'pancake', true],
    ['cake*', 'pancake', false],
    ['алиса', 'привет, алиса', true],
    ['', 'anything', false],
  ])('%j in the words of %j: %j', (pattern, text, expected) =>
    expect(compileGlob(pattern).matchesWords(text)).toBe(expected),
  )

  const text = fc.string({ unit: fc.constantFrom('a', 'b', ' ', '-', '_', 'é'), maxLength: 12 })
  const pattern = fc.string({ unit: fc.constantFrom('a', 'b', ' ', '-', '*', '?'), maxLength: 6 })
  const source = (glob: string) =>
    [...glob].map((c) => (c === '*' ? '[^]*' : c === '?' ? '[^]' : `\\u{${c.codePointAt(0)?.toString(16)}}`)).join('')

  test('agrees with a regular expression', () =>
    fc.assert(
      fc.property(pattern, text, (glob, subject) => {
        expect(compileGlob(glob).matches(subject)).toBe(new RegExp(`^${source(glob)}$`, 'u').test(subject))
      }),
      { numRuns: 3000 },
    ))

  test('agrees with a regular expression on words', () =>
    fc.assert(
      fc.property(pattern, text, (glob, subject) => {
        fc.pre(glob !== '')
        const start = '(?:(?<![A-Za-z0-9_])|(?![A-Za-z0-9_]))'
        const words = new RegExp(`${start}${source(glob)}${start}`, 'u')
        expect(compileGlob(glob).matchesWords(subject)).toBe(words.test(subject))
        if (!/[*?]/.test(glob)) expect(includesWords(subject, glob)).toBe(words.test(subject))
      }),
      { numRuns: 3000 },
    ))

  test('no pattern is slow', () => {
    const glob = compileGlob(`${'a*'.repeat(50)}b`)
    const started = performance.now()
    for (let i = 0; i < 20; i++) expect(glob.matchesWords('a'.repeat(60_000))).toBe(false)
    expect(performance.now() - started).toBeLessThan(2_000)
  })
})

test('a pattern that is made to be slow gives up', () => {
  const text = 'a'.repeat(60_000)
  const slow = ['a?'.repeat(500), `*${'a?'.repeat(500)}b*`, `${'?'.repeat(1000)}b`, `*${'a'.repeat(500)}?b`]
  const globs = slow.map((pattern) => compileGlob(pattern))
  const began = performance.now()
  for (const glob of globs) for (let i = 0; i < 10; i++) glob.matchesWords(`${text}c`)
  for (const glob of globs) for (let i = 0; i < 10; i++) glob.matches(`${text}c`)
  // Without the bound it is a minute.
  expect(performance.now() - began).toBeLessThan(5_000)
})
