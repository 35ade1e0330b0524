import { describe, expect, test } from 'vitest'
import { alice, bob, carol, levelsPdu, roomState } from '../../test/support/auth-room.ts'
import type { JsonObject } from '../matrix/json-value.ts'
import { checkAuth } from './auth-rules.ts'
import { levelFrom, notificationLevel, powerLevelOf } from './power-levels.ts'
import { type RoomRules, type RuleName, roomRules, rulesOf } from './room-versions.ts'

const versions = Object.values(roomRules)
const v12 = rulesOf('12')!
const allowed = { allowed: true }

/** Bob has 50 and sends the new levels; Carol has 50 too. */
const base = { state_default: 50, users: { [bob]: 50, [carol]: 50 }, events: { 'm.low': 20, 'm.high': 60 } }
const check = (rules: RoomRules, before: JsonObject | undefined, after: JsonObject, sender: string = bob) =>
  checkAuth(
    rules,
    levelsPdu(rules, after, sender),
    roomState(rules, {
      create: { additional_creators: ['@extra:one'] },
      members: { [alice]: 'join', [bob]: 'join' },
      ...(before === undefined ? {} : { levels: before }),
    }),
  )

describe.each(versions)('rooms/v$version m.room.power_levels: changes', (rules) => {
  const is = (name: RuleName, step = '') => {
    const number = rules.ruleNumbers[name]
    return { allowed: false, rule: step === '' ? number : `${number}.${step}`, reason: expect.any(String) }
  }
  test.each<[string, JsonObject, JsonObject, RuleName | undefined, string?]>([
    ['nothing', {}, {}, undefined],
    ['a default up to the own level', {}, { events_default: 50 }, undefined],
    ['one step above it', {}, { events_default: 51 }, 'levelsProperties', '2'],
    ['a default that is above', { ban: 51 }, { ban: 50 }, 'levelsProperties', '1'],
    ['removing one that is above', { ban: 51 }, { ban: undefined as never }, 'levelsProperties', '1'],
    ['removing one at the own level', { ban: 50 }, { ban: undefined as never }, undefined],
    ['one that is above and stays', { ban: 51 }, { ban: 51 }, undefined],
    ['an entry of events up to the own level', {}, { events: { ...base.events, 'm.low': 50 } }, undefined],
    ['above it', {}, { events: { ...base.events, 'm.low': 51 } }, 'levelsEntriesAfter', '1'],
    ['an entry that is above', {}, { events: { ...base.events, 'm.high': 50 } }, 'levelsEntriesBefore', '1'],
    ['removing an entry that is above', {}, { events: { 'm.low': 20 } }, 'levelsEntriesBefore', '1'],
    ['removing an entry below', {}, { events: { 'm.high': 60 } }, undefined],
    ['adding an entry above', {}, { events: { ...base.events, 'm.new': 51 } }, 'levelsEntriesAfter', '1'],
    ['adding a user at the own level', {}, { users: { ...base.users, '@new:one': 50 } }, undefined],
    ['adding one above', {}, { users: { ...base.users, '@new:one': 51 } }, 'levelsUsersAfter', '1'],
    ['raising oneself', {}, { users: { ...base.users, [bob]: 51 } }, 'levelsUsersAfter', '1'],
    ['lowering oneself', {}, { users: { ...base.users, [bob]: 0 } }, undefined],
    ['removing oneself', {}, { users: { [carol]: 50 } }, undefined],
    ['lowering an equal', {}, { users: { ...base.users, [carol]: 49 } }, 'levelsUsersBefore', '1'],
    ['removing an equal', {}, { users: { [bob]: 50 } }, 'levelsUsersBefore', '1'],
    ['an equal that stays', {}, { users: { ...base.users }, kick: 1 }, undefined],
  ])('%s', (_, before, after, rule, step) => {
    const verdict = check(rules, { ...base, ...before }, { ...base, ...after })
    expect(verdict).toEqual(rule === undefined ? allowed : is(rule, step))
  })

  test('lowering one who is one step below', () => {
    const users = { [bob]: 50, [carol]: 49 }
    expect(check(rules, { ...base, users }, { ...base, users: { [bob]: 50, [carol]: 0 } })).toEqual(allowed)
  })

  test('notifications are checked from version 6 on', () => {
    const raised = check(rules, base, { ...base, notifications: { room: 51 } })
    const lowered = check(rules, { ...base, notifications: { room: 51 } }, { ...base, notifications: { room: 50 } })
    if (!rules.checksNotificationLevels) return expect([raised, lowered]).toEqual([allowed, allowed])
    expect(raised).toEqual(is('levelsEntriesAfter', '1'))
    expect(lowered).toEqual(is('levelsEntriesBefore', '1'))
  })

  test('the first power levels of a room may say anything', () => {
    expect(check(rules, undefined, { users: { [bob]: 1000 }, ban: 1000 }, alice)).toEqual(allowed)
  })

  test.each<[string, JsonObject[string]]>([
    ['an array', []],
    ['a string', 'x'],
    ['null', null],
    ['a key that is no user id', { bob: 50 }],
    ['a level that is true', { [bob]: true }],
    ['a level that is null', { [bob]: null }],
    ['a level that is a word', { [bob]: 'fifty' }],
    ['a level that is an object', { [bob]: {} }],
  ])('users is %s: rejected', (_, users) => {
    expect(check(rules, base, { ...base, users }, bob)).toEqual(is('levelsUsers'))
  })

  test('users may be absent', () => {
    expect(check(rules, { users_default: 50, users: { [bob]: 50 } }, { users_default: 50 })).toEqual(allowed)
  })

  test.each<[string, JsonObject, RuleName]>([
    ['a string', { ban: '50' }, 'levelsIntegers'],
    ['null', { users_default: null }, 'levelsIntegers'],
    ['a fraction', { kick: 1.5 }, 'levelsIntegers'],
    ['events is an array', { events: [] }, 'levelsMaps'],
    ['events holds a string', { events: { ...base.events, 'm.low': '20' } }, 'levelsMaps'],
    ['notifications holds a string', { notifications: { room: '20' } }, 'levelsMaps'],
    ['users holds a string', { users: { ...base.users, [bob]: '50' } }, 'levelsUsers'],
  ])('levels must be integers from version 10 on: %s', (_, after, rule) => {
    const verdict = check(rules, base, { ...base, ...after })
    if (rules.integerPowerLevels) return expect(verdict).toEqual(is(rule))
    const isUnreadable = after.users_default === null || Array.isArray(after.events)
    const isFloat = after.kick === 1.5 && !rules.floatPowerLevels
    expect(verdict.allowed).toBe(!(isUnreadable || isFloat))
  })

  test.each<[string, JsonObject]>([
    ['a property that is a word', { ban: 'x' }],
    ['an entry that is null', { events: { ...base.events, 'm.low': null } }],
    ['an entry that is true', { events: { ...base.events, 'm.low': true } }],
  ])('a level that cannot be read, after others that could: %s', (_, after) => {
    expect(check(rules, base, { ...base, ...after }).allowed).toBe(false)
    if (!rules.integerPowerLevels) expect(check(rules, undefined, after, alice)).toEqual(allowed)
  })

  test('levels under another state key are compared with none', () => {
    const state = roomState(rules, { members: { [bob]: 'join' }, levels: base })
    const levels = { ...levelsPdu(rules, { users: { [bob]: 100 } }, bob), state_key: 'other' }
    expect(checkAuth(rules, levels, state)).toEqual(allowed)
  })

  test.each([alice, '@extra:one'])('creators have no level of their own in version 12: %s', (creator) => {
    const users = { ...base.users, [creator]: 50 }
    expect(check(rules, base, { ...base, users })).toEqual(rules === v12 ? is('levelsCreators') : allowed)
  })
})

