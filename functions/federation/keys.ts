/** Devices and keys of users of this server, for other servers.
 *  https://spec.matrix.org/v1.19/server-server-api/#end-to-end-encryption */
import * as v from 'valibot'
import { RawJson } from '../../shared/http/route.ts'
import { claimLocalKeys, type WantedKeys } from '../../shared/keys/claim-local.ts'
import { queriedKeys } from '../../shared/keys/queried-keys.ts'
import { type ServerName, serverNameOf, UserId } from '../../shared/matrix/ids.ts'
import { isJsonObject } from '../../shared/matrix/json-value.ts'
import { MatrixError } from '../../shared/matrix/matrix-error.ts'
import { deviceListPosition } from '../../shared/storage/device-lists.ts'
import { route } from './deps.ts'

const asked = { auth: 'server', limit: 'federation', sticky: 'origin' } as const
/** Users in one question. */
const usersMax = 1_000
const bodyBytesMax = 1024 * 1024

const byUser = <Value>(value: v.GenericSchema<unknown, Value>) =>
  v.pipe(
    v.custom<Record<string, unknown>>(isJsonObject),
    v.record(v.string(), value),
    v.check((users) => Object.keys(users).length <= usersMax, `expected at most ${usersMax} users`),
  )

/** Those of this server; about others another is to be asked. */
function own(users: Readonly<Record<string, unknown>>, server_name: ServerName): UserId[] {
  return Object.keys(users).flatMap((user) =>
    v.is(UserId, user) && serverNameOf(user) === server_name ? [user as UserId] : [],
  )
}

export const getUserDevices = route({
  method: 'GET',
  path: '/_matrix/federation/v1/user/devices/:userId',
  spec: 'server-server-api/#get_matrixfederationv1userdevicesuserid',
  ...asked,
  params: v.object({ userId: UserId }),
  async handle({ params: { userId } }, { sql, config }) {
    if (serverNameOf(userId) !== config.server_name) {
      throw new MatrixError('M_INVALID_PARAM', `${userId} is not a user of this server`)
    }
    // The position first: what changes while the list is read is told again.
    const stream_id = await deviceListPosition(sql, userId)
    const { devices, keys } = await queriedKeys({ sql, asked: new Map() }, [userId])
    const list = Object.entries(
      (JSON.parse(`{${devices}}`) as Record<string, Record<string, DeviceKeys>>)[userId] ?? {},
    )
    const [master] = keys.master
    const [selfSigning] = keys.self_signing
    return {
      user_id: userId,
      stream_id,
      devices: list.map(([device_id, { unsigned, ...keys }]) => ({
        device_id,
        keys,
        ...(unsigned?.device_display_name === undefined ? {} : { device_display_name: unsigned.device_display_name }),
      })),
      ...(master === undefined ? {} : { master_key: keyIn(master, userId) }),
      ...(selfSigning === undefined ? {} : { self_signing_key: keyIn(selfSigning, userId) }),
    }
  },
})

interface DeviceKeys {
  readonly unsigned?: { readonly device_display_name?: string }
}

/** Of a member of an object, as JSON text. */
function keyIn(member: string, user_id: UserId): unknown {
  return (JSON.parse(`{${member}}`) as Record<string, unknown>)[user_id]
}

export const queryUserKeys = route({
  method: 'POST',
  path: '/_matrix/federation/v1/user/keys/query',
  spec: 'server-server-api/#post_matrixfederationv1userkeysquery',
  ...asked,
  bodyBytesMax,
  body: v.object({ device_keys: byUser(v.nullable(v.array(v.string()))) }),
  async handle({ body: { device_keys } }, { sql, config }) {
    const wanted = new Map(Object.entries(device_keys) as [UserId, readonly string[] | null][])
    const { devices, keys } = await queriedKeys({ sql, asked: wanted }, own(device_keys, config.server_name))
    return new RawJson(
      `{"device_keys":{${devices}},"master_keys":{${keys.master}},"self_signing_keys":{${keys.self_signing}}}`,
    )
  },
})

export const claimUserKeys = route({
  method: 'POST',
  path: '/_matrix/federation/v1/user/keys/claim',
  spec: 'server-server-api/#post_matrixfederationv1userkeysclaim',
  ...asked,
  bodyBytesMax,
  body: v.object({
    one_time_keys: byUser(
      v.pipe(
        v.custom<Record<string, unknown>>(isJsonObject),
        v.record(v.string(), v.pipe(v.string(), v.maxLength(255))),
      ),
    ),
  }),
  async handle({ body: { one_time_keys } }, { main, config }) {
    const users = own(one_time_keys, config.server_name)
    return { one_time_keys: await claimLocalKeys(main, users, one_time_keys as WantedKeys) }
  },
})
