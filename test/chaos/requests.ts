/** Requests through whatever happens: repeated until they are answered, and a record of what may not be told. */
import { setTimeout as sleep } from 'node:timers/promises'

export interface Person {
  readonly user_id: string
  readonly access_token: string
}

interface Answered {
  readonly status: number
  readonly json: Record<string, unknown>
}

export type Insist = (
  method: string,
  path: string,
  token: string,
  body?: unknown,
  options?: InsistOptions,
) => Promise<Record<string, unknown>>

export interface InsistOptions {
  /** An errcode that is an answer too. */
  readonly orErrcode?: string
  /** The request is none that the edge may repeat: that an answer broke off is told, and is no refusal. Called for each time
   *  that it was not answered with success: whether it had an effect then is not known. */
  readonly onBroken?: () => void
}

export interface Requests {
  /** Requests that were told to come back, by status. */
  readonly refused: ReadonlyMap<number, number>
  /** What may not happen: answers that are no Matrix errors, codes that nothing explains. Callers add what they find. */
  readonly strange: string[]
  /** The longest that one request took to be answered with success, repetitions included. */
  readonly slowestMs: number
  /** Repeats a request until it is answered with success. Only for what may be repeated. */
  readonly insist: Insist
}

const requestMsMax = 60_000
const againMs = 50

export function requestsTo(baseUrl: string): Requests {
  const refused = new Map<number, number>()
  const strange: string[] = []
  let slowestMs = 0

  async function ask(method: string, path: string, token: string, body?: unknown): Promise<Answered> {
    const answer = await fetch(baseUrl + path, {
      method,
      headers: { Authorization: `Bearer ${token}` },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(requestMsMax),
    })
    const text = await answer.text()
    const json = parsed(text)
    if (!json) throw new Error(`${method} ${path}: ${answer.status} and no JSON: ${text.slice(0, 200)}`)
    return { status: answer.status, json }
  }

  return {
    refused,
    strange,
    get slowestMs() {
      return slowestMs
    },
    async insist(method, path, token, body, { orErrcode, onBroken } = {}) {
      const beganMs = performance.now()
      for (;;) {
        const answered = await ask(method, path, token, body).catch((error: unknown) => String(error))
        if (typeof answered === 'string') strange.push(answered)
        else if (answered.status === 200 || (orErrcode && answered.json.errcode === orErrcode)) {
          slowestMs = Math.max(slowestMs, performance.now() - beganMs)
          return answered.json
        } else {
          const { status, json } = answered
          if (!(onBroken && status === 502)) refused.set(status, (refused.get(status) ?? 0) + 1)
          const explained = [429, 502, 503, 504].includes(status) && typeof json.errcode === 'string'
          if (!explained) strange.push(`${method} ${path}: ${status} ${JSON.stringify(json)}`)
        }
        onBroken?.()
        if (performance.now() - beganMs > 2 * requestMsMax) throw new Error(`${method} ${path} was never answered`)
        await sleep(againMs)
      }
    },
  }
}

function parsed(text: string): Record<string, unknown> | undefined {
  try {
    return JSON.parse(text) as Record<string, unknown>
  } catch {
    return undefined
  }
}
