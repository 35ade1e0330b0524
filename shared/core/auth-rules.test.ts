import { describe, expect, test } from 'vitest'
import {
  alice,
  bob,
  carol,
  createId,
  createPdu,
  levelsPdu,
  memberPdu,
  type PduParts,
  pdu,
  type RoomParts,
  roomState,
} from '../../test/support/auth-room.ts'
import type { JsonObject } from '../matrix/json-value.ts'
import { authStateOf, checkAuth, checkAuthEvents } from './auth-rules.ts'
import { type RoomRules, roomRules, rulesOf } from './room-versions.ts'

const versions = Object.values(roomRules)
const known = (version: string) => rulesOf(version) as RoomRules
const v12 = known('12')
const upTo11 = versions.filter((rules) => rules !== v12)

const allowed = { allowed: true }
const rejected = (rule: string | undefined) => ({ allowed: false, rule, reason: expect.any(String) })

describe.each(versions)('rooms/v$version 1 m.room.create', (rules) => {
  const check = (parts: PduParts) => checkAuth(rules, pdu(rules, { ...createParts, ...parts }), authStateOf([]))
  const createParts: PduParts = createPdu(rules)
  const content = createPdu(rules).content
  const numbers = rules.ruleNumbers

  test('allowed', () => {
    expect(check({})).toEqual(allowed)
    expect(check({ content: { ...content, room_version: undefined as never } })).toEqual(allowed)
  })
  test.each<[string, PduParts, string | undefined]>([
    ['it has a previous event', { prev_events: ['$x'] }, numbers.createHasPrevEvents],
    ['an unknown version', { content: { ...content, room_version: '13' } }, numbers.createRoomVersion],
    ['a version that is no string', { content: { ...content, room_version: 12 } }, numbers.createRoomVersion],
    [
      'a version that objects have',
      { content: { ...content, room_version: 'constructor' } },
      numbers.createRoomVersion,
    ],
    [
      'a room id of something else',
      { room_id: '!room:two' },
      rules.roomIdIsCreateHash ? numbers.createHasRoomId : numbers.createRoomIdDomain,
    ],
  ])('%s: rejected', (_, parts, rule) => {
    expect(check(parts)).toEqual(rejected(rule))
  })
  test('without a creator', () => {
    const { creator: _, ...rest } = content
    expect(check({ content: rest })).toEqual(rules.implicitRoomCreator ? allowed : rejected('1.4'))
  })
  test.each<[string, JsonObject[string], boolean]>([
    ['none', [], true],
    ['user ids', [bob, '@x:y.z:8448'], true],
    ['no array', bob, false],
    ['null', null, false],
    ['a number', [bob, 42], false],
    ['no user id', ['bob'], false],
    ['an invalid server name', ['@bob:dom$ain$.com'], false],
    ['too long', [`@${'x'.repeat(255)}:one`], false],
  ])('additional_creators: %s', (_, additional_creators, valid) => {
    expect(check({ content: { ...content, additional_creators } })).toEqual(
      valid || rules !== v12 ? allowed : rejected('1.4'),
    )
  })
})

test.each(versions)('rooms/v$version: a member cannot make the room again', (rules) => {
  const again = { ...createPdu(rules), sender: bob, prev_events: [createId] }
  expect(checkAuth(rules, again, roomState(rules, { members: { [bob]: 'join' } }))).toEqual(rejected('1.1'))
})

describe('rooms/v12 2 the room is its create event', () => {
  const state = roomState(v12)
  test.each<[string, PduParts, ReturnType<typeof roomState>, boolean]>([
    ['it is', {}, state, true],
    ['another room', { room_id: '!other' }, state, false],
    ['no create event', {}, authStateOf([memberPdu(v12, alice, 'join')]), false],
    ['rejected', {}, roomState(v12, { more: [{ ...createPdu(v12), rejected: true }] }), false],
  ])('%s', (_, parts, room, ok) => {
    expect(checkAuth(v12, pdu(v12, parts), room)).toEqual(ok ? allowed : rejected('2'))
  })
})

