/** A request of the doctor, whose failure is an answer too. */
import type { Egress, EgressRequest } from '../../../shared/egress/egress.ts'
import { EgressError } from '../../../shared/egress/egress-error.ts'

/** An answer as far as the doctor reads it; `json` is undefined where it is none. */
export interface Answered {
  readonly status: number
  readonly headers: Headers
  readonly json: unknown
}

const limits = { bytesMax: 256 * 1024, totalMs: 20_000 }

/** Never rejects for what the other side does. */
export async function ask(egress: Egress, request: EgressRequest): Promise<Answered | { readonly failure: string }> {
  try {
    const answer = await egress.request({ limits, ...request })
    const text = (await answer.bytes()).toString('utf8')
    return { status: answer.status, headers: answer.headers, json: parsed(text) }
  } catch (error) {
    if (error instanceof EgressError) return { failure: error.message }
    throw error
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
