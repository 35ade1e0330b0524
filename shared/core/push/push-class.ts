/** A ruleset without its owner: rules in the order in which they are tried, what has no effect left out, and the owner's
 *  id and localpart replaced by a mark. Users whose rulesets are equal in this form are one *class*, evaluated once. */
import * as v from 'valibot'
import { localpartOf, type UserId } from '../../matrix/ids.ts'
import { bodyMentionRules } from './default-rules.ts'
import { type PushAction, PushCondition, type PushRule, type PushRuleset, type RuleKind, ruleKinds } from './ruleset.ts'

export const pushBits = { notify: 1, highlight: 2 } as const

/** Stands in a condition for the owner's; an object, so that no pattern of a client can be taken for it. */
export const Own = v.object({ own: v.picklist(['user_id', 'localpart']) })
export type Own = v.InferOutput<typeof Own>

export const ClassRule = v.object({
  conditions: v.array(PushCondition),
  /** Of pushBits; 0: the event is silent. */
  push: v.number(),
  /** The rule has no effect on events with `m.mentions`. */
  unless_mentions: v.optional(v.literal(true)),
})
export type ClassRule = v.InferOutput<typeof ClassRule>
export const ClassRules = v.array(ClassRule)

/** The rules of a user's whole ruleset as those of their class. */
export function classRules(ruleset: PushRuleset, user_id: UserId): ClassRule[] {
  const rules: ClassRule[] = []
  for (const { kind, rule } of rulesInOrder(ruleset)) {
    if (!rule.enabled) continue
    const conditions = ownerlessConditions(kind, rule, user_id)
    rules.push({
      conditions,
      push: bitsOf(rule.actions),
      ...(bodyMentionRules.has(rule.rule_id) && rule.default ? { unless_mentions: true as const } : {}),
    })
    // A rule that always matches leaves nothing to those below.
    if (conditions.length === 0) break
  }
  while (rules[rules.length - 1]?.push === 0) rules.pop()
  return rules
}

export function* rulesInOrder(ruleset: PushRuleset): Generator<{ kind: RuleKind; rule: PushRule }> {
  for (const kind of ruleKinds) for (const rule of ruleset[kind]) yield { kind, rule }
}

/** A rule's conditions with the owner's mark in place of the owner. */
export function ownerlessConditions(kind: RuleKind, rule: PushRule, user_id: UserId): PushCondition[] {
  return conditionsOf(kind, rule).map((condition) => withoutOwner(condition, user_id))
}

/** The conditions of a rule of any kind, the predefined ones of content, room and sender rules included. */
function conditionsOf(kind: RuleKind, rule: PushRule): PushCondition[] {
  switch (kind) {
    case 'override':
    case 'underride':
      return rule.conditions ?? []
    case 'content':
      return [{ kind: 'event_match', key: 'content.body', pattern: rule.pattern }]
    case 'room':
      return [{ kind: 'event_property_is', key: 'room_id', value: rule.rule_id }]
    case 'sender':
      return [{ kind: 'event_property_is', key: 'sender', value: rule.rule_id }]
  }
}

/** The push bits of a rule's actions. `highlight` without a value is true; historical actions have no effect. */
export function bitsOf(actions: readonly PushAction[]): number {
  if (!actions.includes('notify')) return 0
  let bits: number = pushBits.notify
  for (const action of actions) {
    if (typeof action === 'string' || action.set_tweak !== 'highlight') continue
    bits = action.value === undefined || action.value === true ? bits | pushBits.highlight : bits & ~pushBits.highlight
  }
  return bits
}

/** What no event matches: the kind is not recognised. */
const nothing: PushCondition = { kind: '' }

function withoutOwner(condition: PushCondition, user_id: UserId): PushCondition {
  const ownId: Own = { own: 'user_id' }
  switch (condition.kind) {
    case 'event_property_is':
    case 'event_property_contains':
      if (typeof condition.value === 'object' && condition.value !== null) return nothing
      return condition.value === user_id ? { ...condition, value: ownId } : condition
    case 'event_match': {
      const { pattern } = condition
      if (typeof pattern !== 'string') return nothing
      // An id with glob characters in it would be taken literally where the pattern is not.
      if (/[*?]/.test(pattern)) return condition
      if (pattern === user_id) return { ...condition, pattern: ownId }
      const isLocalpart =
        condition.key === 'content.body' && pattern.toLowerCase() === localpartOf(user_id).toLowerCase()
      return isLocalpart ? { ...condition, pattern: { own: 'localpart' } satisfies Own } : condition
    }
    default:
      return condition
  }
}
