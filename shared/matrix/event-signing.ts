/** Hashes and signatures on events in their wire format: those of other servers, and those we sign for somebody.
 *  https://spec.matrix.org/v1.19/server-server-api/#signing-events */
import type { EventRules } from './event-rules.ts'
import { contentHash, redactedForSigning } from './hashes.ts'
import { isJsonObject, type JsonObject } from './json-value.ts'
import { type KeyLookup, type SigningKey, signText, verifySignatures } from './signatures.ts'
import { domainOf } from './user-id.ts'

/** The event with its content hash and our signature. https://spec.matrix.org/v1.19/server-server-api/#adding-hashes-and-signatures-to-outgoing-events */
export function hashAndSignEvent(rules: EventRules, wire: JsonObject, serverName: string, key: SigningKey): JsonObject {
  return signEvent(rules, { ...wire, hashes: { sha256: contentHash(rules, wire) } }, serverName, key)
}

/** The event with our signature beside those it has, as for an invite or a restricted join of another server's user. */
export function signEvent(rules: EventRules, wire: JsonObject, serverName: string, key: SigningKey): JsonObject {
  const signatures = isJsonObject(wire.signatures) ? wire.signatures : {}
  const ours = isJsonObject(signatures[serverName]) ? signatures[serverName] : {}
  const signature = signText(redactedForSigning(rules, wire), key)
  return { ...wire, signatures: { ...signatures, [serverName]: { ...ours, [key.keyId]: signature } } }
}

/** Whether the server signed the event. Holds for the full event as for a redacted copy. Throws CanonicalJsonError on an
 *  event that `parsePdu` refuses. */
export function isSignedBy(rules: EventRules, wire: JsonObject, serverName: string, keys: KeyLookup): boolean {
  return verifySignatures(wire.signatures, redactedForSigning(rules, wire), serverName, keys)
}

/** The servers that must have signed an event for it to be valid, beside the one that authorises a restricted join.
 *  https://spec.matrix.org/v1.19/server-server-api/#validating-hashes-and-signatures-on-received-events */
export function requiredSigners(rules: EventRules, wire: JsonObject): string[] {
  const signers = new Set<string>()
  if (!isThirdPartyInvite(wire) && typeof wire.sender === 'string') signers.add(domainOf(wire.sender))
  if (rules.eventIdFormat === 'given' && typeof wire.event_id === 'string') signers.add(domainOf(wire.event_id))
  return [...signers]
}

/** Such an invite may be sent by another server than its sender's, once the invited address belongs to somebody. */
function isThirdPartyInvite({ type, content }: JsonObject): boolean {
  return (
    type === 'm.room.member' &&
    isJsonObject(content) &&
    content.membership === 'invite' &&
    content.third_party_invite !== undefined
  )
}
