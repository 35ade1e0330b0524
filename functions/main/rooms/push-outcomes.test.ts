import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { compileRuleset, evaluate } from '../../../shared/core/push/compile.ts'
import { defaultRules } from '../../../shared/core/push/default-rules.ts'
import { EventFacts, type PushEvent } from '../../../shared/core/push/event-facts.ts'
import { bitsOf, classRules } from '../../../shared/core/push/push-class.ts'
import type { PushRule, PushRuleset } from '../../../shared/core/push/ruleset.ts'
import type { RoomId, UserId } from '../../../shared/matrix/ids.ts'
import { PushClasses } from './push-classes.ts'
import { type PushOutcome, RoomPush } from './push-outcomes.ts'

const room_id = '!r:a' as RoomId
const isLocal = (user_id: string) => user_id.endsWith(':a')
const userIds = ['@ann:a', '@bob:a', '@cid:a', '@dan:a', '@eve:a', '@_x-y:a'] as UserId[]

/** Numbers classes as the commands do: equal rules, equal class. */
class Directory {
  readonly classes = new PushClasses()
  readonly rulesets = new Map<UserId, PushRuleset>()
  #ids = new Map<string, number>([[JSON.stringify(this.classes.rules(0)), 0]])
  set(user: UserId, ruleset: PushRuleset): void {
    const rules = classRules(ruleset, user)
    const text = JSON.stringify(rules)
    const class_id = this.#ids.get(text) ?? this.#ids.size
    this.#ids.set(text, class_id)
    this.rulesets.set(user, ruleset)
    this.classes.set(user, class_id, rules)
  }
  rulesetOf(user: UserId): PushRuleset {
    return this.rulesets.get(user) ?? defaultRules(user)
  }
}

/** What a reader of the stored outcome finds for a user. */
function bitsFor(outcome: PushOutcome, user: UserId, class_id: number): number {
  const own = outcome.deviations.find((deviation) => deviation.user_id === user)
  const ofClass = outcome.deviations.find(
    (deviation) => class_id !== 0 && deviation.user_id === '' && deviation.class_id === class_id,
  )
  return (own ?? ofClass)?.push ?? outcome.push
}

const names = ['Ann', 'bob', 'Anna Maria', 'Алиса', '😀 smile', '-', 'x y', undefined]
const word = fc.constantFrom(
  'ann',
  'Bob',
  'cid',
  'anna maria',
  'алиса',
  '😀 smile',
  'x',
  'y',
  '_x-y',
  'cake',
  '@room',
  '-',
)
const body = fc.array(word, { maxLength: 5 }).map((words) => words.join(' '))
const anyUser = fc.constantFrom(...userIds)
const event: fc.Arbitrary<PushEvent> = fc
  .record({
    type: fc.constantFrom('m.room.message', 'm.room.member', 'm.room.encrypted', 'm.room.topic', 'm.reaction'),
    sender: fc.constantFrom<string>(...userIds, '@far:b'),
    state_key: fc.option(fc.constantFrom<string>('', '@new:a', '@far:b', ...userIds), { nil: undefined }),
    body,
    mentions: fc.option(
      fc.record({
        user_ids: fc.array(fc.constantFrom<string>('@new:a', ...userIds), { maxLength: 3 }),
        room: fc.boolean(),
      }),
      { nil: undefined },
    ),
    membership: fc.constantFrom('join', 'invite', 'leave'),
  })
  .map(({ type, sender, state_key, body, mentions, membership }) => ({
    event_id: '$1',
    room_id,
    type,
    sender,
    origin_server_ts: 1,
    ...(state_key === undefined ? {} : { state_key }),
    content: { body, msgtype: 'm.text', membership, ...(mentions ? { 'm.mentions': mentions } : {}) },
  }))
