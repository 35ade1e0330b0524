/** Redactions of stored events, and when they take effect. The algorithm itself is in shared/matrix/redaction.ts.
 *  https://spec.matrix.org/v1.19/rooms/v11/#handling-redactions */
import { canonicalJsonFor } from '../matrix/canonical-json.ts'
import { parseText } from '../matrix/engine-json.ts'
import type { JsonObject } from '../matrix/json-value.ts'
import { parseJsonLossless } from '../matrix/lossless-json.ts'
import type { Pdu } from '../matrix/pdu.ts'
import { redactContent, redactPdu } from '../matrix/redaction.ts'
import { domainOf } from '../matrix/user-id.ts'
import { type AuthState, actionLevel, powerLevelOf } from './power-levels.ts'
import type { RoomRules } from './room-versions.ts'

export { redactContent, redactPdu }

/** The two texts of a stored event after its redaction. */
export function redactStored(
  rules: RoomRules,
  stored: { readonly type: string; readonly envelope: string; readonly content: string },
): { envelope: string; content: string } {
  const parse = rules.strictCanonicalJson ? parseText : parseJsonLossless
  const content = parse(stored.content) as JsonObject
  const { content: _content, ...envelope } = redactPdu(rules, parse(stored.envelope) as JsonObject)
  return {
    envelope: canonicalJsonFor(rules, envelope),
    content: canonicalJsonFor(rules, redactContent(rules, stored.type, content)),
  }
}

/** Whether a redaction that the authorisation rules let pass changes its target; `state` is the room's at the redaction.
 *  Both events are of one room. */
export function redactionApplies(
  rules: RoomRules,
  redaction: Pick<Pdu, 'sender'>,
  target: Pick<Pdu, 'sender'>,
  state: AuthState,
): boolean {
  if (rules.redactionsAreAuthorised) return true
  if (domainOf(redaction.sender) === domainOf(target.sender)) return true
  return powerLevelOf(rules, state, redaction.sender) >= actionLevel(rules, state, 'redact')
}
