import * as v from 'valibot'
import type { ClaimableKey } from '../../../shared/commands/keys.ts'
import { canonicalJsonLoose } from '../../../shared/matrix/canonical-json.ts'
import { isJsonObject, type JsonObject, type JsonValue } from '../../../shared/matrix/json-value.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { route } from '../deps.ts'
import { mapOf } from './map-of.ts'
import { ownSignatures } from './own-signatures.ts'

const DeviceKeys = v.looseObject({
  user_id: v.string(),
  device_id: v.string(),
  algorithms: v.array(v.string()),
  keys: mapOf(v.string(), v.string()),
  signatures: mapOf(v.string(), mapOf(v.string(), v.string())),
})
export const ClaimableKeys = v.nullish(
  mapOf(v.string(), v.union([v.string(), v.looseObject({ key: v.string() })], 'expected a key')),
)

/** `<algorithm>:<key_id>`. */
const keyName = /^([^:\0]{1,64}):([^\0]{1,255})$/s

export const postKeysUpload = route({
  method: 'POST',
  path: '/_matrix/client/v3/keys/upload',
  spec: 'client-server-api/#post_matrixclientv3keysupload',
  auth: 'guest',
  body: v.object({
    device_keys: v.optional(v.unknown()),
    one_time_keys: ClaimableKeys,
    fallback_keys: ClaimableKeys,
  }),
  async handle({ body, user: { user_id, device_id } }, { main }) {
    const device_keys = body.device_keys == null ? undefined : deviceKeys(body.device_keys, { user_id, device_id })
    const one_time_keys = claimableKeys(body.one_time_keys ?? {})
    const fallback_keys = claimableKeys(body.fallback_keys ?? {})
    checkOneAnAlgorithm(fallback_keys)
    return main.uploadKeys({
      user_id,
      device_id,
      ...(device_keys === undefined ? {} : { device_keys }),
      one_time_keys,
      fallback_keys,
    })
  },
})

export function checkOneAnAlgorithm(fallback_keys: readonly ClaimableKey[]): void {
  if (new Set(fallback_keys.map((key) => key.algorithm)).size < fallback_keys.length) {
    throw new MatrixError('M_INVALID_PARAM', 'A device has one fallback key an algorithm')
  }
}

/** JSON text of the device's keys, with the signatures of its own user alone. Throws M_BAD_JSON and M_INVALID_PARAM. */
export function deviceKeys(sent: unknown, of: { user_id: string; device_id: string }): string {
  if (!isJsonObject(sent) || !v.is(DeviceKeys, sent)) {
    throw new MatrixError(
      'M_BAD_JSON',
      'Key device_keys must have user_id, device_id, algorithms, keys and signatures, as texts and objects of texts',
    )
  }
  if (sent.user_id !== of.user_id || sent.device_id !== of.device_id) {
    throw new MatrixError('M_INVALID_PARAM', 'Key device_keys names another user or device than the caller')
  }
  const { unsigned: _, ...signed } = sent as JsonObject
  return canonicalJsonLoose({ ...signed, signatures: ownSignatures(signed, of.user_id) })
}

/** Canonical, so that equal keys are equal texts. Throws M_INVALID_PARAM for a name without an algorithm. */
export function claimableKeys(sent: Readonly<Record<string, unknown>>): ClaimableKey[] {
  return Object.entries(sent).map(([name, key]) => {
    const [, algorithm, key_id] = keyName.exec(name) ?? []
    if (algorithm === undefined || key_id === undefined) {
      throw new MatrixError('M_INVALID_PARAM', 'The name of a key must be <algorithm>:<key_id>')
    }
    return { algorithm, key_id, key: canonicalJsonLoose(key as JsonValue) }
  })
}
