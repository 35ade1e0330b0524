/** What a host says about where its homeserver is. https://spec.matrix.org/v1.19/server-server-api/#getwell-knownmatrixserver */
import * as v from 'valibot'
import type { Egress } from '../egress/egress.ts'
import { EgressError } from '../egress/egress-error.ts'
import { ServerName } from '../matrix/ids.ts'
import { MatrixError } from '../matrix/matrix-error.ts'
import { parseJson } from '../matrix/parse-json.ts'

export interface WellKnown {
  /** Where requests go instead; undefined where the host says nothing that counts. */
  readonly delegated: ServerName | undefined
  /** How long that may be remembered; undefined where the host said nothing about it. */
  readonly maxAgeMs: number | undefined
}

const document = v.object({ 'm.server': ServerName })
const limits = { bytesMax: 50 * 1024, totalMs: 20_000 }
const redirectsMax = 5

/** Never throws: whatever is wrong with the answer means that there is none. */
export async function fetchWellKnown(egress: Egress, hostname: string, signal?: AbortSignal): Promise<WellKnown> {
  const nothing = { delegated: undefined, maxAgeMs: undefined }
  try {
    const answer = await egress.request({
      url: `https://${hostname}/.well-known/matrix/server`,
      headers: { accept: 'application/json' },
      redirects: redirectsMax,
      limits,
      ...(signal ? { signal } : {}),
    })
    if (answer.status !== 200) {
      answer.close()
      return nothing
    }
    const parsed = v.safeParse(document, parseJson((await answer.bytes()).toString('utf8')))
    if (!parsed.success) return nothing
    return { delegated: parsed.output['m.server'], maxAgeMs: maxAgeOf(answer.headers) }
  } catch (error) {
    // Caller's faults have their own types: what can fail here is the other side, or what it wrote.
    if (error instanceof EgressError || error instanceof MatrixError) return nothing
    throw error
  }
}

/** Of Cache-Control, which goes before Expires. */
function maxAgeOf(headers: Headers): number | undefined {
  const control = headers.get('cache-control')
  if (control !== null) {
    if (/(?:^|[,\s])(?:no-store|no-cache)(?:$|[,\s])/i.test(control)) return 0
    const seconds = /(?:^|[,\s])max-age="?(\d{1,10})/i.exec(control)?.[1]
    if (seconds !== undefined) return Number(seconds) * 1_000
  }
  const [expires, date] = [Date.parse(headers.get('expires') ?? ''), Date.parse(headers.get('date') ?? '')]
  return Number.isNaN(expires) || Number.isNaN(date) ? undefined : Math.max(0, expires - date)
}
