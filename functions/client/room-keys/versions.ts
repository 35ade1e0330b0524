/** Backups of room keys, themselves. https://spec.matrix.org/v1.19/client-server-api/#server-side-key-backups */
import * as v from 'valibot'
import { Content } from '../../../shared/commands/rooms.ts'
import { RawJson } from '../../../shared/http/route.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { currentRoomKeyVersion, type RoomKeyVersion, roomKeyVersion } from '../../../shared/storage/room-keys.ts'
import { route } from '../deps.ts'
import { unknownVersion, versionNumber } from './version.ts'

const path = '/_matrix/client/v3/room_keys/version/:version'
const params = v.object({ version: v.string() })
const algorithm = v.pipe(v.string(), v.minLength(1), v.maxBytes(255))
const backup = { algorithm, auth_data: Content }

export const postVersion = route({
  method: 'POST',
  path: '/_matrix/client/v3/room_keys/version',
  spec: 'client-server-api/#post_matrixclientv3room_keysversion',
  auth: 'user',
  limit: 'account',
  sticky: 'user',
  body: v.object(backup),
  handle: ({ body, user: { user_id } }, { main }) => main.createRoomKeyVersion({ user_id, ...body }),
})

export const getCurrentVersion = route({
  method: 'GET',
  path: '/_matrix/client/v3/room_keys/version',
  spec: 'client-server-api/#get_matrixclientv3room_keysversion',
  auth: 'user',
  sticky: 'user',
  async handle({ user: { user_id } }, { sql }) {
    return versionJson(await currentRoomKeyVersion(sql, user_id))
  },
})

export const getVersion = route({
  method: 'GET',
  path,
  spec: 'client-server-api/#get_matrixclientv3room_keysversionversion',
  auth: 'user',
  sticky: 'user',
  params,
  async handle({ params: { version }, user: { user_id } }, { sql }) {
    return versionJson(await roomKeyVersion(sql, user_id, versionNumber(version)))
  },
})

export const putVersion = route({
  method: 'PUT',
  path,
  spec: 'client-server-api/#put_matrixclientv3room_keysversionversion',
  auth: 'user',
  limit: 'account',
  sticky: 'user',
  params,
  body: v.object({ ...backup, version: v.optional(v.string()) }),
  async handle({ params: { version }, body, user: { user_id } }, { main }) {
    if (body.version !== undefined && body.version !== version) {
      throw new MatrixError('M_INVALID_PARAM', 'The version in the body is not that of the path')
    }
    const { algorithm, auth_data } = body
    return main.updateRoomKeyVersion({ user_id, version: versionNumber(version), algorithm, auth_data })
  },
})

export const deleteVersion = route({
  method: 'DELETE',
  path,
  spec: 'client-server-api/#delete_matrixclientv3room_keysversionversion',
  auth: 'user',
  limit: 'account',
  sticky: 'user',
  params,
  handle: ({ params: { version }, user: { user_id } }, { main }) =>
    main.deleteRoomKeyVersion({ user_id, version: versionNumber(version) }),
})

function versionJson(found: RoomKeyVersion | undefined): RawJson {
  if (!found) throw unknownVersion()
  const { version, algorithm, auth_data, count, etag } = found
  const rest = JSON.stringify({ version, algorithm, count, etag })
  return new RawJson(`${rest.slice(0, -1)},"auth_data":${auth_data}}`)
}
