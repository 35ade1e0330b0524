/** https://spec.matrix.org/v1.19/client-server-api/#profiles */
import * as v from 'valibot'
import type { Requester } from '../../../shared/auth/requester.ts'
import type { Config } from '../../../shared/config/schema.ts'
import { serverNameOf, UserId } from '../../../shared/matrix/ids.ts'
import { isJsonObject, type JsonObject } from '../../../shared/matrix/json-value.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { cachedValue } from '../../../shared/replication/shared-cache.ts'
import { profileOf } from '../../../shared/storage/profiles.ts'
import { type ClientDeps, route } from '../deps.ts'
import { checkFieldName, mayChangeField } from './fields.ts'
import { remoteProfile } from './remote-profile.ts'

const path = '/_matrix/client/v3/profile/:userId/:keyName'
const params = v.object({ userId: UserId, keyName: v.string() })

/** Both go into member events, which have little room. */
const charactersMax = { displayname: 256, avatar_url: 1000 } as const

const sharedProfile = v.custom<JsonObject>(isJsonObject)

export const getProfile = route({
  method: 'GET',
  path: '/_matrix/client/v3/profile/:userId',
  spec: 'client-server-api/#get_matrixclientv3profileuserid',
  auth: 'none',
  params: v.object({ userId: UserId }),
  handle: ({ params: { userId } }, deps) => knownProfile(deps, userId),
})

export const getProfileField = route({
  method: 'GET',
  path,
  spec: 'client-server-api/#get_matrixclientv3profileuseridkeyname',
  auth: 'none',
  params,
  async handle({ params: { userId, keyName } }, deps) {
    const profile = await knownProfile(deps, userId)
    if (!Object.hasOwn(profile, keyName)) throw new MatrixError('M_NOT_FOUND', 'The profile has no such field')
    return { [keyName]: profile[keyName] }
  },
})

export const putProfileField = route({
  method: 'PUT',
  path,
  spec: 'client-server-api/#put_matrixclientv3profileuseridkeyname',
  auth: 'guest',
  suspended: 'refused',
  limit: 'account',
  params,
  body: v.custom<JsonObject>((body) => typeof body === 'object' && body !== null && !Array.isArray(body)),
  async handle({ params: { userId, keyName }, body, user }, { main, config }) {
    checkMayChange(userId, keyName, user, config)
    if (!Object.hasOwn(body, keyName)) throw new MatrixError('M_MISSING_PARAM', `Key ${keyName} is missing`)
    const value = body[keyName]
    if (keyName === 'displayname' || keyName === 'avatar_url') {
      if (value !== null && typeof value !== 'string') {
        throw new MatrixError('M_BAD_JSON', `Key ${keyName} is not valid: expected string`)
      }
      if (value !== null && value.length > charactersMax[keyName]) {
        throw new MatrixError('M_INVALID_PARAM', `${keyName} has ${charactersMax[keyName]} characters at most`)
      }
      // Both are taken away by null or the empty string too.
      if (!value) return main.setProfileField({ user_id: userId, field: keyName })
    }
    if (keyName === 'm.tz' && !isTimeZone(value)) {
      throw new MatrixError('M_INVALID_PARAM', 'Key m.tz must name a time zone, such as Europe/London')
    }
    return main.setProfileField({ user_id: userId, field: keyName, value: JSON.stringify(value) })
  },
})

export const deleteProfileField = route({
  method: 'DELETE',
  path,
  spec: 'client-server-api/#delete_matrixclientv3profileuseridkeyname',
  auth: 'guest',
  suspended: 'refused',
  limit: 'account',
  params,
  async handle({ params: { userId, keyName }, user }, { main, config }) {
    checkMayChange(userId, keyName, user, config)
    return main.setProfileField({ user_id: userId, field: keyName })
  },
})

/** As clients ask for further fields that know the proposal MSC4133 alone. */
const unstablePath = '/_matrix/client/unstable/uk.tcpip.msc4133/profile/:userId/:keyName'

export const profileRoutes = [
  getProfile,
  getProfileField,
  putProfileField,
  deleteProfileField,
  ...[getProfileField, putProfileField, deleteProfileField].map((field) => ({ ...field, path: unstablePath })),
] as const

async function knownProfile(deps: ClientDeps, user_id: UserId): Promise<JsonObject> {
  const { sql, replication, config } = deps
  if (serverNameOf(user_id) !== config.server_name) return remoteProfile(deps, user_id)
  if (replication.cache) {
    // Whoever asks need not have a token, so nothing was waited for yet.
    await replication.fresh?.()
    const slot = await replication.cache.look({ name: `profile:${user_id}`, marks: [`profile:${user_id}`] })
    const shared = cachedValue(slot, sharedProfile)
    if (shared) return shared
    const profile = await profileOf(sql, user_id)
    if (profile) slot?.put(JSON.stringify(profile))
    return profile ?? noProfile()
  }
  return (await profileOf(sql, user_id)) ?? noProfile()
}

function noProfile(): never {
  throw new MatrixError('M_NOT_FOUND', 'There is no profile of this user')
}

/** As the IANA Time Zone Database names it; one newer than what this process knows is taken by its form. */
function isTimeZone(value: unknown): boolean {
  return (
    typeof value === 'string' && value.length <= 255 && /^[A-Za-z][A-Za-z0-9_+-]*(?:\/[A-Za-z0-9_+-]+)*$/.test(value)
  )
}

function checkMayChange(userId: UserId, keyName: string, user: Requester, config: Config): void {
  if (userId !== user.user_id) throw new MatrixError('M_FORBIDDEN', "You can't change other users' profiles")
  // https://spec.matrix.org/v1.19/client-server-api/#guest-access
  if (user.guest && keyName !== 'displayname') {
    throw new MatrixError('M_GUEST_ACCESS_FORBIDDEN', 'Guests may change nothing but their display name')
  }
  checkFieldName(keyName)
  if (!mayChangeField(keyName, config)) {
    throw new MatrixError('M_FORBIDDEN', 'This field of profiles is not changed by users here')
  }
}
