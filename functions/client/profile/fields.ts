/** Which fields a profile can have, and which of them users may change.
 *  https://spec.matrix.org/v1.19/client-server-api/#mprofile_fields-capability */
import type { Config } from '../../../shared/config/schema.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'

const keyBytesMax = 255
const known = new Set(['displayname', 'avatar_url', 'm.tz'])
/** What others define is named as packages in Java are: https://spec.matrix.org/v1.19/appendices/#common-namespaced-identifier-grammar */
const custom = /^[a-z][a-z0-9_-]*(?:\.[a-z0-9_-]+)+$/

/** Throws M_KEY_TOO_LARGE, M_INVALID_PARAM. */
export function checkFieldName(keyName: string): void {
  if (Buffer.byteLength(keyName) > keyBytesMax) {
    throw new MatrixError('M_KEY_TOO_LARGE', `The name of a field has ${keyBytesMax} bytes at most`)
  }
  if (!known.has(keyName) && !custom.test(keyName)) {
    throw new MatrixError('M_INVALID_PARAM', 'This is no name for a field, such as org.example.pronouns')
  }
}

export function mayChangeField(keyName: string, { profile_fields }: Pick<Config, 'profile_fields'>): boolean {
  const { enabled, allowed, disallowed } = profile_fields
  if (!enabled) return false
  return allowed ? allowed.includes(keyName) : !disallowed?.includes(keyName)
}