const actions = fc.constantFrom<PushRule['actions'][]>([], ['notify'], ['notify', { set_tweak: 'highlight' }])
const ownRule = fc.record({
  rule_id: fc.constantFrom('one', 'two'),
  default: fc.constant(false),
  enabled: fc.boolean(),
  actions,
})
function ruleset(user: UserId): fc.Arbitrary<PushRuleset> {
  const condition = fc.constantFrom(
    { kind: 'event_match', key: 'content.body', pattern: 'cake' },
    { kind: 'event_match', key: 'content.body', pattern: user },
    { kind: 'event_match', key: 'state_key', pattern: user },
    { kind: 'event_property_is', key: 'sender', value: '@bob:a' },
    { kind: 'event_property_contains', key: 'content.m\\.mentions.user_ids', value: '@ann:a' },
    { kind: 'contains_display_name' },
    { kind: 'room_member_count', is: '>3' },
    { kind: 'event_match', key: 'room_id', pattern: '!other:a' },
  )
  const withConditions = fc.record({ ownRule, conditions: fc.array(condition, { minLength: 1, maxLength: 2 }) })
  const defaults = defaultRules(user)
  return fc.record({
    override: fc
      .array(
        withConditions.map((rule) => ({ ...rule.ownRule, conditions: rule.conditions })),
        { maxLength: 2 },
      )
      .map((own) => [...own, ...defaults.override]),
    content: fc
      .array(fc.record({ ownRule, pattern: fc.constantFrom('cake', 'ann', 'b?b', 'x') }), { maxLength: 1 })
      .map((own) => [...own.map((rule) => ({ ...rule.ownRule, pattern: rule.pattern })), ...defaults.content]),
    room: fc
      .array(fc.record({ ownRule, rule_id: fc.constantFrom('!r:a', '!other:a') }), { maxLength: 2 })
      .map((rules) => rules.map((rule) => ({ ...rule.ownRule, rule_id: rule.rule_id }))),
    sender: fc
      .array(fc.record({ ownRule, rule_id: anyUser }), { maxLength: 1 })
      .map((rules) => rules.map((rule) => ({ ...rule.ownRule, rule_id: rule.rule_id }))),
    underride: fc.constant(defaults.underride),
  })
}
const rulesets = fc.tuple(...userIds.map((user) => fc.option(ruleset(user), { nil: undefined })))

describe('push outcomes', () => {
  test('everybody gets what their own rules say, however members come, go and change', () =>
    fc.assert(
      fc.property(
        rulesets,
        rulesets,
        fc.array(fc.record({ user: anyUser, name: fc.constantFrom(...names), joins: fc.boolean() }), { maxLength: 12 }),
        fc.array(event, { minLength: 1, maxLength: 4 }),
        (before, after, changes, sent) => {
          const directory = new Directory()
          const members = new Map<UserId, string | undefined>(userIds.slice(0, 3).map((user, i) => [user, names[i]]))
          const set = (chosen: typeof before) =>
            userIds.forEach((user, i) => {
              const own = chosen[i]
              if (own) directory.set(user, own)
            })
          set(before)
          const room = new RoomPush({
            room_id,
            classes: directory.classes,
            members: [...members].map(([user_id, display_name]) => ({ user_id, display_name })),
            isLocal,
          })
          const check = (one: PushEvent) => {
            const context = { member_count: members.size, senderMayNotify: () => true }
            const outcome = room.outcomes(one, context)
            const facts = new EventFacts(one, context)
            for (const [user_id, display_name] of members) {
              if (user_id === one.sender) continue
              const rule = evaluate(compileRuleset(directory.rulesetOf(user_id), user_id), facts, {
                user_id,
                display_name,
              })
              const expected = rule ? bitsOf(rule.actions) : 0
              expect({ user_id, bits: bitsFor(outcome, user_id, directory.classes.of(user_id)) }).toEqual({
                user_id,
                bits: expected,
              })
            }
            for (const { user_id } of outcome.deviations) expect(user_id).not.toBe(one.sender)
          }
          sent.forEach(check)
          for (const { user, name, joins } of changes) {
            if (joins) {
              members.set(user, name)
              room.memberJoined(user, name)
            } else {
              members.delete(user)
              room.memberLeft(user)
            }
          }
          sent.forEach(check)
          set(after)
          sent.forEach(check)
        },
      ),
      { numRuns: 300 },
    ))

  const room = (members: readonly UserId[] = []) =>
    new RoomPush({
      room_id,
      classes: new PushClasses(),
      members: members.map((user_id) => ({ user_id, display_name: undefined })),
      isLocal,
    })
  const context = { member_count: 3, senderMayNotify: () => false }
  const invite = (target: string): PushEvent => ({
    event_id: '$1',
    room_id,
    type: 'm.room.member',
    state_key: target,
    sender: '@ann:a',
    origin_server_ts: 1,
    content: { membership: 'invite' },
  })

  test('a local user who is invited is notified; a remote one is not our business', () => {
    expect(room().outcomes(invite('@new:a'), context)).toEqual({
      push: 0,
      deviations: [{ user_id: '@new:a', class_id: 0, push: 1 }],
    })
    expect(room().outcomes(invite('@far:b'), context)).toEqual({ push: 0, deviations: [] })
  })

  test('users who mute other rooms are no deviation in this one', () => {
    const directory = new Directory()
    for (const [i, user] of userIds.entries()) {
      const mute = { rule_id: `!${i}:a`, default: false, enabled: true, actions: [] }
      directory.set(user, { ...defaultRules(user), room: [mute] })
    }
    const push = new RoomPush({
      room_id,
      classes: directory.classes,
      members: userIds.map((user_id) => ({ user_id, display_name: undefined })),
      isLocal,
    })
    const message = { ...invite('x'), type: 'm.room.message', content: { body: 'hi' } }
    expect(push.outcomes(message, context)).toEqual({ push: 1, deviations: [] })
  })
})
