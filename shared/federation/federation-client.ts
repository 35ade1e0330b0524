/** Requests to other homeservers: found by their names, signed with this server's key, their answers parsed and limited.
 *  https://spec.matrix.org/v1.19/server-server-api/#authentication */
import * as v from 'valibot'
import type { Egress, EgressLimits, EgressResponse } from '../egress/egress.ts'
import { EgressError } from '../egress/egress-error.ts'
import type { ServerName } from '../matrix/ids.ts'
import { isJsonObject, type JsonObject, type JsonValue } from '../matrix/json-value.ts'
import { MatrixError } from '../matrix/matrix-error.ts'
import { parseJson } from '../matrix/parse-json.ts'
import { type SigningKey, signText } from '../matrix/signatures.ts'
import { formatXMatrix, signedRequestText, signedTextOf } from '../matrix/x-matrix.ts'
import type { Discovery } from './discovery.ts'
import type { ServerRules } from './server-rules.ts'

export interface FederationRequest {
  readonly method: 'GET' | 'PUT' | 'POST'
  /** Begins with `/_matrix/`, percent-encoded, with its query. */
  readonly uri: string
  readonly body?: JsonObject
  /** In place of `body`: the same as canonical JSON, which is signed and sent as it is. */
  readonly canonicalBody?: string
  readonly signal?: AbortSignal
  readonly limits?: Partial<EgressLimits>
  /** What the answer may be; JSON where nothing is said. */
  readonly accept?: string
  /** Whether compression is asked for and taken off. */
  readonly decode?: boolean
}

export interface FederationClient {
  /** The body of a 200, an object. Throws RemoteError for all else, and nothing else but what the signal aborts with. */
  json(server: ServerName, request: FederationRequest): Promise<JsonObject>
  /** The answer whatever its status, its body unread. Throws RemoteError where there is none. */
  raw(server: ServerName, request: FederationRequest): Promise<EgressResponse>
}

/** What another server did, which is data here: its 401 is no matter of our user's token. */
export class RemoteError extends Error {
  /** `denied`: this server does not talk to that one; `unreachable`: no answer; `bad_answer`: one that is not what it should
   *  be; `refused`: an error with a status. */
  readonly reason: 'denied' | 'unreachable' | 'bad_answer' | 'refused'
  readonly status: number | undefined
  readonly errcode: string | undefined
  constructor(
    reason: RemoteError['reason'],
    message: string,
    answer: { readonly status?: number; readonly errcode?: string | undefined } = {},
  ) {
    super(message)
    this.name = 'RemoteError'
    this.reason = reason
    this.status = answer.status
    this.errcode = answer.errcode
  }
}

const errorBody = v.object({ errcode: v.pipe(v.string(), v.maxLength(255)) })
const errorBytesMax = 64 * 1024

export function createFederationClient(deps: {
  readonly server_name: ServerName
  readonly signingKey: SigningKey
  readonly discovery: Discovery
  readonly egress: Egress
  readonly rules: ServerRules
}): FederationClient {
  const { server_name: origin, signingKey, discovery, egress, rules } = deps

  function authorization(server: ServerName, { method, uri, body, canonicalBody }: FederationRequest): string {
    const request = { method, uri, origin, destination: server }
    const text =
      canonicalBody === undefined
        ? signedRequestText({ ...request, content: body as JsonValue | undefined })
        : signedTextOf(request, canonicalBody)
    return formatXMatrix({ origin, destination: server, key: signingKey.keyId, sig: signText(text, signingKey) })
  }

  async function raw(server: ServerName, request: FederationRequest): Promise<EgressResponse> {
    if (server === origin || !rules.allows(server)) {
      throw new RemoteError('denied', `This server does not send requests to ${server}`)
    }
    const { method, uri, signal, limits, accept = 'application/json', decode = true } = request
    const body = request.canonicalBody ?? (request.body === undefined ? undefined : JSON.stringify(request.body))
    const headers = {
      accept,
      authorization: authorization(server, request),
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    }
    const targets = await discovery.targets(server)
    let failure: EgressError | undefined
    for (const { host, connectTo } of targets) {
      try {
        return await egress.request({
          url: `https://${host}${uri}`,
          connectTo,
          method,
          headers,
          decode,
          ...(body === undefined ? {} : { body }),
          ...(signal ? { signal } : {}),
          ...(limits ? { limits } : {}),
        })
      } catch (error) {
        if (!(error instanceof EgressError)) throw error
        failure = error
        // Of several servers the next one may be there; what was begun may have had its effect.
        if (signal?.aborted || !neverBegan.has(error.reason)) break
      }
    }
    signal?.throwIfAborted()
    throw new RemoteError('unreachable', failure?.message ?? `${server} has no address`)
  }

  return {
    raw,
    async json(server, request) {
      const answer = await raw(server, request)
      try {
        if (answer.status !== 200) throw await refusalOf(server, answer)
        const body = parseJson((await answer.bytes()).toString('utf8'))
        if (!isJsonObject(body)) throw new RemoteError('bad_answer', `${server} answered with no JSON object`)
        return body
      } catch (error) {
        request.signal?.throwIfAborted()
        if (error instanceof RemoteError) throw error
        if (error instanceof EgressError || error instanceof MatrixError) {
          throw new RemoteError('bad_answer', `${server}: ${error.message}`)
        }
        throw error
      } finally {
        answer.close()
      }
    },
  }
}

const neverBegan: ReadonlySet<EgressError['reason']> = new Set(['unresolved', 'unreachable', 'tls', 'denied'])

/** What an answer that is no success says of itself. Reads its body. */
export async function refusalOf(server: ServerName, answer: EgressResponse): Promise<RemoteError> {
  const { status } = answer
  let errcode: string | undefined
  try {
    let text = ''
    const decoder = new TextDecoder()
    for await (const part of answer.body) {
      text += decoder.decode(part, { stream: true })
      if (text.length > errorBytesMax) break
    }
    const parsed = v.safeParse(errorBody, parseJson(text))
    if (parsed.success) errcode = parsed.output.errcode
  } catch (error) {
    // The status says enough.
    if (!(error instanceof EgressError) && !(error instanceof MatrixError)) throw error
  }
  return new RemoteError('refused', `${server} answered ${status}${errcode === undefined ? '' : ` ${errcode}`}`, {
    status,
    errcode,
  })
}
