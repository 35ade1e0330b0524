/** The body of a transaction, as canonical JSON put together from pieces that are canonical JSON already.
 *  https://spec.matrix.org/v1.19/server-server-api/#transactions */
import { CanonicalJsonError, canonicalJsonLoose } from '../../../../shared/matrix/canonical-json.ts'
import { parseText } from '../../../../shared/matrix/engine-json.ts'
import { wireFromParts } from '../../../../shared/matrix/event-format.ts'

/** Where `content` belongs in an envelope that has no other key before it than this. */
const authEvents = /^\{"auth_events":\[(?:"[^"\\]*",?)*\],(?="d)/

/** A PDU in canonical JSON, of its two stored texts. */
export function canonicalPdu(envelope: string, content: string): string {
  const before = authEvents.exec(envelope)?.[0]
  // Versions 1 and 2 name auth events with their hashes, and an event may have keys that nobody knows.
  if (before === undefined) return canonicalJsonLoose(parseText(wireFromParts(envelope, content)))
  return `${before}"content":${content},${envelope.slice(before.length)}`
}

/** An EDU in canonical JSON; undefined where `content` is none: it must not keep others from being sent. */
export function canonicalEdu(edu_type: string, content: string): string | undefined {
  try {
    return canonicalJsonLoose({ edu_type, content: parseText(content) })
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof CanonicalJsonError) return undefined
    throw error
  }
}

export function transactionBody(transaction: {
  readonly origin: string
  readonly origin_server_ts: number
  readonly pdus: readonly string[]
  readonly edus: readonly string[]
}): string {
  const { origin, origin_server_ts, pdus, edus } = transaction
  const passing = edus.length === 0 ? '' : `"edus":[${edus.join(',')}],`
  return `{${passing}"origin":${JSON.stringify(origin)},"origin_server_ts":${origin_server_ts},"pdus":[${pdus.join(',')}]}`
}
