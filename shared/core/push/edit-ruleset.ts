/** Changes to a ruleset: pure, a new ruleset for the old one. */
import type { RoomId, UserId } from '../../matrix/ids.ts'
import { MatrixError } from '../../matrix/matrix-error.ts'
import { defaultRules } from './default-rules.ts'
import type { PushAction, PushCondition, PushRule, PushRuleset, RuleKind } from './ruleset.ts'

/** Rules of one's own, all kinds together. */
export const ownRulesMax = 2_000

export interface RuleName {
  readonly kind: RuleKind
  readonly rule_id: string
}

/** A rule's definition as a client puts it. `before` and `after` name rules of the user's own, of the same kind. */
export interface RuleDefinition extends RuleName {
  readonly actions: readonly PushAction[]
  readonly conditions?: readonly PushCondition[] | undefined
  readonly pattern?: string | undefined
  readonly before?: string | undefined
  readonly after?: string | undefined
}

/** Throws M_NOT_FOUND if there is no such rule. */
export function ruleOf(ruleset: PushRuleset, name: RuleName): PushRule {
  const rule = ruleset[name.kind].find((candidate) => candidate.rule_id === name.rule_id)
  if (!rule) throw new MatrixError('M_NOT_FOUND', 'The push rule was not found')
  return rule
}

/** Adds the rule, or gives the one of that name a new definition. A new rule is enabled, and the most important of the
 *  user's own unless it is placed; an old one stays where it is unless it is placed, and enabled or not as it was. */
export function withRule(ruleset: PushRuleset, definition: RuleDefinition): PushRuleset {
  const { kind, rule_id, before, after } = definition
  checkOwnName(rule_id)
  const rules = ruleset[kind]
  const present = rules.findIndex((rule) => rule.rule_id === rule_id)
  if (present < 0) checkCount(ruleset)
  const rule: PushRule = {
    rule_id,
    default: false,
    enabled: rules[present]?.enabled ?? true,
    actions: [...definition.actions],
    ...payloadOf(definition),
  }
  const anchor = before ?? after
  if (present >= 0 && (anchor === undefined || anchor === rule_id)) {
    return { ...ruleset, [kind]: rules.toSpliced(present, 1, rule) }
  }
  const others = present < 0 ? [...rules] : rules.toSpliced(present, 1)
  return { ...ruleset, [kind]: others.toSpliced(placeOf(others, before, after), 0, rule) }
}

/** Throws M_NOT_FOUND if there is no such rule of the user's own. */
export function withoutRule(ruleset: PushRuleset, name: RuleName): PushRuleset {
  const rule = ruleOf(ruleset, name)
  if (rule.default) throw new MatrixError('M_FORBIDDEN', "The server's own push rules can be disabled, not deleted")
  return { ...ruleset, [name.kind]: ruleset[name.kind].filter((other) => other !== rule) }
}

export function withEnabled(ruleset: PushRuleset, name: RuleName, enabled: boolean): PushRuleset {
  const rule = ruleOf(ruleset, name)
  return rule.enabled === enabled ? ruleset : replaced(ruleset, name, { ...rule, enabled })
}

export function withActions(ruleset: PushRuleset, name: RuleName, actions: readonly PushAction[]): PushRuleset {
  return replaced(ruleset, name, { ...ruleOf(ruleset, name), actions: [...actions] })
}

/** After an upgrade what the user asked for the old room holds in the new one as well: room rules, and override and
 *  underride rules whose conditions name the room. The ruleset itself if there is nothing to copy. */
export function withRoomRulesCopied(ruleset: PushRuleset, rooms: { from: RoomId; to: RoomId }): PushRuleset {
  const { from, to } = rooms
  const room = copiesBeside(
    ruleset.room,
    (rule) => rule.rule_id === from,
    (rule) => ({ ...rule, rule_id: to }),
  )
  const namesOld = (rule: PushRule) =>
    !rule.default &&
    (rule.rule_id === from || rule.conditions?.some((condition) => namesRoom(condition, from)) === true)
  const renamed = (rule: PushRule): PushRule => ({
    ...rule,
    // Clients name the rule that mutes a room after the room.
    rule_id: rule.rule_id.includes(from) ? rule.rule_id.replaceAll(from, to) : `${rule.rule_id} ${to}`,
    ...(rule.conditions && {
      conditions: rule.conditions.map((condition) =>
        !namesRoom(condition, from)
          ? condition
          : condition.kind === 'event_match'
            ? { ...condition, pattern: to }
            : { ...condition, value: to },
      ),
    }),
  })
  const override = copiesBeside(ruleset.override, namesOld, renamed)
  const underride = copiesBeside(ruleset.underride, namesOld, renamed)
  const unchanged = room === ruleset.room && override === ruleset.override && underride === ruleset.underride
  return unchanged ? ruleset : { ...ruleset, room, override, underride }
}

