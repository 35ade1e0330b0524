/** Why a request to the outside failed. */

export type EgressReason =
  /** No URL, or none of http and https, or one with a name and password in it. */
  | 'bad_url'
  /** All addresses of the host, or its port, are among those that are not to be reached. */
  | 'denied'
  /** The host has no address, or the name servers do not answer. */
  | 'unresolved'
  /** Nobody takes the connection. */
  | 'unreachable'
  /** The certificate is not the host's, or no connection under TLS comes about. */
  | 'tls'
  | 'timeout'
  /** More bytes than are taken, on the wire or decompressed, or too many headers. */
  | 'too_large'
  /** More redirects than are followed, or one that is not followed at all. */
  | 'redirect'
  /** So many requests are under way already that this one was not begun. */
  | 'busy'
  /** The caller gave the request up. */
  | 'aborted'
  /** What came is not HTTP, not what its headers say, or ended too early. */
  | 'broken'

/** Its message is for logs and for administrators. It names the host at most: paths and queries may hold secrets, and what
 *  the libraries below say may hold parts of the answer. */
export class EgressError extends Error {
  readonly reason: EgressReason
  constructor(reason: EgressReason, message: string) {
    super(message)
    this.name = 'EgressError'
    this.reason = reason
  }
}

/** An error from the sockets, the TLS or the HTTP below, as one of ours; what is one already stays. */
export function egressErrorOf(error: unknown, host: string): EgressError {
  if (error instanceof EgressError) return error
  const code = codeOf(error)
  const reason = reasonOf(code)
  return new EgressError(reason, `${sentences[reason]} ${host}${code === '' ? '' : ` (${code})`}`)
}

const sentences: Readonly<Record<EgressReason, string>> = {
  bad_url: 'Not a usable URL at',
  denied: 'Not to be reached:',
  unresolved: 'No address is known of',
  unreachable: 'No connection to',
  tls: 'No secure connection to',
  timeout: 'Too slow:',
  too_large: 'Too much came from',
  redirect: 'A redirect that is not followed, from',
  busy: 'Too many requests are under way to',
  aborted: 'Given up:',
  broken: 'The answer broke off or makes no sense:',
}

const reasons: Readonly<Record<string, EgressReason>> = {
  ENOTFOUND: 'unresolved',
  EAI_AGAIN: 'unresolved',
  ENODATA: 'unresolved',
  ESERVFAIL: 'unresolved',
  ECONNREFUSED: 'unreachable',
  EHOSTUNREACH: 'unreachable',
  ENETUNREACH: 'unreachable',
  EADDRNOTAVAIL: 'unreachable',
  ETIMEDOUT: 'timeout',
  EPROTO: 'tls',
  UND_ERR_HEADERS_OVERFLOW: 'too_large',
  HPE_HEADER_OVERFLOW: 'too_large',
  UND_ERR_MAX_ORIGINS_REACHED: 'busy',
  UND_ERR_ABORTED: 'aborted',
}

function reasonOf(code: string): EgressReason {
  const reason = reasons[code]
  if (reason) return reason
  return /^(?:ERR_(?:TLS|SSL|OSSL)_|CERT_|UNABLE_TO_|DEPTH_ZERO_|SELF_SIGNED_|HOSTNAME_MISMATCH|INVALID_CA)/.test(code)
    ? 'tls'
    : 'broken'
}

/** Of several addresses each failed in its own way: the first says it. */
function codeOf(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return codeOf(error.errors[0])
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : ''
}