describe.each(versions)('rooms/v$version auth_events', (rules) => {
  const create = createPdu(rules)
  const member = memberPdu(rules, alice, 'join')
  const levels = levelsPdu(rules, {})
  const base = rules.roomIdIsCreateHash ? [member, levels] : [create, member, levels]
  const numbers = rules.ruleNumbers
  test('allowed', () => {
    expect(checkAuthEvents(rules, pdu(rules), base)).toEqual(allowed)
    expect(checkAuthEvents(rules, create, [])).toEqual(allowed)
  })
  test.each([
    ['the same key twice', [...base, { ...member, event_id: '$other' } as typeof member], numbers.authEventsDuplicate],
    ['a key that was not selected', [...base, memberPdu(rules, bob, 'join')], numbers.authEventsSelection],
    ['a message', [...base, pdu(rules)], numbers.authEventsSelection],
    ['a member event without state key', [...base, pdu(rules, { type: 'm.room.member' })], numbers.authEventsSelection],
    ['a rejected event', [...base.slice(0, -1), { ...levels, rejected: true }], numbers.authEventsRejected],
    [
      'an event of another room',
      [...base.slice(0, -1), { ...levels, room_id: '!other:one' } as typeof levels],
      numbers.authEventsRoom,
    ],
  ])('%s: rejected', (_, events, rule) => {
    expect(checkAuthEvents(rules, pdu(rules), events)).toEqual(rejected(rule))
  })
  test('the create event: needed before version 12, out of place there', () => {
    const [without, with_] = [
      checkAuthEvents(rules, pdu(rules), [member]),
      checkAuthEvents(rules, pdu(rules), [create]),
    ]
    expect([without, with_]).toEqual(rules === v12 ? [allowed, rejected('3.2')] : [rejected('2.4'), allowed])
  })
})

describe.each(versions)('rooms/v$version m.federate', (rules) => {
  test.each<[string, RoomParts['create'], string, boolean]>([
    ['not set', {}, carol, true],
    ['true', { 'm.federate': true }, carol, true],
    ['false, same server', { 'm.federate': false }, bob, true],
    ['false, another server', { 'm.federate': false }, carol, false],
    ['neither true nor false, same server', { 'm.federate': 'true' }, bob, true],
    ['neither true nor false, another server', { 'm.federate': 'true' }, carol, false],
    ['null, another server', { 'm.federate': null }, carol, false],
  ])('%s', (_, create, sender, ok) => {
    const state = roomState(rules, { create: create ?? {}, members: { [sender]: 'join' } })
    expect(checkAuth(rules, pdu(rules, { sender }), state)).toEqual(ok ? allowed : rejected(rules.ruleNumbers.federate))
  })

  test.each(['invite', 'ban', 'leave'])('who is on another server cannot be the one of a %s', (membership) => {
    const state = (create: JsonObject) =>
      roomState(rules, { create, members: { [alice]: 'join' }, levels: { users: { [bob]: 50 } } })
    const change = (user: string) => memberPdu(rules, user, membership, { sender: alice })
    const closed = { 'm.federate': false }
    const levelled = rules.creatorsHaveInfinitePower ? {} : { users: { [alice]: 100 } }
    const verdict = (user: string, create: JsonObject) =>
      checkAuth(rules, change(user), {
        get: (type, key) =>
          type === 'm.room.power_levels' ? levelsPdu(rules, levelled) : state(create).get(type, key),
      })
    expect(verdict(carol, {})).toEqual(allowed)
    expect(verdict(carol, closed)).toEqual(rejected(rules.ruleNumbers.federate))
    expect(verdict(bob, closed)).toEqual(allowed)
  })
})

describe.each(versions)('rooms/v$version m.room.aliases', (rules) => {
  test.each<[string, PduParts, boolean, string]>([
    ["the sender's server, not even joined", { sender: carol, state_key: 'two' }, true, ''],
    ['without state key', { sender: carol }, false, '4.1'],
    ["another's server", { sender: carol, state_key: 'one' }, false, '4.2'],
  ])('%s', (_, parts, ok, rule) => {
    const verdict = checkAuth(rules, pdu(rules, { type: 'm.room.aliases', ...parts }), roomState(rules))
    const older = ok ? allowed : rejected(rule)
    expect(verdict).toEqual(rules.aliasesRule ? older : rejected(rules.ruleNumbers.senderJoined))
  })
})

