/** The only place where an error becomes HTTP. https://spec.matrix.org/v1.19/client-server-api/#standard-error-response */
import { randomBytes } from 'node:crypto'
import { MatrixError } from '../matrix/matrix-error.ts'
import { jsonHeaders } from './headers.ts'

/** Where a stranger (an error that is no MatrixError) is told; pino's loggers have this shape. */
export interface ErrorLog {
  error(fields: object, message: string): void
}

/** What was asked, as far as it may be logged: the declared path, never the URL with its tokens. */
export interface FailedRequest {
  readonly method: string
  readonly path: string
}

/** A MatrixError is answered as it is; anything else answers 500 and is logged, never shown. */
export function errorResponse(error: unknown, request: FailedRequest, log: ErrorLog): Response {
  if (error instanceof MatrixError) return matrixErrorResponse(error)
  const request_id = randomBytes(9).toString('base64url')
  log.error({ request_id, method: request.method, path: request.path, err: error }, 'a request failed unexpectedly')
  return matrixErrorResponse(new MatrixError('M_UNKNOWN', `Internal server error (request ${request_id})`))
}

export function matrixErrorResponse(error: MatrixError): Response {
  // `extra` comes last: the first answer of user-interactive auth has neither errcode nor error.
  const body = JSON.stringify({ errcode: error.errcode, error: error.message, ...error.extra })
  const retryAfterMs = error.extra.retry_after_ms
  const headers =
    typeof retryAfterMs === 'number'
      ? { ...jsonHeaders, 'Retry-After': String(Math.max(1, Math.ceil(retryAfterMs / 1000))) }
      : jsonHeaders
  return new Response(body, { status: error.status, headers })
}
