/** Push rules as clients see them. https://spec.matrix.org/v1.19/client-server-api/#push-rules */
import * as v from 'valibot'

/** The kinds in the order in which their rules are tried. */
export const ruleKinds = ['override', 'content', 'room', 'sender', 'underride'] as const
export const RuleKind = v.picklist(ruleKinds)
export type RuleKind = v.InferOutput<typeof RuleKind>

/** `notify`, `{set_tweak, value?}`, or what no rule of the specification knows, which is kept and has no effect. */
export const PushAction = v.union([v.pipe(v.string(), v.maxBytes(255)), v.looseObject({ set_tweak: v.string() })])
export type PushAction = v.InferOutput<typeof PushAction>
export const PushActions = v.pipe(v.array(PushAction), v.maxLength(32))

/** A kind that is not recognised makes the rule match nothing. */
export const PushCondition = v.looseObject({ kind: v.string() })
export type PushCondition = v.InferOutput<typeof PushCondition>
export const PushConditions = v.pipe(v.array(PushCondition), v.maxLength(64))

export const PushRule = v.object({
  rule_id: v.string(),
  default: v.boolean(),
  enabled: v.boolean(),
  actions: v.array(PushAction),
  conditions: v.optional(v.array(PushCondition)),
  pattern: v.optional(v.string()),
})
export type PushRule = v.InferOutput<typeof PushRule>

const rules = v.array(PushRule)
/** Within a kind the first rule that matches counts. */
export const PushRuleset = v.object({
  override: rules,
  content: rules,
  room: rules,
  sender: rules,
  underride: rules,
})
export type PushRuleset = { readonly [Kind in RuleKind]: readonly PushRule[] }
