/** Keys of users of another server, as it tells them. https://spec.matrix.org/v1.19/server-server-api/#post_matrixfederationv1userkeysquery
 *  Nothing is kept: a list that is asked for when it is needed can't be an old one. */
import * as v from 'valibot'
import { type FederationClient, RemoteError } from '../../../shared/federation/federation-client.ts'
import type { QueriedKeys } from '../../../shared/keys/queried-keys.ts'
import type { ServerName, UserId } from '../../../shared/matrix/ids.ts'
import { isJsonObject, type JsonObject } from '../../../shared/matrix/json-value.ts'

const object = v.custom<JsonObject>(isJsonObject)
const queryAnswer = v.object({
  device_keys: object,
  master_keys: v.optional(object, {}),
  self_signing_keys: v.optional(object, {}),
})
const bytesMax = 32 * 1024 * 1024

/** Throws RemoteError, and what the time-out aborts with. */
export async function keysElsewhere(
  client: FederationClient,
  question: {
    readonly server: ServerName
    readonly users: readonly UserId[]
    readonly asked: ReadonlyMap<UserId, readonly string[] | null>
    readonly waitMs: number
  },
): Promise<QueriedKeys> {
  const { server, users, asked, waitMs } = question
  const device_keys = Object.fromEntries(users.map((user) => [user, [...(asked.get(user) ?? [])]]))
  const answer = v.safeParse(
    queryAnswer,
    await client.json(server, {
      method: 'POST',
      uri: '/_matrix/federation/v1/user/keys/query',
      body: { device_keys },
      signal: AbortSignal.timeout(waitMs),
      limits: { bytesMax },
    }),
  )
  if (!answer.success) throw new RemoteError('bad_answer', `${server} answered about keys with something else`)
  const { device_keys: devices, master_keys, self_signing_keys } = answer.output
  return {
    devices: users
      .flatMap((user) => {
        const theirs = devices[user]
        return isJsonObject(theirs) ? [`${JSON.stringify(user)}:${JSON.stringify(devicesOf(user, theirs))}`] : []
      })
      .join(','),
    keys: {
      master: ofUsers(users, master_keys),
      self_signing: ofUsers(users, self_signing_keys),
      user_signing: [],
    },
  }
}

/** Those that say they are what they are listed as: a server can't put one user's device into another's list. */
function devicesOf(user: UserId, devices: JsonObject): JsonObject {
  return Object.fromEntries(
    Object.entries(devices).filter(
      ([device_id, keys]) => isJsonObject(keys) && keys.user_id === user && keys.device_id === device_id,
    ),
  )
}

function ofUsers(users: readonly UserId[], keys: JsonObject): string[] {
  return users.flatMap((user) => {
    const key = keys[user]
    return isJsonObject(key) && key.user_id === user ? [`${JSON.stringify(user)}:${JSON.stringify(key)}`] : []
  })
}
