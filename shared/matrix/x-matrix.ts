/** The Authorization header of requests between servers, and what it signs.
 *  https://spec.matrix.org/v1.19/server-server-api/#request-authentication */
import { canonicalJsonLoose } from './canonical-json.ts'
import type { JsonValue } from './json-value.ts'

export interface XMatrix {
  readonly origin: string
  /** Older servers leave it out. */
  readonly destination: string | undefined
  /** With its algorithm: `ed25519:a_1234`. */
  readonly key: string
  /** In unpadded base64. */
  readonly sig: string
}

export interface SignedRequest {
  readonly method: string
  /** Path and query exactly as they are sent. */
  readonly uri: string
  readonly origin: string
  /** The server's name, whatever it delegates to. */
  readonly destination: string
  /** The body as parsed; undefined where there is none. */
  readonly content: JsonValue | undefined
}

/** Longer ones are no names, keys and signatures. */
const headerCharsMax = 2_048
/** A token of RFC 9110, section 5.6.2; and colons, which older servers do not quote. */
const parameter = /[ \t]*([\w!#$%&'*+.^`|~-]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([\w!#$%&'*+.^`|~:-]+))[ \t]*(?:,|$)/y

/** undefined: no header of this scheme, or a parameter that is missing, empty, given twice or no `name=value`. */
export function parseXMatrix(header: string): XMatrix | undefined {
  if (header.length > headerCharsMax) return undefined
  const scheme = /^X-Matrix +/i.exec(header)
  if (!scheme) return undefined
  const values = new Map<string, string>()
  for (let at = scheme[0].length; at < header.length; at = parameter.lastIndex) {
    parameter.lastIndex = at
    const [whole, name = '', quoted, token] = parameter.exec(header) ?? []
    if (whole === undefined) return undefined
    const key = name.toLowerCase()
    if (values.has(key)) return undefined
    values.set(key, quoted === undefined ? (token ?? '') : quoted.replace(/\\(.)/g, '$1'))
  }
  const [origin, key, sig] = [values.get('origin'), values.get('key'), values.get('sig')]
  if (!origin || !key || !sig) return undefined
  return { origin, destination: values.get('destination'), key, sig }
}

/** In the form that the oldest servers read too. */
export function formatXMatrix({ origin, destination, key, sig }: Required<XMatrix> & { destination: string }): string {
  return `X-Matrix origin="${origin}",destination="${destination}",key="${key}",sig="${sig}"`
}

/** As `signedRequestText`, of a body that is canonical JSON already: nothing is read or written anew. */
export function signedTextOf(request: Omit<SignedRequest, 'content'>, canonicalContent: string): string {
  const rest = canonicalJsonLoose({ ...request })
  return `{"content":${canonicalContent},${rest.slice(1)}`
}

/** The text that a request's signature is on. Throws CanonicalJsonError where the body has none. */
export function signedRequestText({ content, ...request }: SignedRequest): string {
  return canonicalJsonLoose(content === undefined ? request : { ...request, content })
}
