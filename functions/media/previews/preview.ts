import { MatrixError } from '../../../shared/matrix/matrix-error.ts'

/** The answer to the client: Open Graph's properties, and those of Matrix about the picture. */
export type Preview = Readonly<Record<string, string | number>>

/** For what may be tried again later. */
export function notFetched(message: string): MatrixError {
  return new MatrixError('M_UNKNOWN', message, { status: 502 })
}
