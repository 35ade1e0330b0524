import { MatrixError } from '../../../shared/matrix/matrix-error.ts'

/** Throws M_NOT_FOUND for what this server never gave out. */
export function versionNumber(version: string): number {
  if (!/^[1-9]\d{0,14}$/.test(version)) throw unknownVersion()
  return Number(version)
}

export function unknownVersion(): MatrixError {
  return new MatrixError('M_NOT_FOUND', 'There is no such backup')
}
