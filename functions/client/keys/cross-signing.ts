/** https://spec.matrix.org/v1.19/client-server-api/#cross-signing */
import * as v from 'valibot'
import type { CrossSigningKeyWrite, SignedKey } from '../../../shared/commands/keys.ts'
import { decodeBase64, unpadded } from '../../../shared/matrix/base64.ts'
import { canonicalJsonLoose } from '../../../shared/matrix/canonical-json.ts'
import { UserId } from '../../../shared/matrix/ids.ts'
import type { JsonObject } from '../../../shared/matrix/json-value.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { type CrossSigningUsage, crossSigningKeysOf, crossSigningUsages } from '../../../shared/storage/device-keys.ts'
import { Auth, ownerFlows, requireInteractiveAuth } from '../accounts/interactive-auth.ts'
import { route } from '../deps.ts'
import { mapOf } from './map-of.ts'
import { ownSignatures } from './own-signatures.ts'

const publicKeyBytes = 32
const signedMax = 2_000

const CrossSigningKey = v.looseObject({
  user_id: v.string(),
  usage: v.array(v.string()),
  keys: mapOf(v.string(), v.string()),
  signatures: v.optional(mapOf(v.string(), mapOf(v.string(), v.string()))),
})
type CrossSigningKey = v.InferOutput<typeof CrossSigningKey>

export const postDeviceSigningUpload = route({
  method: 'POST',
  path: '/_matrix/client/v3/keys/device_signing/upload',
  spec: 'client-server-api/#post_matrixclientv3keysdevice_signingupload',
  auth: 'user',
  limit: 'account',
  body: v.object({
    master_key: v.nullish(CrossSigningKey),
    self_signing_key: v.nullish(CrossSigningKey),
    user_signing_key: v.nullish(CrossSigningKey),
    auth: Auth,
  }),
  async handle({ body, user: { user_id } }, deps) {
    const sent = new Map<CrossSigningUsage, CrossSigningKeyWrite>()
    for (const usage of crossSigningUsages) {
      const key = body[`${usage}_key`]
      if (key) sent.set(usage, parsedKey(key, usage, user_id))
    }
    const held = await crossSigningKeysOf(deps.sql, [user_id])
    // The first set is free, and so is sending again what is there.
    const hasMaster = held.some((key) => key.usage === 'master')
    const isNew = [...sent].some(
      ([usage, { public_key }]) => !held.some((key) => key.usage === usage && key.public_key === public_key),
    )
    const authenticated = hasMaster && isNew
    if (authenticated) {
      const operation = 'replace the cross-signing keys'
      await requireInteractiveAuth(deps, { operation, user_id, flows: ownerFlows, once: true, auth: body.auth })
    }
    return deps.main.uploadCrossSigningKeys({ user_id, authenticated, ...Object.fromEntries(sent) })
  },
})

/** Throws M_INVALID_PARAM for a key of somebody else, or that is not one Ed25519 key for this usage. */
function parsedKey(sent: CrossSigningKey, usage: CrossSigningUsage, user_id: UserId): CrossSigningKeyWrite {
  const name = `${usage}_key`
  if (sent.user_id !== user_id) throw new MatrixError('M_INVALID_PARAM', `Key ${name} is of another user`)
  if (!sent.usage.includes(usage)) {
    throw new MatrixError('M_INVALID_PARAM', `Key ${name} must have ${usage} among its usages`)
  }
  const [entry, ...others] = Object.entries(sent.keys)
  const [id = '', key = ''] = entry ?? []
  const public_key = unpadded(key)
  if (others.length > 0 || id !== `ed25519:${public_key}` || decodeBase64(public_key)?.length !== publicKeyBytes) {
    throw new MatrixError(
      'M_INVALID_PARAM',
      `Key ${name} must hold one key, ed25519:<public key>, of 32 bytes in base64`,
    )
  }
  const { unsigned: _, ...signed } = sent as unknown as JsonObject
  return { public_key, key: canonicalJsonLoose({ ...signed, signatures: ownSignatures(signed, user_id) }) }
}

export const postSignaturesUpload = route({
  method: 'POST',
  path: '/_matrix/client/v3/keys/signatures/upload',
  spec: 'client-server-api/#post_matrixclientv3keyssignaturesupload',
  auth: 'user',
  body: mapOf(UserId, mapOf(v.string(), v.looseObject({}))),
  async handle({ body, user: { user_id } }, { main }) {
    const signed: SignedKey[] = Object.entries(body).flatMap(([owner, keys]) =>
      Object.entries(keys).map(([key_id, object]) => ({
        user_id: owner as UserId,
        key_id,
        object: canonicalJsonLoose(object as JsonObject),
      })),
    )
    if (signed.length > signedMax) {
      throw new MatrixError('M_TOO_LARGE', `${signedMax} signed keys at most are taken at once`)
    }
    const failures = new Map<string, Map<string, object>>()
    if (signed.length > 0) {
      const answer = await main.uploadSignatures({ user_id, signed })
      for (const { user_id: owner, key_id, errcode, error } of answer.failures) {
        const keys = failures.get(owner) ?? new Map<string, object>()
        failures.set(owner, keys.set(key_id, { errcode, error }))
      }
    }
    return {
      failures: Object.fromEntries([...failures].map(([owner, keys]) => [owner, Object.fromEntries(keys)])),
    }
  },
})
