/** Push rules, compiled: `evaluate` tries them in order and returns the outcome of the first that matches.
 *  https://spec.matrix.org/v1.19/client-server-api/#push-rules */
import { localpartOf, type UserId } from '../../matrix/ids.ts'
import type { JsonValue } from '../../matrix/json-value.ts'
import { compileGlob, includesWords } from '../glob.ts'
import { parsePropertyPath } from '../property-path.ts'
import { bodyMentionRules } from './default-rules.ts'
import type { EventFacts, Property, PushUser } from './event-facts.ts'
import { type ClassRule, type Own, ownerlessConditions, rulesInOrder } from './push-class.ts'
import type { PushCondition, PushRule, PushRuleset } from './ruleset.ts'

/** For conditions on the owner: false when there is none, as for the class as a whole. */
type Test = (facts: EventFacts, user: PushUser | undefined) => boolean

interface CompiledRule<Outcome> {
  readonly tests: readonly Test[]
  readonly unlessMentions: boolean
  readonly outcome: Outcome
  /** The one event type that can match; undefined: any. In lower case. */
  readonly type: string | undefined
}

/** Where an event can name a user so that a condition on the owner holds for that user alone. */
export type OwnerPlace =
  /** The string there is the user's id. */
  | { readonly in: 'value'; readonly property: Property }
  /** The array there holds the user's id. */
  | { readonly in: 'array'; readonly property: Property }
  /** The body has the user's display name, id or localpart. */
  | { readonly in: 'body' }

export interface CompiledRuleset<Outcome> {
  readonly rules: readonly CompiledRule<Outcome>[]
  /** Users that are named at none of these places have the outcome of the class. */
  readonly ownerPlaces: readonly OwnerPlace[]
  /** Rules that can match an event of a type, filled as types come; bounded. */
  readonly byType: Map<string, readonly CompiledRule<Outcome>[]>
}

/** A class's rules. The outcome is push bits. */
export function compileClass(rules: readonly ClassRule[]): CompiledRuleset<number> {
  const places: OwnerPlace[] = []
  return compiled(
    rules.map((rule) => compileRule(rule.conditions, rule.unless_mentions === true, rule.push, places)),
    places,
  )
}

/** A user's own rules, to be evaluated for that user. The outcome is the rule, for its actions. */
export function compileRuleset(ruleset: PushRuleset, user_id: UserId): CompiledRuleset<PushRule> {
  const rules: CompiledRule<PushRule>[] = []
  const places: OwnerPlace[] = []
  for (const { kind, rule } of rulesInOrder(ruleset)) {
    if (!rule.enabled) continue
    const unlessMentions = rule.default && bodyMentionRules.has(rule.rule_id)
    rules.push(compileRule(ownerlessConditions(kind, rule, user_id), unlessMentions, rule, places))
  }
  return compiled(rules, places)
}

/** The outcome of the first rule that matches; undefined: none does. Without a user, conditions on the owner fail: that
 *  is the outcome for all of a class but those whom the event names. */
export function evaluate<Outcome>(
  ruleset: CompiledRuleset<Outcome>,
  facts: EventFacts,
  user?: PushUser,
): Outcome | undefined {
  rules: for (const rule of rulesFor(ruleset, facts.event.type)) {
    if (rule.unlessMentions && facts.hasMentions) continue
    for (const test of rule.tests) if (!test(facts, user)) continue rules
    return rule.outcome
  }
  return undefined
}

const typesMax = 64
function rulesFor<Outcome>(ruleset: CompiledRuleset<Outcome>, type: string): readonly CompiledRule<Outcome>[] {
  const known = ruleset.byType.get(type)
  if (known) return known
  const lower = type.toLowerCase()
  const rules = ruleset.rules.filter((rule) => rule.type === undefined || rule.type === lower)
  if (ruleset.byType.size >= typesMax) ruleset.byType.clear()
  ruleset.byType.set(type, rules)
  return rules
}

function compiled<Outcome>(rules: CompiledRule<Outcome>[], places: OwnerPlace[]): CompiledRuleset<Outcome> {
  const distinct = new Map(
    places.map((place) => [place.in === 'body' ? '' : `${place.in} ${place.property.path}`, place]),
  )
  return { rules, ownerPlaces: [...distinct.values()], byType: new Map() }
}

