import { describe, expect, test } from 'vitest'
import {
  combinedRequired,
  isRequired,
  required,
  requiredFromObject,
  requiredFromPairs,
  selectionOf,
} from './required-state.ts'

const me = '@me:test'
const other = '@other:test'

describe('MSC4186 RequiredStateRequest', () => {
  test.each([
    {
      pairs: [['m.room.name', '']],
      yes: [['m.room.name', '']],
      no: [
        ['m.room.name', 'x'],
        ['m.room.topic', ''],
      ],
    },
    { pairs: [['m.space.child', '*']], yes: [['m.space.child', '!a']], no: [['m.room.name', '']] },
    {
      pairs: [['*', 'k']],
      yes: [
        ['a', 'k'],
        ['b', 'k'],
      ],
      no: [['a', '']],
    },
    { pairs: [['m.room.member', '$ME']], yes: [['m.room.member', me]], no: [['m.room.member', other]] },
    {
      pairs: [['m.room.member', '$LAZY']],
      yes: [],
      no: [
        ['m.room.member', other],
        ['m.room.name', ''],
      ],
    },
    {
      pairs: [['*', '*']],
      yes: [
        ['a', ''],
        ['m.room.member', other],
      ],
      no: [],
    },
    {
      pairs: [
        ['*', '*'],
        ['m.room.member', '$ME'],
      ],
      yes: [
        ['a', 'x'],
        ['m.room.member', me],
      ],
      no: [['m.room.member', other]],
    },
    {
      pairs: [
        ['*', '*'],
        ['m.room.member', '$LAZY'],
      ],
      yes: [['a', 'x']],
      no: [['m.room.member', other]],
    },
  ] as const)('$pairs', ({ pairs, yes, no }) => {
    const asked = requiredFromPairs(pairs, me)
    for (const [type, key] of yes) expect(isRequired(asked, type, key), `${type} ${key}`).toBe(true)
    for (const [type, key] of no) expect(isRequired(asked, type, key), `${type} ${key}`).toBe(false)
  })

  test.each([
    {
      asked: { include: [{}] },
      yes: [
        ['a', ''],
        ['m.room.member', other],
      ],
      no: [],
      lazy: false,
    },
    { asked: { include: [{}], lazy_members: true }, yes: [['a', '']], no: [['m.room.member', other]], lazy: true },
    {
      asked: { include: [{}, { type: 'm.room.member', state_key: me }], lazy_members: true },
      yes: [['m.room.member', me]],
      no: [['m.room.member', other]],
      lazy: true,
    },
    {
      asked: { include: [{}], exclude: [{ type: 'm.room.create', state_key: '' }] },
      yes: [['a', '']],
      no: [['m.room.create', '']],
      lazy: false,
    },
    { asked: { exclude: [{}] }, yes: [], no: [['a', '']], lazy: false },
    {
      asked: { include: [{ state_key: '' }] },
      yes: [
        ['a', ''],
        ['b', ''],
      ],
      no: [['a', 'x']],
      lazy: false,
    },
  ] as const)('$asked', ({ asked, yes, no, lazy }) => {
    const compiled = requiredFromObject(asked, me)
    for (const [type, key] of yes) expect(isRequired(compiled, type, key), `${type} ${key}`).toBe(true)
    for (const [type, key] of no) expect(isRequired(compiled, type, key), `${type} ${key}`).toBe(false)
    expect(compiled.lazyMembers).toBe(lazy)
  })

  test('the order of what is asked for does not matter, and what was stored says the same', () => {
    const one = requiredFromPairs(
      [
        ['a', ''],
        ['b', '*'],
        ['m.room.member', '$LAZY'],
      ],
      me,
    )
    const two = requiredFromPairs(
      [
        ['m.room.member', '$LAZY'],
        ['b', '*'],
        ['a', ''],
        ['a', ''],
      ],
      me,
    )
    expect(one.text).toBe(two.text)
    expect(required(JSON.parse(one.text))).toEqual(one)
  })
})

describe('MSC4186 Combining room configs', () => {
  test('the superset of all; members are lazy unless one asks for all of them', () => {
    const lazy = requiredFromPairs(
      [
        ['m.room.member', '$LAZY'],
        ['m.room.name', ''],
      ],
      me,
    )
    const topic = requiredFromPairs([['m.room.topic', '']], me)
    const both = combinedRequired([lazy, topic])
    expect([both.lazyMembers, isRequired(both, 'm.room.name', ''), isRequired(both, 'm.room.topic', '')]).toEqual([
      true,
      true,
      true,
    ])
    const everything = combinedRequired([lazy, requiredFromPairs([['*', '*']], me)])
    expect([everything.lazyMembers, everything.allMembers]).toEqual([false, true])
    expect(combinedRequired([lazy, lazy])).toBe(lazy)
    expect(combinedRequired([lazy, requiredFromPairs([['m.room.member', '*']], me)]).lazyMembers).toBe(false)
  })
  test('what is read holds what is asked for', () => {
    const asked = requiredFromPairs(
      [
        ['*', '*'],
        ['m.room.member', '$LAZY'],
        ['m.room.member', '$ME'],
      ],
      me,
    )
    expect(selectionOf(asked)).toEqual({
      pairs: [{ type: 'm.room.member', state_key: me }],
      types: [],
      keys: [],
      rest: true,
      members: false,
    })
  })
})
