/** Rooms whose events a policy server has to recommend. https://spec.matrix.org/v1.19/server-server-api/#policy-servers */
import * as v from 'valibot'
import { canonicalJson } from '../../../shared/matrix/canonical-json.ts'
import { parseText } from '../../../shared/matrix/engine-json.ts'
import { type StoredEvent, wireFromParts } from '../../../shared/matrix/event-format.ts'
import { redactedForSigning } from '../../../shared/matrix/hashes.ts'
import { ServerName, serverNameOf } from '../../../shared/matrix/ids.ts'
import { isJsonObject, type JsonObject } from '../../../shared/matrix/json-value.ts'
import type { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { verifyKeyFromBase64, verifyText } from '../../../shared/matrix/signatures.ts'
import { type Room, stateEntry } from './room.ts'

export interface PolicyServers {
  /** Its signature on the event, in base64, or why there is none. Never rejects for a server that does not answer. */
  ask(server: ServerName, wire: JsonObject): Promise<{ readonly signature: string } | { readonly refusal: MatrixError }>
}

export interface RoomPolicy {
  readonly via: ServerName
  /** Unpadded base64. */
  readonly key: string
}

const policyContent = v.object({ via: ServerName, public_keys: v.object({ ed25519: v.string() }) })
/** The one key that a policy server signs with. */
export const policyKeyId = 'ed25519:policy_server'

/** https://spec.matrix.org/v1.19/server-server-api/#determining-if-a-policy-server-is-enabled-in-a-room
 *  The m.room.policy event is loaded with its room. */
export function policyOf(room: Room, event: { readonly type: string; readonly state_key?: string | undefined }) {
  const entry = stateEntry(room, 'm.room.policy', '')
  if (!entry?.loaded || (event.type === 'm.room.policy' && event.state_key === '')) return undefined
  const parsed = v.safeParse(policyContent, entry.loaded.pdu.content)
  if (!parsed.success) return undefined
  const { via, public_keys } = parsed.output
  return hasMemberOf(room, via) ? { via, key: public_keys.ed25519 } : undefined
}

function hasMemberOf(room: Room, server: ServerName): boolean {
  for (const [key, { membership }] of room.state) {
    if (membership === 'join' && key.startsWith('m.room.member\0') && serverNameOf(key.slice(14)) === server)
      return true
  }
  return false
}

/** The event as the policy server recommends it, or why it does not. One that it signed before is not shown to it again. */
export async function recommended(
  servers: PolicyServers,
  room: Room,
  { via, key }: RoomPolicy,
  event: StoredEvent,
): Promise<{ readonly event: StoredEvent } | { readonly refusal: MatrixError | undefined }> {
  const wire = parseText(wireFromParts(event.envelope, event.content)) as JsonObject
  const signatures = isJsonObject(wire.signatures) ? wire.signatures : {}
  const theirs = isJsonObject(signatures[via]) ? signatures[via] : {}
  const publicKey = verifyKeyFromBase64(key)
  if (!publicKey) return { refusal: undefined }
  const text = redactedForSigning(room.rules, wire)
  if (verifyText(text, theirs[policyKeyId], publicKey)) return { event }
  const answer = await servers.ask(via, wire)
  if ('refusal' in answer) return answer
  if (!verifyText(text, answer.signature, publicKey)) return { refusal: undefined }
  const envelope = parseText(event.envelope) as JsonObject
  envelope.signatures = { ...signatures, [via]: { ...theirs, [policyKeyId]: answer.signature } }
  return { event: { ...event, envelope: canonicalJson(envelope) } }
}
