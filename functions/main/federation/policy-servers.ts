/** Asks policy servers for their signatures.
 *  https://spec.matrix.org/v1.19/server-server-api/#asking-for-a-policy-server-signature-on-an-event */
import * as v from 'valibot'
import { EgressError } from '../../../shared/egress/egress-error.ts'
import { type FederationClient, RemoteError } from '../../../shared/federation/federation-client.ts'
import { type Errcode, MatrixError, statusOf } from '../../../shared/matrix/matrix-error.ts'
import { parseJsonObject } from '../../../shared/matrix/parse-json.ts'
import { type PolicyServers, policyKeyId } from '../rooms/policy-server.ts'

/** A room waits so long for its policy server, at most. */
const answerMs = 10_000
const bytesMax = 64 * 1024

const refusalBody = v.object({ errcode: v.pipe(v.string(), v.maxLength(255)), error: v.optional(v.string(), '') })

export function createPolicyServers(client: FederationClient): PolicyServers {
  return {
    async ask(server, wire) {
      try {
        const answer = await client.raw(server, {
          method: 'POST',
          uri: '/_matrix/policy/v1/sign',
          body: wire,
          limits: { totalMs: answerMs, firstByteMs: answerMs, bytesMax },
        })
        try {
          const body = parseJsonObject((await answer.bytes()).toString('utf8'))
          if (answer.status === 200) {
            const signed = v.parse(v.record(v.string(), v.record(v.string(), v.string())), body)
            const signature = signed[server]?.[policyKeyId]
            return signature === undefined ? { refusal: unclear(server) } : { signature }
          }
          const refusal = v.parse(refusalBody, body)
          if (answer.status >= 500) return { refusal: unclear(server) }
          const { errcode, error } = refusal
          // As it was said, as far as clients know the code.
          return { refusal: new MatrixError(isErrcode(errcode) ? errcode : 'M_FORBIDDEN', error.slice(0, 1_000)) }
        } finally {
          answer.close()
        }
      } catch (error) {
        if (
          error instanceof RemoteError ||
          error instanceof EgressError ||
          error instanceof MatrixError ||
          v.isValiError(error)
        ) {
          return { refusal: unclear(server) }
        }
        throw error
      }
    },
  }
}

const isErrcode = (code: string): code is Errcode => Object.hasOwn(statusOf, code)

function unclear(server: string): MatrixError {
  return new MatrixError('M_UNAVAILABLE', `The room's policy server, ${server}, gives no clear answer`, {
    extra: { retry_after_ms: 5_000 },
  })
}
