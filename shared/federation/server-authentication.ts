/** Which server sent a request. https://spec.matrix.org/v1.19/server-server-api/#request-authentication */

import * as v from 'valibot'
import type { Clock } from '../clock.ts'
import { CanonicalJsonError } from '../matrix/canonical-json.ts'
import { ServerName } from '../matrix/ids.ts'
import type { JsonValue } from '../matrix/json-value.ts'
import { MatrixError } from '../matrix/matrix-error.ts'
import { verifyText } from '../matrix/signatures.ts'
import { parseXMatrix, signedRequestText } from '../matrix/x-matrix.ts'
import type { KeyRing } from './key-ring.ts'
import type { ServerRules } from './server-rules.ts'

export interface ReceivedRequest {
  readonly method: string
  /** Path and query as they came. */
  readonly uri: string
  readonly authorization: string | null
  readonly content: JsonValue | undefined
}

/** What is said to a server that signed a request to itself, and signed it well. */
export const asksItself = 'A server does not ask itself'

/** The server that signed the request. Throws M_UNAUTHORIZED where that can't be told, for whatever reason, and M_FORBIDDEN
 *  for a server that this one has nothing to do with. */
export type AuthenticateServer = (request: ReceivedRequest) => Promise<ServerName>

export function createServerAuthentication(deps: {
  readonly server_name: ServerName
  readonly keyRing: KeyRing
  readonly rules: ServerRules
  readonly clock: Clock
}): AuthenticateServer {
  const { server_name, keyRing, rules, clock } = deps
  return async ({ method, uri, authorization, content }) => {
    if (authorization === null) throw new MatrixError('M_UNAUTHORIZED', 'The request is not signed')
    const header = parseXMatrix(authorization)
    if (!header) throw new MatrixError('M_UNAUTHORIZED', 'The Authorization header is not one of X-Matrix')
    const origin = v.safeParse(ServerName, header.origin)
    if (!origin.success) throw new MatrixError('M_UNAUTHORIZED', 'The origin is no server name')
    if (header.destination !== undefined && header.destination !== server_name) {
      throw new MatrixError('M_UNAUTHORIZED', `The request is for another server than ${server_name}`)
    }
    const isOwn = origin.output === server_name
    if (!isOwn && !rules.allows(origin.output)) {
      throw new MatrixError('M_FORBIDDEN', 'This server does not federate with yours')
    }
    const text = textOf({ method, uri, origin: origin.output, destination: server_name, content })
    // Keys that were replaced sign events, and no requests.
    const validAt = clock.now()
    const wanted = { server_name: origin.output, key_ids: [header.key], validAt }
    const key = (await keyRing.load([wanted])).key(origin.output, header.key, validAt)
    if (!key) throw new MatrixError('M_UNAUTHORIZED', `No key ${header.key.slice(0, 64)} of ${origin.output} is known`)
    if (!verifyText(text, header.sig, key)) {
      throw new MatrixError('M_UNAUTHORIZED', 'The signature does not fit the request')
    }
    // Last, so that the doctor hears whether a signature fits what comes through a proxy.
    if (isOwn) throw new MatrixError('M_UNAUTHORIZED', asksItself)
    return origin.output
  }
}

function textOf(request: Parameters<typeof signedRequestText>[0]): string {
  try {
    return signedRequestText(request)
  } catch (error) {
    if (error instanceof CanonicalJsonError) throw new MatrixError('M_BAD_JSON', 'The body has no canonical form')
    throw error
  }
}
