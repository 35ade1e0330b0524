/** Answers that the edge gives itself. Web clients can read them: they carry CORS headers as those of the roles do. */
import { jsonHeaders } from '../../shared/http/headers.ts'
import { type Errcode, statusOf } from '../../shared/matrix/matrix-error.ts'

export interface EdgeAnswer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: string | undefined
}

function matrixError(
  errcode: Errcode,
  error: string,
  options: { status?: number; retryAfterMs?: number } = {},
): EdgeAnswer {
  const { status = statusOf[errcode], retryAfterMs } = options
  if (retryAfterMs === undefined) return { status, headers: jsonHeaders, body: JSON.stringify({ errcode, error }) }
  return {
    status,
    headers: {
      ...jsonHeaders,
      'Retry-After': String(Math.ceil(retryAfterMs / 1000)),
      'Access-Control-Expose-Headers': 'Retry-After',
    },
    body: JSON.stringify({ errcode, error, retry_after_ms: retryAfterMs }),
  }
}

export const unknownPath = matrixError('M_UNRECOGNIZED', 'This path is not known')
export const badTarget = matrixError('M_INVALID_PARAM', 'The request line holds no path')
export const tooLarge = matrixError('M_TOO_LARGE', 'The request body is larger than this server accepts')
/** Nothing was sent to any handler: the client may ask again, whatever it asked. */
export const noHandler = matrixError('M_UNAVAILABLE', 'The server cannot answer at the moment', { retryAfterMs: 2_000 })
/** A handler has the request, and whether it had an effect is not known. */
export const brokenOff = matrixError('M_UNAVAILABLE', 'The server broke off before it answered', {
  status: 502,
  retryAfterMs: 1_000,
})
/** The handler took longer than any request may take. */
export const tookTooLong = matrixError('M_UNAVAILABLE', 'The server did not answer in time', {
  status: 504,
  retryAfterMs: 1_000,
})
