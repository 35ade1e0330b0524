/** Takes signatures on keys that are there: by a user's self-signing key on their devices, by their devices on their master
 *  key, and by their user-signing key on others' master keys.
 *  https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3keyssignaturesupload */
import type { RequestOf, ResponseOf } from '../../../../shared/commands/define.ts'
import type { keyCommands, SignedKey } from '../../../../shared/commands/keys.ts'
import type { MainClient } from '../../../../shared/commands/registry.ts'
import type { UserId } from '../../../../shared/matrix/ids.ts'
import { isJsonObject, type JsonObject } from '../../../../shared/matrix/json-value.ts'
import { parseJsonObject } from '../../../../shared/matrix/parse-json.ts'
import { verifyKeyFromBase64, verifyText } from '../../../../shared/matrix/signatures.ts'
import {
  type CrossSigningUsage,
  crossSigningKeysOf,
  deviceKeysOf,
  type StoredSignature,
} from '../../../../shared/storage/device-keys.ts'
import { pgText } from '../../../../shared/storage/sql.ts'
import type { DeviceListRow } from '../../../../shared/streams/device-lists.ts'
import { answered } from '../../command-call.ts'
import { joinWrites, type Unplaced, type Writes } from '../../persist/writes.ts'
import type { KeyDeps } from './index.ts'
import { signedPart } from './signed-part.ts'

type Request = RequestOf<(typeof keyCommands)['uploadSignatures']>
type Response = ResponseOf<(typeof keyCommands)['uploadSignatures']>
type Failure = Omit<Response['failures'][number], 'user_id' | 'key_id'>
const text = 25

/** A key that signatures may be put on, and whose may be. */
interface Signable {
  /** JSON text. */
  readonly object: string
  /** Public keys in base64 by the id of the signing key. */
  readonly signers: ReadonlyMap<string, string>
}

export function signatureHandlers(deps: KeyDeps): Pick<MainClient, 'uploadSignatures'> {
  return { uploadSignatures: (request) => deps.queue.run(request.user_id, () => upload(deps, request)) }
}

async function upload(deps: KeyDeps, { user_id, signed }: Request): Promise<Response> {
  const signable = await signableKeys(deps, user_id, signed)
  const signatures: StoredSignature[] = []
  const failures: Response['failures'] = []
  const lists = new Map<UserId, Unplaced<DeviceListRow>>()
  for (const { user_id: owner, key_id, object } of signed) {
    const found = check(user_id, parseJsonObject(object), signable.get(nameOf(owner, key_id)))
    if ('errcode' in found) {
      failures.push({ user_id: owner, key_id, ...found })
      continue
    }
    for (const [signing_key, signature] of found.signatures) {
      signatures.push({ user_id: owner, key_id, signer: user_id, signing_key, signature })
    }
    // What a user says of others is for that user's eyes alone.
    lists.set(owner, owner === user_id ? { user_id } : { user_id: owner, viewer: user_id })
  }
  const answer = { failures }
  if (signatures.length > 0) {
    await deps.committer.commit(
      joinWrites({ device_lists: [...lists.values()] }, signatureWrites(signatures), answered(answer)),
    )
  }
  return answer
}

const nameOf = (user: UserId, key_id: string) => `${user}\0${key_id}`

async function signableKeys({ sql }: KeyDeps, user_id: UserId, signed: readonly SignedKey[]) {
  const users = [...new Set([user_id, ...signed.map((key) => key.user_id)])]
  const [devices, keys] = await Promise.all([deviceKeysOf(sql, [user_id]), crossSigningKeysOf(sql, users)])
  const publicKey = (usage: CrossSigningUsage) => {
    const key = keys.find((known) => known.user_id === user_id && known.usage === usage)?.public_key
    return key === undefined ? [] : [[`ed25519:${key}`, key] as const]
  }
  const byOwnDevices = new Map(
    devices.flatMap(({ device_id, keys: object }) => {
      const id = `ed25519:${device_id}`
      const { keys: held } = parseJsonObject(object)
      const key = isJsonObject(held) && Object.hasOwn(held, id) ? held[id] : undefined
      return typeof key === 'string' ? [[id, key] as const] : []
    }),
  )
  const signable = new Map<string, Signable>()
  for (const { device_id, keys: object } of devices) {
    signable.set(nameOf(user_id, device_id), { object, signers: new Map(publicKey('self_signing')) })
  }
  for (const key of keys) {
    if (key.usage !== 'master') continue
    const signers = key.user_id === user_id ? byOwnDevices : new Map(publicKey('user_signing'))
    signable.set(nameOf(key.user_id, key.public_key), { object: key.key, signers })
  }
  return signable
}

function check(
  signer: UserId,
  sent: JsonObject,
  key: Signable | undefined,
): Failure | { readonly signatures: readonly (readonly [string, string])[] } {
  if (!key) return { errcode: 'M_NOT_FOUND', error: 'There is no such key, or its signatures are not yours to make' }
  const signed = signedPart(sent)
  if (signed !== signedPart(key.object)) {
    return { errcode: 'M_INVALID_SIGNATURE', error: 'The object is not the key that is there' }
  }
  const all = isJsonObject(sent.signatures) ? sent.signatures : {}
  const own = Object.hasOwn(all, signer) ? all[signer] : undefined
  const signatures: [string, string][] = []
  for (const [id, signature] of Object.entries(isJsonObject(own) ? own : {})) {
    const publicKey = key.signers.get(id)
    const verifyKey = publicKey === undefined ? undefined : verifyKeyFromBase64(publicKey)
    if (!verifyKey) continue
    if (typeof signature !== 'string' || !verifyText(signed, signature, verifyKey)) {
      return { errcode: 'M_INVALID_SIGNATURE', error: `The signature by ${id} does not hold` }
    }
    signatures.push([id, signature])
  }
  if (signatures.length > 0) return { signatures }
  return { errcode: 'M_INVALID_SIGNATURE', error: 'There is no signature by a key that may sign this one' }
}

function signatureWrites(signatures: readonly StoredSignature[]): Writes {
  return {
    also(tx) {
      const column = (name: keyof StoredSignature) =>
        tx.array(
          signatures.map((signature) => pgText(signature[name])),
          text,
        )
      return [
        tx`insert into key_signatures (user_id, key_id, signer, signing_key, signature)
          select distinct on (user_id, key_id, signer, signing_key) user_id, key_id, signer, signing_key, signature
          from unnest(${column('user_id')}::text[], ${column('key_id')}::text[], ${column('signer')}::text[],
            ${column('signing_key')}::text[], ${column('signature')}::text[])
            as s(user_id, key_id, signer, signing_key, signature)
          on conflict (user_id, key_id, signer, signing_key) do update set signature = excluded.signature`,
      ]
    },
  }
}