function compileRule<Outcome>(
  conditions: readonly PushCondition[],
  unlessMentions: boolean,
  outcome: Outcome,
  places: OwnerPlace[],
): CompiledRule<Outcome> {
  let type: string | undefined
  const tests: Test[] = []
  for (const condition of conditions) {
    const test = compileCondition(condition, places)
    if (condition.kind === 'event_match' && condition.key === 'type' && isPlain(condition.pattern)) {
      const pattern = condition.pattern.toLowerCase()
      // Two types at once match nothing.
      if (type === undefined || type === pattern) type = pattern
      else tests.push(never)
    } else tests.push(test)
  }
  return { tests, unlessMentions, outcome, type }
}

const isPlain = (pattern: unknown): pattern is string => typeof pattern === 'string' && !/[*?]/.test(pattern)
const never: Test = () => false

function compileCondition(condition: PushCondition, places: OwnerPlace[]): Test {
  switch (condition.kind) {
    case 'event_match':
      return compileMatch(condition, places)
    case 'event_property_is': {
      const property = propertyOf(condition.key)
      if (!property) return never
      const { value } = condition
      if (isOwn(value)) {
        places.push({ in: 'value', property })
        return (facts, user) => user !== undefined && facts.value(property) === user.user_id
      }
      return isScalar(value) ? (facts) => facts.value(property) === value : never
    }
    case 'event_property_contains': {
      const property = propertyOf(condition.key)
      if (!property) return never
      const { value } = condition
      if (isOwn(value)) {
        places.push({ in: 'array', property })
        return (facts, user) => user !== undefined && contains(facts.value(property), user.user_id)
      }
      return isScalar(value) ? (facts) => contains(facts.value(property), value) : never
    }
    case 'contains_display_name':
      places.push({ in: 'body' })
      return (facts, user) =>
        user?.display_name !== undefined &&
        facts.body !== undefined &&
        includesWords(facts.body, user.display_name.toLowerCase())
    case 'room_member_count':
      return compileMemberCount(condition.is)
    case 'sender_notification_permission': {
      const { key } = condition
      return typeof key === 'string' ? (facts) => facts.context.senderMayNotify(key) : never
    }
    default:
      // Unrecognised conditions match no event.
      return never
  }
}

function compileMatch(condition: PushCondition, places: OwnerPlace[]): Test {
  const property = propertyOf(condition.key)
  if (!property) return never
  const { pattern } = condition
  const inBody = property.keys.length === 2 && property.keys[0] === 'content' && property.keys[1] === 'body'
  if (isOwn(pattern)) {
    const ownOf = (user: PushUser) =>
      pattern.own === 'user_id' ? user.user_id : localpartOf(user.user_id as UserId).toLowerCase()
    if (inBody) {
      places.push({ in: 'body' })
      return (facts, user) =>
        user !== undefined && facts.body !== undefined && includesWords(facts.body, ownOf(user).toLowerCase())
    }
    places.push({ in: 'value', property })
    return (facts, user) => user !== undefined && facts.value(property) === ownOf(user)
  }
  if (typeof pattern !== 'string') return never
  const glob = compileGlob(pattern.toLowerCase())
  if (inBody) return (facts) => facts.body !== undefined && glob.matchesWords(facts.body)
  return (facts) => {
    const value = facts.lower(property)
    return value !== undefined && glob.matches(value)
  }
}

function compileMemberCount(is: unknown): Test {
  const parts = typeof is === 'string' ? /^(==|<=|>=|<|>)?(\d{1,15})$/.exec(is) : null
  if (!parts) return never
  const count = Number(parts[2])
  switch (parts[1]) {
    case '<':
      return ({ context }) => context.member_count < count
    case '>':
      return ({ context }) => context.member_count > count
    case '<=':
      return ({ context }) => context.member_count <= count
    case '>=':
      return ({ context }) => context.member_count >= count
    default:
      return ({ context }) => context.member_count === count
  }
}

function propertyOf(key: unknown): Property | undefined {
  return typeof key === 'string' ? { path: key, keys: parsePropertyPath(key) } : undefined
}

function isOwn(value: unknown): value is Own {
  return typeof value === 'object' && value !== null && 'own' in value
}

function isScalar(value: unknown): value is string | number | boolean | null {
  return value === null || typeof value === 'string' || typeof value === 'boolean' || Number.isSafeInteger(value)
}

function contains(array: JsonValue | undefined, value: string | number | boolean | null): boolean {
  return Array.isArray(array) && array.includes(value)
}
