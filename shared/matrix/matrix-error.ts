/** Errors for the caller: a code and a sentence; the table knows the HTTP status.
 *  https://spec.matrix.org/v1.19/client-server-api/#standard-error-response */
export const statusOf = {
  M_FORBIDDEN: 403,
  M_UNKNOWN_TOKEN: 401,
  M_MISSING_TOKEN: 401,
  M_UNAUTHORIZED: 401,
  M_BAD_JSON: 400,
  M_NOT_JSON: 400,
  M_NOT_FOUND: 404,
  M_LIMIT_EXCEEDED: 429,
  M_UNRECOGNIZED: 404,
  M_UNKNOWN: 500,
  M_USER_DEACTIVATED: 403,
  M_USER_LOCKED: 401,
  M_USER_SUSPENDED: 403,
  M_USER_IN_USE: 400,
  M_INVALID_USERNAME: 400,
  M_ROOM_IN_USE: 400,
  M_INVALID_ROOM_STATE: 400,
  M_UNSUPPORTED_ROOM_VERSION: 400,
  M_INCOMPATIBLE_ROOM_VERSION: 400,
  M_BAD_STATE: 400,
  M_GUEST_ACCESS_FORBIDDEN: 403,
  M_INVITE_BLOCKED: 403,
  M_MISSING_PARAM: 400,
  M_INVALID_PARAM: 400,
  M_INVALID_SIGNATURE: 400,
  M_TOO_LARGE: 413,
  M_EXCLUSIVE: 400,
  M_WEAK_PASSWORD: 400,
  M_UNABLE_TO_AUTHORISE_JOIN: 400,
  M_UNABLE_TO_GRANT_JOIN: 400,
  M_BAD_ALIAS: 400,
  M_DUPLICATE_ANNOTATION: 400,
  M_CANNOT_LEAVE_SERVER_NOTICE_ROOM: 403,
  M_RESOURCE_LIMIT_EXCEEDED: 403,
  M_PROFILE_TOO_LARGE: 400,
  M_KEY_TOO_LARGE: 400,
  M_WRONG_ROOM_KEYS_VERSION: 403,
  M_UNKNOWN_POS: 400,
  M_UNAVAILABLE: 503,
  M_NOT_YET_UPLOADED: 504,
  M_CANNOT_OVERWRITE_MEDIA: 409,
  'IO.ELEMENT.MSC4306.M_NOT_IN_THREAD': 400,
  'IO.ELEMENT.MSC4306.M_CONFLICTING_UNSUBSCRIPTION': 409,
} as const
export type Errcode = keyof typeof statusOf

export class MatrixError extends Error {
  readonly errcode: Errcode
  readonly status: number
  /** Further keys of the answer's body, such as `retry_after_ms`, `soft_logout` or the fields of user-interactive auth. */
  readonly extra: Readonly<Record<string, unknown>>
  constructor(errcode: Errcode, message: string, options: { status?: number; extra?: Record<string, unknown> } = {}) {
    super(message)
    this.name = 'MatrixError'
    this.errcode = errcode
    this.status = options.status ?? statusOf[errcode]
    this.extra = options.extra ?? {}
  }
}

/** https://spec.matrix.org/v1.19/client-server-api/#account-suspension */
export function suspendedError(): MatrixError {
  return new MatrixError('M_USER_SUSPENDED', 'This account is suspended: it can read and leave, and not do this')
}

/** The client keeps its session, for when the lock is lifted.
 *  https://spec.matrix.org/v1.19/client-server-api/#account-locking */
export function lockedError(): MatrixError {
  return new MatrixError('M_USER_LOCKED', 'This account is locked', { extra: { soft_logout: true } })
}