describe.each(versions)('rooms/v$version who may send', (rules) => {
  const numbers = rules.ruleNumbers
  test.each(['leave', 'invite', 'ban', 'knock', undefined])('membership %s may not', (membership) => {
    const state = roomState(rules, { members: membership === undefined ? {} : { [bob]: membership } })
    expect(checkAuth(rules, pdu(rules, { sender: bob }), state)).toEqual(rejected(numbers.senderJoined))
  })

  const room = (levels?: JsonObject) =>
    roomState(rules, { members: { [alice]: 'join', [bob]: 'join' }, ...(levels === undefined ? {} : { levels }) })
  test.each<[string, JsonObject | undefined, PduParts, boolean]>([
    ['a message where nothing sets levels', undefined, {}, true],
    ['state where nothing sets levels takes 50', undefined, { type: 'm.room.name', state_key: '' }, false],
    ['state takes 50 where state_default is absent', {}, { type: 'm.room.name', state_key: '' }, false],
    ['50 is enough', { users: { [bob]: 50 } }, { type: 'm.room.name', state_key: '' }, true],
    ['49 is not', { users: { [bob]: 49 } }, { type: 'm.room.name', state_key: '' }, false],
    ['users_default counts', { users_default: 50 }, { type: 'm.room.name', state_key: '' }, true],
    ['events_default', { events_default: 1 }, {}, false],
    ['state_default', { state_default: 0 }, { type: 'm.room.name', state_key: '' }, true],
    ['events goes before the defaults', { events: { 'm.room.name': 0 } }, { type: 'm.room.name', state_key: '' }, true],
    ['events holds for messages too', { events: { 'm.room.message': 1 } }, {}, false],
    ['a type that objects have', { events: {} }, { type: 'constructor' }, true],
    [
      'power 0 and m.room.power_levels',
      { users: { [alice]: 100 } },
      { type: 'm.room.power_levels', state_key: '' },
      false,
    ],
    ['negative power', { users: { [bob]: -1 } }, {}, false],
  ])('%s', (_, levels, parts, ok) => {
    const verdict = checkAuth(rules, pdu(rules, { sender: bob, ...parts }), room(levels))
    expect(verdict).toEqual(ok ? allowed : rejected(numbers.requiredLevel))
  })

  test.each<[string, string, boolean]>([
    ["a state key that is the sender's id", bob, true],
    ["another's", alice, false],
    ['anything else with an @', '@', false],
    ['without', 'x', true],
  ])('%s', (_, state_key, ok) => {
    const state = room({ users: { [alice]: 100, [bob]: 100 } })
    const verdict = checkAuth(rules, pdu(rules, { sender: bob, type: 'm.custom', state_key }), state)
    expect(verdict).toEqual(ok ? allowed : rejected(numbers.userStateKey))
  })

  // MSC3757; in other versions an id with anything behind it is another's.
  test.each<[string, string, boolean]>([
    ["the sender's id with a suffix", `${bob}_left:@#`, true],
    ["the sender's id with a suffix that no underscore parts", `${bob}@left`, false],
    ['the id of somebody with less power', carol, true],
    ['the id of somebody with less power, with a suffix', `${carol}_`, true],
    ['the id of somebody with as much power, with a suffix', `${alice}_x`, false],
    ['the id of somebody who is not there', '@nobody:else.where:8448_x', true],
    ['an id without a server', '@nobody', false],
    ['an id without a server, with a suffix', '@nobody_x', false],
  ])('a state key that is %s', (_, state_key, ok) => {
    const state = room({ users: { [alice]: 100, [bob]: 100, [carol]: 99 } })
    const verdict = checkAuth(rules, pdu(rules, { sender: bob, type: 'm.custom', state_key }), state)
    expect(verdict).toEqual(ok && rules.ownedState ? allowed : rejected(numbers.userStateKey))
  })

  test.each([
    ['at the invite level', 5, true],
    ['below it', 4, false],
  ])('m.room.third_party_invite %s', (_, level, ok) => {
    const state = room({ invite: 5, users: { [bob]: level } })
    const verdict = checkAuth(
      rules,
      pdu(rules, { sender: bob, type: 'm.room.third_party_invite', state_key: 't' }),
      state,
    )
    expect(verdict).toEqual(ok ? allowed : rejected(`${numbers.thirdPartyInvite}.1`))
  })

  test("the creator's power where nothing sets levels", () => {
    const name = pdu(rules, { type: 'm.room.name', state_key: '' })
    expect(checkAuth(rules, name, roomState(rules))).toEqual(allowed)
    expect(checkAuth(rules, name, roomState(rules, { levels: {} }))).toEqual(
      rules === v12 ? allowed : rejected(numbers.requiredLevel),
    )
  })
})

describe('rooms/v12: additional creators have infinite power, elsewhere they are nobody', () => {
  test.each(versions)('version $version', (rules) => {
    const state = roomState(rules, { create: { additional_creators: [bob] }, members: { [bob]: 'join' }, levels: {} })
    const verdict = checkAuth(rules, pdu(rules, { sender: bob, type: 'm.room.name', state_key: '' }), state)
    expect(verdict.allowed).toBe(rules === v12)
  })
})

test.each(upTo11)('rooms/v$version: nothing is allowed in a room without create event', (rules) => {
  expect(checkAuth(rules, pdu(rules), authStateOf([memberPdu(rules, alice, 'join')]))).toEqual(rejected('2.4'))
})

describe.each(versions)('rooms/v$version 11 m.room.redaction', (rules) => {
  test.each([
    ['redact level', carol, 50, true],
    ['one below, an event of the same server', bob, 49, true],
    ["one below, another server's event", carol, 49, false],
  ])('%s', (_, sender, level, ok) => {
    const state = roomState(rules, { members: { [sender]: 'join' }, levels: { users: { [sender]: level } } })
    const event_id = `$redaction:${sender === bob ? 'one' : 'two'}`
    const redaction = pdu(rules, { event_id, sender, type: 'm.room.redaction', redacts: '$target:one' })
    const authorised = ok ? allowed : rejected('11.3')
    expect(checkAuth(rules, redaction, state)).toEqual(rules.redactionsAreAuthorised ? authorised : allowed)
  })
})
