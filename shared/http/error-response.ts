/** The only place where an error becomes HTTP. https://spec.matrix.org/v1.19/client-server-api/#standard-error-response */
import { randomBytes } from 'node:crypto'
import { MatrixError } from '../matrix/matrix-error.ts'
import { isDatabaseAway } from '../storage/database-away.ts'
import { jsonHeaders } from './headers.ts'

const retryAfterOutageMs = 2_000

/** Where a stranger (an error that is no MatrixError) is told; pino's loggers have this shape. */
export interface ErrorLog {
  error(fields: object, message: string): void
}

/** What was asked, as far as it may be logged: the declared path, never the URL with its tokens. */
export interface FailedRequest {
  readonly method: string
  readonly path: string
  /** As the access log names it. */
  readonly request_id?: string | undefined
}

/** A MatrixError is answered as it is; a database that is away, with 503; anything else, with 500. What is no MatrixError
 *  is logged, never shown. */
export function errorResponse(error: unknown, request: FailedRequest, log: ErrorLog): Response {
  if (error instanceof MatrixError) return matrixErrorResponse(error)
  const request_id = request.request_id ?? randomBytes(9).toString('base64url')
  const fields = { request_id, method: request.method, path: request.path, err: error }
  if (isDatabaseAway(error)) {
    log.error(fields, 'a request found the database away')
    return matrixErrorResponse(
      new MatrixError('M_UNAVAILABLE', 'The server cannot answer at the moment', {
        extra: { retry_after_ms: retryAfterOutageMs },
      }),
    )
  }
  log.error(fields, 'a request failed unexpectedly')
  return matrixErrorResponse(new MatrixError('M_UNKNOWN', `Internal server error (request ${request_id})`))
}

export function matrixErrorResponse(error: MatrixError): Response {
  // `extra` comes last: the first answer of user-interactive auth has neither errcode nor error.
  const body = JSON.stringify({ errcode: error.errcode, error: error.message, ...error.extra })
  const retryAfterMs = error.extra.retry_after_ms
  const headers =
    typeof retryAfterMs === 'number'
      ? {
          ...jsonHeaders,
          'Retry-After': String(Math.max(1, Math.ceil(retryAfterMs / 1000))),
          'Access-Control-Expose-Headers': 'Retry-After',
        }
      : jsonHeaders
  return new Response(body, { status: error.status, headers })
}
