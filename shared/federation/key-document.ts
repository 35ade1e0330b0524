/** What a server publishes about its keys, checked. https://spec.matrix.org/v1.19/server-server-api/#publishing-keys */
import type { KeyObject } from 'node:crypto'
import * as v from 'valibot'
import { ServerName } from '../matrix/ids.ts'
import type { JsonObject } from '../matrix/json-value.ts'
import { verifyJson, verifyKeyFromBase64 } from '../matrix/signatures.ts'

export const KeyId = v.pipe(v.string(), v.regex(/^ed25519:\w{1,200}$/))
const time = v.pipe(v.number(), v.safeInteger(), v.minValue(0))
const publicKey = v.pipe(
  v.string(),
  v.maxLength(64),
  v.check((key) => verifyKeyFromBase64(key) !== undefined, 'expected the 32 bytes of an Ed25519 key in base64'),
)
const keysMax = 100

/** A key of a server. `valid_until_ts`: how long it may be taken for good without asking again; `expired_ts`: from when on
 *  it signs nothing any more, null while it does. */
export const ServerKey = v.object({
  key_id: KeyId,
  public_key: publicKey,
  valid_until_ts: time,
  expired_ts: v.nullable(time),
})
export type ServerKey = v.InferOutput<typeof ServerKey>

export interface KeyDocument {
  readonly server_name: ServerName
  readonly keys: readonly ServerKey[]
  /** As it came, for those who ask this server as a notary. */
  readonly document: JsonObject
  readonly valid_until_ts: number
}

/** Keys of other algorithms are left out. */
const keysById = <Key extends v.GenericSchema<unknown, { key: string }>>(key: Key) =>
  v.pipe(
    v.record(v.string(), v.unknown()),
    v.transform((all) => Object.fromEntries(Object.entries(all).filter(([id]) => id.startsWith('ed25519:')))),
    v.check((all) => Object.keys(all).length <= keysMax, `expected at most ${keysMax} keys`),
    v.record(KeyId, key),
  )

const schema = v.object({
  server_name: ServerName,
  valid_until_ts: time,
  verify_keys: keysById(v.object({ key: publicKey })),
  old_verify_keys: v.optional(keysById(v.object({ key: publicKey, expired_ts: time })), {}),
})

/** Nobody is to be able to make a key that can't be withdrawn. */
const validMostMs = 7 * 24 * 3_600_000

/** undefined where it is not the server's, not signed with one of its keys, or has a signature of one that does not hold. */
export function checkedKeyDocument(
  document: JsonObject,
  { server_name, now }: { readonly server_name: ServerName; readonly now: number },
): KeyDocument | undefined {
  const parsed = v.safeParse(schema, document)
  if (!parsed.success || parsed.output.server_name !== server_name) return undefined
  const { verify_keys, old_verify_keys } = parsed.output
  const current = new Map<string, KeyObject | undefined>(
    Object.entries(verify_keys).map(([id, { key }]) => [id, verifyKeyFromBase64(key)]),
  )
  if (!verifyJson(document, server_name, (id) => current.get(id))) return undefined
  const valid_until_ts = Math.min(parsed.output.valid_until_ts, now + validMostMs)
  const keys: ServerKey[] = [
    ...Object.entries(old_verify_keys).map(([key_id, { key, expired_ts }]) => ({
      key_id,
      public_key: key,
      valid_until_ts: expired_ts,
      expired_ts,
    })),
    ...Object.entries(verify_keys).map(([key_id, { key }]) => ({
      key_id,
      public_key: key,
      valid_until_ts,
      expired_ts: null,
    })),
  ]
  // One that is listed as both is in use.
  const byId = new Map(keys.map((key) => [key.key_id, key]))
  return { server_name, keys: [...byId.values()], document, valid_until_ts }
}
