import { describe, expect, test } from 'vitest'
import type { UserId } from '../../matrix/ids.ts'
import type { JsonObject } from '../../matrix/json-value.ts'
import { compileClass, compileRuleset, evaluate } from './compile.ts'
import { defaultRules } from './default-rules.ts'
import { EventFacts, type PushEvent } from './event-facts.ts'
import { bitsOf, classRules } from './push-class.ts'
import type { PushCondition, PushRule, PushRuleset } from './ruleset.ts'

const alice = '@alice:example.org' as UserId
const empty: PushRuleset = { override: [], content: [], room: [], sender: [], underride: [] }
const event: PushEvent = {
  event_id: '$1',
  room_id: '!r:example.org',
  type: 'm.room.message',
  sender: '@bob:example.org',
  origin_server_ts: 1432735824653,
  content: { body: 'An example event.', msgtype: 'm.text' },
}
const facts = (changes: Partial<PushEvent> = {}, context: { members?: number; level?: boolean } = {}) =>
  new EventFacts(
    { ...event, ...changes },
    { member_count: context.members ?? 5, senderMayNotify: () => context.level ?? false },
  )
const rule = (rule_id: string, conditions: PushCondition[], actions: PushRule['actions'] = ['notify']): PushRule => ({
  rule_id,
  default: false,
  enabled: true,
  conditions,
  actions,
})
const user = { user_id: alice, display_name: 'Alice L.' }
/** Both ways to evaluate: as the user's own rules, and as those of a class. */
function holds(condition: PushCondition, of: EventFacts): boolean {
  const ruleset = { ...empty, override: [rule('x', [condition])] }
  const own = evaluate(compileRuleset(ruleset, alice), of, user) !== undefined
  expect((evaluate(compileClass(classRules(ruleset, alice)), of, user) ?? 0) > 0).toBe(own)
  return own
}

describe('client-server-api/#conditions', () => {
  const create = { type: 'm.room.create', content: { creator: '@e:x', 'm.federate': true, n: 1, none: null } }
  const aliases = { content: { alt_aliases: ['#somewhere:example.org', '#myroom:example.com', 7, null, {}] } }
  test.each<[string, PushCondition, Partial<PushEvent>, boolean]>([
    [
      'glob on a property',
      { kind: 'event_match', key: 'content.topic', pattern: 'lunc?*' },
      { content: { topic: 'Lunch plans' } },
      true,
    ],
    [
      'no string, no match',
      { kind: 'event_match', key: 'content.topic', pattern: '*' },
      { content: { topic: null } },
      false,
    ],
    ['absent, no match', { kind: 'event_match', key: 'content.topic', pattern: '*' }, {}, false],
    ['words in the body', { kind: 'event_match', key: 'content.body', pattern: 'EX*PLE' }, {}, true],
    ['no part of a word', { kind: 'event_match', key: 'content.body', pattern: 'xampl' }, {}, false],
    ['type, without regard to case', { kind: 'event_match', key: 'type', pattern: 'M.Room.Message' }, {}, true],
    ['type by glob', { kind: 'event_match', key: 'type', pattern: 'm.room.*' }, {}, true],
    ['another type', { kind: 'event_match', key: 'type', pattern: 'm.room.topic' }, {}, false],
    ['room', { kind: 'event_match', key: 'room_id', pattern: '!r:example.org' }, {}, true],
    ['a state key there is not', { kind: 'event_match', key: 'state_key', pattern: '' }, {}, false],
    ['an empty state key', { kind: 'event_match', key: 'state_key', pattern: '' }, { state_key: '' }, true],
    ['an escaped dot', { kind: 'event_property_is', key: 'content.m\\.federate', value: true }, create, true],
    ['unescaped: another path', { kind: 'event_property_is', key: 'content.m.federate', value: true }, create, false],
    ['types are not cast', { kind: 'event_property_is', key: 'content.m\\.federate', value: 'true' }, create, false],
    ['a number', { kind: 'event_property_is', key: 'content.n', value: 1 }, create, true],
    ['null', { kind: 'event_property_is', key: 'content.none', value: null }, create, true],
    ['absent is not null', { kind: 'event_property_is', key: 'content.nothing', value: null }, create, false],
    ['an object is no value', { kind: 'event_property_is', key: 'content', value: {} }, create, false],
    [
      'within an array',
      { kind: 'event_property_contains', key: 'content.alt_aliases', value: '#myroom:example.com' },
      aliases,
      true,
    ],
    [
      'no partial values',
      { kind: 'event_property_contains', key: 'content.alt_aliases', value: ':example.com' },
      aliases,
      false,
    ],
    [
      'null within an array',
      { kind: 'event_property_contains', key: 'content.alt_aliases', value: null },
      aliases,
      true,
    ],
    ['no array', { kind: 'event_property_contains', key: 'content.body', value: 'An example event.' }, {}, false],
    ['own display name', { kind: 'contains_display_name' }, { content: { body: 'hey, ALICE L.!' } }, true],
    ['not as part of a word', { kind: 'contains_display_name' }, { content: { body: 'malice l.' } }, false],
    ['a kind that is not known', { kind: 'device', profile_tag: 'x' }, {}, false],
    [
      'a mark of ours from a client',
      { kind: 'event_property_is', key: 'sender', value: { own: 'user_id' } },
      { sender: alice },
      false,
    ],
    [
      'prototypes are no properties',
      { kind: 'event_property_is', key: 'content.constructor.name', value: 'Object' },
      {},
      false,
    ],
  ])('%s', (_, condition, changes, expected) => expect(holds(condition, facts(changes))).toBe(expected))

  test.each([
    ['2', 2, true],
    ['==2', 2, true],
    ['<2', 2, false],
    ['<=2', 2, true],
    ['>1', 2, true],
    ['>=3', 2, false],
    ['=2', 2, false],
    ['two', 2, false],
  ])('room_member_count %s with %d members: %j', (is, members, expected) =>
    expect(holds({ kind: 'room_member_count', is }, facts({}, { members }))).toBe(expected),
  )

  test('sender_notification_permission', () => {
    const condition = { kind: 'sender_notification_permission', key: 'room' }
    expect(holds(condition, facts({}, { level: true }))).toBe(true)
    expect(holds(condition, facts({}, { level: false }))).toBe(false)
  })
})

