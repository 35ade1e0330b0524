/** Keys of users' devices, and their cross-signing keys, with the signatures that the asker may see.
 *  https://spec.matrix.org/v1.19/client-server-api/#key-and-signature-security */
import * as v from 'valibot'
import { RawJson } from '../../../shared/http/route.ts'
import { UserId } from '../../../shared/matrix/ids.ts'
import { isJsonObject, type JsonObject } from '../../../shared/matrix/json-value.ts'
import { parseJsonObject } from '../../../shared/matrix/parse-json.ts'
import {
  type CrossSigningUsage,
  crossSigningKeysOf,
  deviceKeysOf,
  type StoredSignature,
  signaturesOn,
} from '../../../shared/storage/device-keys.ts'
import type { ReadSql } from '../../../shared/storage/sql.ts'
import { route } from '../deps.ts'
import { mapOf } from './map-of.ts'
import { unreachable } from './unreachable.ts'

/** Users whose keys are read together. */
const usersAtOnce = 200

export const postKeysQuery = route({
  method: 'POST',
  path: '/_matrix/client/v3/keys/query',
  spec: 'client-server-api/#post_matrixclientv3keysquery',
  auth: 'guest',
  body: v.object({
    timeout: v.optional(v.number()),
    device_keys: mapOf(UserId, v.nullable(v.array(v.string()))),
  }),
  async handle({ body, user }, { sql, config }) {
    const asked = new Map(Object.entries(body.device_keys) as [UserId, readonly string[] | null][])
    const { local, failures } = unreachable([...asked.keys()], config)
    const context = { sql, viewer: user.user_id, asked }
    const first = await portion(context, local.slice(0, usersAtOnce))
    return new RawJson(answer(context, local, first, failures))
  },
})

interface Context {
  readonly sql: ReadSql
  readonly viewer: UserId
  /** Ids of the devices that are wanted; none: all. */
  readonly asked: ReadonlyMap<UserId, readonly string[] | null>
}

/** Members of the answer's objects, as JSON text. */
interface Portion {
  readonly devices: string
  readonly keys: Readonly<Record<CrossSigningUsage, readonly string[]>>
}

/** Devices, which are many, are sent as they are read. */
async function* answer(
  context: Context,
  users: readonly UserId[],
  first: Portion,
  failures: object,
): AsyncIterable<string> {
  const keys: Record<CrossSigningUsage, string[]> = { master: [], self_signing: [], user_signing: [] }
  yield '{"device_keys":{'
  let next: Portion | undefined = first
  for (let i = usersAtOnce; next; i += usersAtOnce) {
    const read: Promise<Portion> | undefined =
      i < users.length ? portion(context, users.slice(i, i + usersAtOnce)) : undefined
    // A client that goes away leaves it unread by anybody.
    read?.catch(() => {})
    yield i > usersAtOnce ? `,${next.devices}` : next.devices
    for (const usage of ['master', 'self_signing', 'user_signing'] as const) keys[usage].push(...next.keys[usage])
    next = await read
  }
  yield `},"master_keys":{${keys.master}},"self_signing_keys":{${keys.self_signing}},`
  yield `"user_signing_keys":{${keys.user_signing}},"failures":${JSON.stringify(failures)}}`
}

async function portion({ sql, viewer, asked }: Context, users: readonly UserId[]): Promise<Portion> {
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