describe('rooms/v12: no power levels bind a creator', () => {
  test('a creator takes away what is above everybody', () => {
    const before = { ...base, ban: 1e15, users: { [bob]: Number.MAX_SAFE_INTEGER } }
    expect(check(v12, before, {}, alice)).toEqual(allowed)
    expect(powerLevelOf(v12, roomState(v12, { levels: before }), alice)).toBe(Number.POSITIVE_INFINITY)
  })
})

describe('rooms: how a level may be written', () => {
  const [v1, v6, v10] = [rulesOf('1')!, rulesOf('6')!, rulesOf('10')!]
  test.each<[JsonObject[string], number | undefined, number | undefined, number | undefined]>([
    [50, 50, 50, 50],
    [-1, -1, -1, -1],
    ['50', 50, 50, undefined],
    [' 00100 ', 100, 100, undefined],
    [' +100 ', 100, 100, undefined],
    ['-100', -100, -100, undefined],
    ['1.5', undefined, undefined, undefined],
    ['', undefined, undefined, undefined],
    ['+-1', undefined, undefined, undefined],
    ['1 0', undefined, undefined, undefined],
    ['1e3', undefined, undefined, undefined],
    [50.57, 50, undefined, undefined],
    [-50.57, -50, undefined, undefined],
    [true, undefined, undefined, undefined],
    [null, undefined, undefined, undefined],
    [[50], undefined, undefined, undefined],
  ])('%j is %s in version 1, %s in 6, %s in 10', (value, inV1, inV6, inV10) => {
    expect([v1, v6, v10].map((rules) => levelFrom(rules, value))).toEqual([inV1, inV6, inV10])
  })

  test('notifications.room is 50 where it is not set', () => {
    expect(notificationLevel(v10, roomState(v10), 'room')).toBe(50)
    expect(notificationLevel(v10, roomState(v10, { levels: { notifications: { room: 1 } } }), 'room')).toBe(1)
  })
})
