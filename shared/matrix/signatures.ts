/** Ed25519 signatures on JSON. https://spec.matrix.org/v1.19/appendices/#signing-json */
import {
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  sign,
  verify,
} from 'node:crypto'
import { LRUCache } from 'lru-cache'
import { decodeBase64, encodeBase64, unpadded } from './base64.ts'
import { CanonicalJsonError, canonicalJsonLoose } from './canonical-json.ts'
import { isJsonObject, type JsonObject } from './json-value.ts'

export interface SigningKey {
  /** `ed25519:` and the version that tells a server's keys apart. */
  readonly keyId: `ed25519:${string}`
  readonly privateKey: KeyObject
  /** 32 bytes in unpadded base64, as published. */
  readonly publicKeyBase64: string
}

/** A new key with a version of its own. */
export function generateSigningKey(version = `a_${randomBytes(3).toString('hex')}`): SigningKey {
  return signingKey(version, generateKeyPairSync('ed25519').privateKey)
}

/** The key whose private half is these 32 bytes; undefined when they are not 32. */
export function signingKeyFromSeed(version: string, seed: Buffer): SigningKey | undefined {
  if (seed.length !== seedBytes) return undefined
  const privateKey = createPrivateKey({ key: Buffer.concat([pkcs8Prefix, seed]), format: 'der', type: 'pkcs8' })
  return signingKey(version, privateKey)
}

/** One key a line, `ed25519 <version> <seed in base64>`, the format of Synapse's signing key files. Throws on any other line. */
export function parseSigningKeyFile(text: string): SigningKey[] {
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')
    .map((line) => {
      const [algorithm, version, encoded, ...rest] = line.split(/\s+/)
      const seed = encoded === undefined ? undefined : decodeBase64(encoded)
      const key =
        algorithm === 'ed25519' && version !== undefined && seed !== undefined && rest.length === 0
          ? signingKeyFromSeed(version, seed)
          : undefined
      if (key === undefined) throw new Error('a line of the signing key file is not `ed25519 <version> <base64 seed>`')
      return key
    })
}

/** The line of a signing key file, with its newline. */
export function serialiseSigningKey(key: SigningKey): string {
  const der = key.privateKey.export({ format: 'der', type: 'pkcs8' })
  return `ed25519 ${key.keyId.slice('ed25519:'.length)} ${encodeBase64(der.subarray(der.length - seedBytes))}\n`
}

/** The signature of exactly this text, in unpadded base64. */
export function signText(text: string | Buffer, key: SigningKey): string {
  return unpadded(sign(null, asBytes(text), key.privateKey).toString('base64'))
}

/** The object with `signatures.<serverName>.<keyId>` added; signatures that were there stay. `unsigned` is not covered. */
export function signJson(object: JsonObject, serverName: string, key: SigningKey): JsonObject {
  const before = isJsonObject(object.signatures) ? object.signatures : {}
  const ours = isJsonObject(before[serverName]) ? before[serverName] : {}
  const signature = signText(signedText(object), key)
  return { ...object, signatures: { ...before, [serverName]: { ...ours, [key.keyId]: signature } } }
}

/** Finds a server's key by its id; undefined when it is not known, or not valid for what is being checked. */
export type KeyLookup = (keyId: string) => KeyObject | undefined

/** Whether `serverName` signed the object: at least one signature is by a key we know, and all that are hold.
 *  https://spec.matrix.org/v1.19/appendices/#checking-for-a-signature */
export function verifyJson(object: JsonObject, serverName: string, keys: KeyLookup): boolean {
  const text = checkedText(object)
  return text !== undefined && verifySignatures(object.signatures, text, serverName, keys)
}

/** Whether any signature on the object, whoever it names as signer, is by one of these keys. */
export function isSignedByAny(object: JsonObject, keys: readonly KeyObject[]): boolean {
  const text = checkedText(object)
  if (text === undefined || !isJsonObject(object.signatures)) return false
  const bytes = Buffer.from(text)
  return Object.values(object.signatures)
    .filter(isJsonObject)
    .flatMap((byKeyId) => Object.entries(byKeyId))
    .some(([id, signature]) => id.startsWith('ed25519:') && keys.some((key) => verifyText(bytes, signature, key)))
}

