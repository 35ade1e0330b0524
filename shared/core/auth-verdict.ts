/** What the authorisation rules answer. A PDU that breaks a rule is an answer, not an accident: nothing here throws. */
import type { RoomRules, RuleName } from './room-versions.ts'

export type AuthVerdict = Allowed | Rejected
export interface Allowed {
  readonly allowed: true
}
export interface Rejected {
  readonly allowed: false
  /** Its number in the room version's page of the specification, such as `4.3.5.2`. */
  readonly rule: string
  readonly reason: string
}

export const allow: Allowed = { allowed: true }

/** `step` is the number within the rule, for rules whose steps are the same in every version. */
export function reject(rules: RoomRules, rule: RuleName, step: string, reason: string): Rejected {
  const number = rules.ruleNumbers[rule] ?? rule
  return { allowed: false, rule: step === '' ? number : `${number}.${step}`, reason }
}