/** A stored ruleset with the server-default rules of today: those that went are dropped, new ones are added, and of
 *  those that stay the user's actions and whether they are enabled are kept. */
export function reconciled(stored: PushRuleset, user_id: UserId): PushRuleset {
  const defaults = defaultRules(user_id)
  const merge = (kind: RuleKind): PushRule[] => {
    const own = stored[kind].filter((rule) => !rule.default)
    const settings = new Map(stored[kind].filter((rule) => rule.default).map((rule) => [rule.rule_id, rule]))
    const current = defaults[kind].map((rule) => {
      const chosen = settings.get(rule.rule_id)
      return chosen ? { ...rule, enabled: chosen.enabled, actions: chosen.actions } : rule
    })
    // The master rule alone goes above the user's own.
    const master = current[0]?.rule_id === masterRule ? current.splice(0, 1) : []
    return [...master, ...own, ...current]
  }
  return {
    override: merge('override'),
    content: merge('content'),
    room: merge('room'),
    sender: merge('sender'),
    underride: merge('underride'),
  }
}

const masterRule = '.m.rule.master'

function checkOwnName(rule_id: string): void {
  if (rule_id.startsWith('.')) {
    throw new MatrixError('M_INVALID_PARAM', "Rule ids that begin with a dot are the server's")
  }
  if (/[/\\]/.test(rule_id)) throw new MatrixError('M_INVALID_PARAM', 'Rule ids hold no slashes and no backslashes')
  if (rule_id === '' || new TextEncoder().encode(rule_id).length > 255) {
    throw new MatrixError('M_INVALID_PARAM', 'Rule ids are 1 to 255 bytes long')
  }
}

function checkCount(ruleset: PushRuleset): void {
  const count = Object.values(ruleset).reduce((sum, rules) => sum + rules.filter((rule) => !rule.default).length, 0)
  if (count >= ownRulesMax) throw new MatrixError('M_TOO_LARGE', `More than ${ownRulesMax} push rules`)
}

/** The keys that rules of the kind have; others are left out. */
function payloadOf(definition: RuleDefinition): Pick<PushRule, 'conditions' | 'pattern'> {
  switch (definition.kind) {
    case 'override':
    case 'underride':
      return { conditions: [...(definition.conditions ?? [])] }
    case 'content':
      if (definition.pattern === undefined) throw new MatrixError('M_MISSING_PARAM', 'A content rule has a pattern')
      return { pattern: definition.pattern }
    case 'room':
    case 'sender':
      return {}
  }
}

/** Where a rule goes among the others of its kind. `before` counts if both are given. */
function placeOf(rules: readonly PushRule[], before: string | undefined, after: string | undefined): number {
  const anchor = before ?? after
  if (anchor === undefined) return rules[0]?.rule_id === masterRule ? 1 : 0
  const index = rules.findIndex((rule) => rule.rule_id === anchor && !rule.default)
  if (index < 0) throw new MatrixError('M_UNKNOWN', `before/after rule not found: ${anchor}`, { status: 400 })
  return before !== undefined ? index : index + 1
}

function replaced(ruleset: PushRuleset, name: RuleName, rule: PushRule): PushRuleset {
  return { ...ruleset, [name.kind]: ruleset[name.kind].map((old) => (old.rule_id === name.rule_id ? rule : old)) }
}

function namesRoom(condition: PushCondition, room_id: RoomId): boolean {
  return condition.key === 'room_id' && (condition.pattern === room_id || condition.value === room_id)
}

/** Puts a copy after each rule that has none yet. */
function copiesBeside(
  rules: readonly PushRule[],
  chosen: (rule: PushRule) => boolean,
  copy: (rule: PushRule) => PushRule,
): readonly PushRule[] {
  const ids = new Set(rules.map((rule) => rule.rule_id))
  let changed = false
  const result = rules.flatMap((rule) => {
    if (!chosen(rule)) return [rule]
    const made = copy(rule)
    if (ids.has(made.rule_id)) return [rule]
    changed = true
    return [rule, made]
  })
  return changed ? result : rules
}