describe('client-server-api/#actions', () => {
  test.each<[PushRule['actions'], number]>([
    [[], 0],
    [['notify'], 1],
    [['dont_notify'], 0],
    [['coalesce', 'notify'], 1],
    [[{ set_tweak: 'highlight' }], 0],
    [['notify', { set_tweak: 'highlight' }], 3],
    [['notify', { set_tweak: 'highlight', value: false }], 1],
    [['notify', { set_tweak: 'sound', value: 'default' }], 1],
  ])('%j: %d', (actions, bits) => expect(bitsOf(actions)).toBe(bits))
})

describe('client-server-api/#predefined-rules', () => {
  const compiled = compileRuleset(defaultRules(alice), alice)
  const outcome = (changes: Partial<PushEvent>, context?: { members?: number; level?: boolean }) =>
    evaluate(compiled, facts(changes, context), user)?.rule_id
  const text = (body: string, more: JsonObject = {}) => ({ content: { body, msgtype: 'm.text', ...more } })
  const member = (state_key: string, membership: string) => ({
    type: 'm.room.member',
    state_key,
    content: { membership },
  })

  test.each<[string, Partial<PushEvent>, { members?: number; level?: boolean }]>([
    ['message', text('hello'), {}],
    ['room_one_to_one', text('hello'), { members: 2 }],
    ['encrypted', { type: 'm.room.encrypted', content: {} }, {}],
    ['encrypted_room_one_to_one', { type: 'm.room.encrypted', content: {} }, { members: 2 }],
    ['suppress_notices', { content: { body: 'alice', msgtype: 'm.notice' } }, {}],
    ['invite_for_me', member(alice, 'invite'), {}],
    ['member_event', member('@carol:x', 'invite'), {}],
    ['member_event', member(alice, 'ban'), {}],
    ['is_user_mention', text('hi', { 'm.mentions': { user_ids: ['@x:y', alice] } }), {}],
    ['is_room_mention', text('hi', { 'm.mentions': { room: true } }), { level: true }],
    ['message', text('hi', { 'm.mentions': { room: true } }), { level: false }],
    ['tombstone', { type: 'm.room.tombstone', state_key: '', content: {} }, {}],
    ['reaction', { type: 'm.reaction', content: {} }, {}],
    ['room.server_acl', { type: 'm.room.server_acl', state_key: '', content: {} }, {}],
    ['suppress_edits', text('* x', { 'm.relates_to': { rel_type: 'm.replace', event_id: '$1' } }), {}],
    ['call', { type: 'm.call.invite', content: {} }, {}],
    ['contains_display_name', text('so, alice l.?'), {}],
    ['contains_user_name', text('alice: look'), {}],
    ['roomnotif', text('@room: look'), { level: true }],
    ['message', text('alice: look', { 'm.mentions': {} }), {}],
    ['message', text('@room: look', { 'm.mentions': {} }), { level: true }],
  ])('%s', (name, changes, context) => expect(outcome(changes, context)).toBe(`.m.rule.${name}`))

  test('nothing matches most state', () =>
    expect(outcome({ type: 'm.room.topic', state_key: '', content: { topic: 'alice' } })).toBeUndefined())

  test('the master rule silences everything', () => {
    const rules = defaultRules(alice)
    const override = rules.override.map((one) => (one.rule_id === '.m.rule.master' ? { ...one, enabled: true } : one))
    expect(classRules({ ...rules, override }, alice)).toEqual([])
  })

  test('users with the default rules are one class', () => {
    const bob = '@bob:elsewhere.example' as UserId
    expect(classRules(defaultRules(alice), alice)).toEqual(classRules(defaultRules(bob), bob))
  })
})
