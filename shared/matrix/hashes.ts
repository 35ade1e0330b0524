/** Content and reference hashes. https://spec.matrix.org/v1.19/server-server-api/#signing-events */
import { hash } from 'node:crypto'
import { decodeBase64, unpadded } from './base64.ts'
import { canonicalJsonFor } from './canonical-json.ts'
import type { EventRules } from './event-rules.ts'
import type { EventId } from './ids.ts'
import { isJsonObject, type JsonObject } from './json-value.ts'
import { redactPdu } from './redaction.ts'

type Rules = Pick<EventRules, 'redaction' | 'strictCanonicalJson' | 'eventIdFormat'>

/** SHA-256 of the whole event but `unsigned`, `signatures` and `hashes`, in unpadded base64.
 *  https://spec.matrix.org/v1.19/server-server-api/#calculating-the-content-hash-for-an-event */
export function contentHash(rules: Pick<EventRules, 'strictCanonicalJson'>, wire: JsonObject): string {
  const { unsigned: _unsigned, signatures: _signatures, hashes: _hashes, ...hashed } = wire
  return sha256Base64(canonicalJsonFor(rules, hashed))
}

/** Whether `hashes.sha256` is the event's content hash. When it is not, the event is to be treated as redacted. */
export function contentHashMatches(rules: Pick<EventRules, 'strictCanonicalJson'>, wire: JsonObject): boolean {
  const given = isJsonObject(wire.hashes) ? wire.hashes.sha256 : undefined
  if (typeof given !== 'string') return false
  const bytes = decodeBase64(given)
  return bytes !== undefined && unpadded(bytes.toString('base64')) === contentHash(rules, wire)
}

/** SHA-256 of the redacted event but `signatures` and `unsigned`, in the alphabet of the version's event ids.
 *  https://spec.matrix.org/v1.19/server-server-api/#calculating-the-reference-hash-for-an-event */
export function referenceHash(rules: Rules, wire: JsonObject): string {
  return referenceHashOf(rules, redactedForSigning(rules, wire))
}

/** The text that servers sign: the redacted event's canonical JSON without `signatures` and `unsigned`. */
export function redactedForSigning(rules: Rules, wire: JsonObject): string {
  const { signatures: _signatures, unsigned: _unsigned, ...signed } = redactPdu(rules, wire)
  return canonicalJsonFor(rules, signed)
}

/** The reference hash, given the text that is hashed. */
export function referenceHashOf(rules: Pick<EventRules, 'eventIdFormat'>, text: string | Buffer): string {
  return rules.eventIdFormat === 'url-safe' ? hash('sha256', text, 'base64url') : sha256Base64(text)
}

/** The event's id: from the wire in room versions 1 and 2, `$` and the reference hash later; undefined when the wire has none. */
export function eventIdOf(rules: Rules, wire: JsonObject): EventId | undefined {
  if (rules.eventIdFormat !== 'given') return `$${referenceHash(rules, wire)}` as EventId
  return typeof wire.event_id === 'string' ? (wire.event_id as EventId) : undefined
}

export function sha256Base64(text: string | Buffer): string {
  return unpadded(hash('sha256', text, 'base64'))
}
