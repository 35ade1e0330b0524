import { describe, expect, test } from 'vitest'
import type { RoomId, UserId } from '../../matrix/ids.ts'
import { defaultRules } from './default-rules.ts'
import { ownRulesMax, reconciled, withActions, withEnabled, withRoomRulesCopied, withRule } from './edit-ruleset.ts'
import type { PushRule, PushRuleset } from './ruleset.ts'

const alice = '@alice:a' as UserId
const defaults = defaultRules(alice)
const own = (rule_id: string): PushRule => ({ rule_id, default: false, enabled: true, conditions: [], actions: [] })
const ids = (rules: readonly PushRule[]) => rules.map((rule) => rule.rule_id)

describe('client-server-api/#push-rules-api rulesets', () => {
  test('defaults that were changed keep the change when the server gets new defaults', () => {
    let stored = withEnabled(defaults, { kind: 'override', rule_id: '.m.rule.master' }, true)
    stored = withActions(stored, { kind: 'underride', rule_id: '.m.rule.message' }, [])
    stored = withRule(stored, { kind: 'override', rule_id: 'mine', actions: ['notify'] })
    const outdated: PushRuleset = {
      ...stored,
      override: [
        ...stored.override.filter((rule) => rule.rule_id !== '.m.rule.tombstone'),
        { ...own('.m.rule.of_old'), default: true },
      ],
    }
    expect(reconciled(outdated, alice)).toEqual(stored)
    expect(reconciled(stored, alice)).toEqual(stored)
    expect(ids(stored.override).slice(0, 3)).toEqual(['.m.rule.master', 'mine', '.m.rule.suppress_notices'])
  })

  test('nothing to change is the ruleset itself', () => {
    expect(withEnabled(defaults, { kind: 'override', rule_id: '.m.rule.master' }, false)).toBe(defaults)
    expect(withRoomRulesCopied(defaults, { from: '!a:a' as RoomId, to: '!b:a' as RoomId })).toBe(defaults)
  })

  test('there is a bound', () => {
    const full: PushRuleset = { ...defaults, room: Array.from({ length: ownRulesMax }, (_, i) => own(`!${i}:a`)) }
    expect(() => withRule(full, { kind: 'sender', rule_id: '@b:a', actions: [] })).toThrow('More than')
    expect(withRule(full, { kind: 'room', rule_id: '!7:a', actions: ['notify'] }).room[7]?.actions).toEqual(['notify'])
  })

  test('keys of other kinds are left out', () => {
    const definition = { rule_id: 'x', actions: [], conditions: [{ kind: 'y' }], pattern: 'z' }
    expect(withRule(defaults, { kind: 'room', ...definition }).room).toEqual([
      { rule_id: 'x', default: false, enabled: true, actions: [] },
    ])
    expect(withRule(defaults, { kind: 'content', ...definition }).content[0]).not.toHaveProperty('conditions')
    expect(withRule(defaults, { kind: 'underride', ...definition }).underride[0]).not.toHaveProperty('pattern')
  })
})
