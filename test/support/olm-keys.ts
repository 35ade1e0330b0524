/** Keys as clients make them: signed, and otherwise of no use. */
import { randomBytes } from 'node:crypto'
import { encodeBase64 } from '../../shared/matrix/base64.ts'
import type { JsonObject } from '../../shared/matrix/json-value.ts'
import { generateSigningKey, type SigningKey, signJson } from '../../shared/matrix/signatures.ts'

interface Owner {
  readonly user_id: string
  readonly device_id: string
}

const curveKey = () => encodeBase64(randomBytes(32))

export interface OlmDevice {
  readonly signing: SigningKey
  readonly device_keys: JsonObject
  /** Signed one-time keys with these ids. */
  oneTimeKeys(...ids: string[]): Record<string, JsonObject>
  fallbackKey(id: string): Record<string, JsonObject>
}

export function olmDevice({ user_id, device_id }: Owner): OlmDevice {
  const signing = generateSigningKey(device_id)
  const keys = { [`ed25519:${device_id}`]: signing.publicKeyBase64, [`curve25519:${device_id}`]: curveKey() }
  const algorithms = ['m.olm.v1.curve25519-aes-sha2', 'm.megolm.v1.aes-sha2']
  const signed = (object: JsonObject) => signJson(object, user_id, signing)
  return {
    signing,
    device_keys: signed({ user_id, device_id, algorithms, keys }),
    oneTimeKeys: (...ids) =>
      Object.fromEntries(ids.map((id) => [`signed_curve25519:${id}`, signed({ key: curveKey() })])),
    fallbackKey: (id) => ({ [`signed_curve25519:${id}`]: signed({ key: curveKey(), fallback: true }) }),
  }
}

export interface CrossSigning {
  readonly master: SigningKey
  readonly selfSigning: SigningKey
  readonly userSigning: SigningKey
  /** The body of an upload. */
  readonly body: {
    readonly master_key: JsonObject
    readonly self_signing_key: JsonObject
    readonly user_signing_key: JsonObject
  }
}

/** A key of this usage, named by its public half, and signed where there is a signer. */
export function crossSigningKey(user_id: string, usage: string, key: SigningKey, signer?: SigningKey): JsonObject {
  const object = { user_id, usage: [usage], keys: { [key.keyId]: key.publicKeyBase64 } }
  return signer ? signJson(object, user_id, signer) : object
}

export function namedKey(): SigningKey {
  const key = generateSigningKey()
  return { ...key, keyId: `ed25519:${key.publicKeyBase64}` }
}

export function crossSigning(user_id: string, master = namedKey()): CrossSigning {
  const [selfSigning, userSigning] = [namedKey(), namedKey()]
  return {
    master,
    selfSigning,
    userSigning,
    body: {
      master_key: crossSigningKey(user_id, 'master', master),
      self_signing_key: crossSigningKey(user_id, 'self_signing', selfSigning, master),
      user_signing_key: crossSigningKey(user_id, 'user_signing', userSigning, master),
    },
  }
}
