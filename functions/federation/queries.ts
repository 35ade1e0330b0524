/** What other servers may ask about users and aliases of this one.
 *  https://spec.matrix.org/v1.19/server-server-api/#querying-for-information */
import * as v from 'valibot'
import { RoomAlias, serverNameOf, UserId } from '../../shared/matrix/ids.ts'
import { MatrixError } from '../../shared/matrix/matrix-error.ts'
import { roomOfAlias } from '../../shared/storage/aliases.ts'
import { profileOf } from '../../shared/storage/profiles.ts'
import { serversInRoom } from '../../shared/storage/room-servers.ts'
import { route } from './deps.ts'

/** Servers named in an answer about an alias: enough to find one that is up. */
const serversMax = 100

export const queryProfile = route({
  method: 'GET',
  path: '/_matrix/federation/v1/query/profile',
  spec: 'server-server-api/#get_matrixfederationv1queryprofile',
  auth: 'server',
  limit: 'federation',
  query: v.object({ user_id: UserId, field: v.optional(v.pipe(v.string(), v.maxLength(255))) }),
  async handle({ query: { user_id, field } }, { sql, config }) {
    if (serverNameOf(user_id) !== config.server_name) {
      throw new MatrixError('M_INVALID_PARAM', `${user_id} is not a user of this server`)
    }
    const profile = await profileOf(sql, user_id)
    if (!profile) throw new MatrixError('M_NOT_FOUND', 'There is no such user')
    if (field === undefined) return profile
    return Object.hasOwn(profile, field) ? { [field]: profile[field] } : {}
  },
})

export const queryDirectory = route({
  method: 'GET',
  path: '/_matrix/federation/v1/query/directory',
  spec: 'server-server-api/#get_matrixfederationv1querydirectory',
  auth: 'server',
  limit: 'federation',
  query: v.object({ room_alias: RoomAlias }),
  async handle({ query: { room_alias } }, { sql, config }) {
    if (serverNameOf(room_alias) !== config.server_name) {
      throw new MatrixError('M_INVALID_PARAM', `${room_alias} is not an alias of this server`)
    }
    const room_id = await roomOfAlias(sql, room_alias)
    if (room_id === undefined) throw new MatrixError('M_NOT_FOUND', 'There is no such alias')
    const others = await serversInRoom(sql, room_id, serversMax)
    return { room_id, servers: [config.server_name, ...others.filter((server) => server !== config.server_name)] }
  },
})

/** https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1queryquerytype: there are no others. */
export const queryAnything = route({
  method: 'GET',
  path: '/_matrix/federation/v1/query/:queryType',
  spec: 'server-server-api/#get_matrixfederationv1queryquerytype',
  auth: 'server',
  limit: 'federation',
  params: v.object({ queryType: v.string() }),
  handle({ params: { queryType } }) {
    throw new MatrixError('M_UNRECOGNIZED', `Nobody is asked about ${queryType.slice(0, 64)}`)
  },
})
