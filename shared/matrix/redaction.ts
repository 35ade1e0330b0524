/** The redaction algorithm, on the wire format. https://spec.matrix.org/v1.19/client-server-api/#redactions
 *  What survives is the room version's; hashes and signatures are made over the result. */
import type { EventRules } from './event-rules.ts'
import { isJsonObject, type JsonObject } from './json-value.ts'

type Rules = Pick<EventRules, 'redaction'>

/** A copy of the event without what redaction takes; `unsigned` goes too. Keys keep their order. */
export function redactPdu(rules: Rules, wire: JsonObject): JsonObject {
  const kept: JsonObject = {}
  for (const key of Object.keys(wire)) {
    if (!rules.redaction.keys.has(key)) continue
    kept[key] = key === 'content' ? contentOf(rules, wire) : wire[key]!
  }
  return kept
}

/** The part of `content` that survives. Keys keep their order; content of which nothing goes is returned itself. */
export function redactContent(rules: Rules, type: string, content: JsonObject): JsonObject {
  const keys = Object.hasOwn(rules.redaction.content, type) ? rules.redaction.content[type] : undefined
  if (keys === 'all') return content
  const kept: JsonObject = {}
  if (keys === undefined) return kept
  for (const key of Object.keys(content)) if (keys.includes(key)) kept[key] = content[key]!
  if (type === 'm.room.member' && rules.redaction.keepsThirdPartyInviteSigned) {
    const invite = content.third_party_invite
    // An object without `signed` stays as an empty one: event ids depend on it, and deployed servers agree on it.
    if (isJsonObject(invite)) {
      kept.third_party_invite = Object.hasOwn(invite, 'signed') ? { signed: invite.signed! } : {}
    }
  }
  return kept
}

/** True when redaction leaves `{}` of any content of this type. */
export function losesAllContent(rules: Rules, type: string): boolean {
  return !Object.hasOwn(rules.redaction.content, type)
}

function contentOf(rules: Rules, wire: JsonObject): JsonObject {
  const { type, content } = wire
  if (!isJsonObject(content)) return {}
  return typeof type === 'string' ? redactContent(rules, type, content) : {}
}