/** As `verifyJson`, where the signed text is at hand. */
export function verifySignatures(
  signatures: unknown,
  text: string | Buffer,
  serverName: string,
  keys: KeyLookup,
): boolean {
  if (!isJsonObject(signatures) || !Object.hasOwn(signatures, serverName)) return false
  const theirs = signatures[serverName]
  if (!isJsonObject(theirs)) return false
  const bytes = asBytes(text)
  let known = 0
  for (const keyId of Object.keys(theirs)) {
    if (!keyId.startsWith('ed25519:')) continue
    const key = keys(keyId)
    if (key === undefined) continue
    if (!verifyText(bytes, theirs[keyId], key)) return false
    known++
  }
  return known > 0
}

/** As `verifySignatures`, outside of the event loop: where there are many, other cores share the work. */
export async function verifySignaturesAside(
  signatures: unknown,
  text: Buffer,
  serverName: string,
  keys: KeyLookup,
): Promise<boolean> {
  if (!isJsonObject(signatures) || !Object.hasOwn(signatures, serverName)) return false
  const theirs = signatures[serverName]
  if (!isJsonObject(theirs)) return false
  const verified: Promise<boolean>[] = []
  for (const keyId of Object.keys(theirs)) {
    if (!keyId.startsWith('ed25519:')) continue
    const key = keys(keyId)
    if (key !== undefined) verified.push(verifyAside(text, theirs[keyId], key))
  }
  return verified.length > 0 && (await Promise.all(verified)).every((isTheirs) => isTheirs)
}

function verifyAside(text: Buffer, signature: unknown, key: KeyObject): Promise<boolean> {
  if (typeof signature !== 'string') return Promise.resolve(false)
  const bytes = decodeBase64(signature)
  if (bytes?.length !== signatureBytes) return Promise.resolve(false)
  return new Promise((resolve, reject) => {
    verify(null, text, key, bytes, (error, isTheirs) => (error ? reject(error) : resolve(isTheirs)))
  })
}

/** Whether `signature` (base64) is the key's on exactly this text. */
export function verifyText(text: string | Buffer, signature: unknown, key: KeyObject): boolean {
  if (typeof signature !== 'string') return false
  const bytes = decodeBase64(signature)
  return bytes?.length === signatureBytes && verify(null, asBytes(text), key, bytes)
}

const keyCache = new LRUCache<string, KeyObject>({ max: 10_000 })

/** The key whose 32 bytes are given in base64; undefined when they are no Ed25519 key. */
export function verifyKeyFromBase64(publicKeyBase64: string): KeyObject | undefined {
  const cached = keyCache.get(publicKeyBase64)
  if (cached !== undefined) return cached
  const bytes = decodeBase64(publicKeyBase64)
  if (bytes?.length !== publicKeyBytes) return undefined
  const key = createPublicKey({ key: Buffer.concat([spkiPrefix, bytes]), format: 'der', type: 'spki' })
  keyCache.set(publicKeyBase64, key)
  return key
}

const seedBytes = 32
const publicKeyBytes = 32
const signatureBytes = 64
// The DER headers before the 32 bytes of an Ed25519 key. https://www.rfc-editor.org/rfc/rfc8410
const pkcs8Prefix = Buffer.from('302e020100300506032b657004220420', 'hex')
const spkiPrefix = Buffer.from('302a300506032b6570032100', 'hex')

function signingKey(version: string, privateKey: KeyObject): SigningKey {
  const der = createPublicKey(privateKey).export({ format: 'der', type: 'spki' })
  const publicKeyBase64 = encodeBase64(der.subarray(der.length - publicKeyBytes))
  return { keyId: `ed25519:${version}`, privateKey, publicKeyBase64 }
}

function signedText(object: JsonObject): string {
  const { signatures: _signatures, unsigned: _unsigned, ...signed } = object
  return canonicalJsonLoose(signed)
}

/** Undefined for what has no canonical encoding, so that nobody can have signed it. */
function checkedText(object: JsonObject): string | undefined {
  try {
    return signedText(object)
  } catch (error) {
    if (error instanceof CanonicalJsonError) return undefined
    throw error
  }
}

function asBytes(text: string | Buffer): Buffer {
  return typeof text === 'string' ? Buffer.from(text) : text
}
