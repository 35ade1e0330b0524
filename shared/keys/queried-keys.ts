/** Keys of this server's users as others are told them: each with the signatures that the asker may see.
 *  https://spec.matrix.org/v1.19/client-server-api/#key-and-signature-security */
import type { UserId } from '../matrix/ids.ts'
import { isJsonObject, type JsonObject } from '../matrix/json-value.ts'
import { parseJsonObject } from '../matrix/parse-json.ts'
import {
  type CrossSigningUsage,
  crossSigningKeysOf,
  deviceKeysOf,
  type StoredSignature,
  signaturesOn,
} from '../storage/device-keys.ts'
import type { ReadSql } from '../storage/sql.ts'

export interface KeyQuestion {
  readonly sql: ReadSql
  /** Who asks; absent: another server, which sees what each user says of themself. */
  readonly viewer?: UserId | undefined
  /** Ids of the devices that are wanted; none: all. */
  readonly asked: ReadonlyMap<UserId, readonly string[] | null>
}

/** Members of the answer's objects, as JSON text. */
export interface QueriedKeys {
  readonly devices: string
  readonly keys: Readonly<Record<CrossSigningUsage, readonly string[]>>
}

export async function queriedKeys({ sql, viewer, asked }: KeyQuestion, users: readonly UserId[]): Promise<QueriedKeys> {
  const [devices, crossSigning, signatures] = await Promise.all([
    deviceKeysOf(sql, users),
    crossSigningKeysOf(sql, users),
    signaturesOn(sql, users, viewer),
  ])
  const signaturesOf = new Map<string, StoredSignature[]>()
  for (const signature of signatures) {
    const place = `${signature.user_id}\0${signature.key_id}`
    const known = signaturesOf.get(place)
    if (known) known.push(signature)
    else signaturesOf.set(place, [signature])
  }
  const signed = (user: UserId, key_id: string, object: string): JsonObject =>
    withSignatures(parseJsonObject(object), signaturesOf.get(`${user}\0${key_id}`) ?? [])

  // Users without devices are there too: nothing was in the way of asking for them.
  const members = new Map<UserId, string[]>(users.map((user) => [user, []]))
  for (const { user_id, device_id, keys, display_name } of devices) {
    const wanted = asked.get(user_id) ?? []
    if (wanted.length > 0 && !wanted.includes(device_id)) continue
    const unsigned = display_name === null ? {} : { device_display_name: display_name }
    const object = { ...signed(user_id, device_id, keys), unsigned }
    members.get(user_id)?.push(`${JSON.stringify(device_id)}:${JSON.stringify(object)}`)
  }
  const keys: Record<CrossSigningUsage, string[]> = { master: [], self_signing: [], user_signing: [] }
  for (const { user_id, usage, public_key, key } of crossSigning) {
    // Whom a user trusts is for that user to know.
    if (usage === 'user_signing' && user_id !== viewer) continue
    keys[usage].push(`${JSON.stringify(user_id)}:${JSON.stringify(signed(user_id, public_key, key))}`)
  }
  return { devices: [...members].map(([user, list]) => `${JSON.stringify(user)}:{${list}}`).join(','), keys }
}

function withSignatures(object: JsonObject, further: readonly StoredSignature[]): JsonObject {
  if (further.length === 0) return object
  const all = new Map(Object.entries(isJsonObject(object.signatures) ? object.signatures : {}))
  for (const { signer, signing_key, signature } of further) {
    const own = all.get(signer)
    all.set(signer, { ...(isJsonObject(own) ? own : {}), [signing_key]: signature })
  }
  return { ...object, signatures: Object.fromEntries(all) }
}
