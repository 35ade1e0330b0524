/** Aliases, and which rooms the directory lists. https://spec.matrix.org/v1.19/client-server-api/#room-aliases */
import * as v from 'valibot'
import { RoomAlias, RoomId, serverNameOf } from '../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { aliasesOfRoom, isPublished, roomOfAlias } from '../../../shared/storage/aliases.ts'
import { roomStanding } from '../../../shared/storage/rooms.ts'
import { route } from '../deps.ts'
import { lookUpAlias } from './look-up-alias.ts'

const path = '/_matrix/client/v3/directory/room/:roomAlias'
const params = v.object({ roomAlias: RoomAlias })

export const getAlias = route({
  method: 'GET',
  path,
  spec: 'client-server-api/#get_matrixclientv3directoryroomroomalias',
  auth: 'none',
  params,
  async handle({ params: { roomAlias } }, deps) {
    const found = await lookUpAlias(deps, roomAlias)
    if (!found) throw new MatrixError('M_NOT_FOUND', `There is no room of the alias ${roomAlias}`)
    return found
  },
})

export const putAlias = route({
  method: 'PUT',
  path,
  spec: 'client-server-api/#put_matrixclientv3directoryroomroomalias',
  auth: 'user',
  suspended: 'refused',
  limit: 'message',
  params,
  body: v.object({ room_id: RoomId }),
  handle: ({ params: { roomAlias: alias }, body: { room_id }, user: { user_id } }, { main }) =>
    main.createAlias({ alias, room_id, user_id }),
})

export const deleteAlias = route({
  method: 'DELETE',
  path,
  spec: 'client-server-api/#delete_matrixclientv3directoryroomroomalias',
  auth: 'user',
  suspended: 'refused',
  params,
  async handle({ params: { roomAlias: alias }, user: { user_id } }, { main, config, sql }) {
    if (serverNameOf(alias) !== config.server_name) {
      throw new MatrixError('M_INVALID_PARAM', 'The alias belongs to another server')
    }
    const room_id = await roomOfAlias(sql, alias)
    if (!room_id) throw new MatrixError('M_NOT_FOUND', `There is no alias ${alias} on this server`)
    return main.deleteAlias({ alias, user_id, room_id })
  },
})

export const getRoomAliases = route({
  method: 'GET',
  path: '/_matrix/client/v3/rooms/:roomId/aliases',
  spec: 'client-server-api/#get_matrixclientv3roomsroomidaliases',
  auth: 'user',
  limit: 'read',
  sticky: 'room',
  params: v.object({ roomId: RoomId }),
  async handle({ params: { roomId }, user: { user_id } }, { sql }) {
    const standing = await roomStanding(sql, roomId, user_id)
    if (!standing || (standing.membership !== 'join' && standing.history_visibility !== 'world_readable')) {
      throw new MatrixError('M_FORBIDDEN', 'You are not in this room')
    }
    return { aliases: await aliasesOfRoom(sql, standing.room_nid) }
  },
})

const listPath = '/_matrix/client/v3/directory/list/room/:roomId'

export const getRoomVisibility = route({
  method: 'GET',
  path: listPath,
  spec: 'client-server-api/#get_matrixclientv3directorylistroomroomid',
  auth: 'none',
  params: v.object({ roomId: RoomId }),
  async handle({ params: { roomId } }, { sql }) {
    const published = await isPublished(sql, roomId)
    if (published === undefined) throw new MatrixError('M_NOT_FOUND', 'This server does not know the room')
    return { visibility: published ? 'public' : 'private' }
  },
})

export const putRoomVisibility = route({
  method: 'PUT',
  path: listPath,
  spec: 'client-server-api/#put_matrixclientv3directorylistroomroomid',
  auth: 'user',
  suspended: 'refused',
  params: v.object({ roomId: RoomId }),
  body: v.object({ visibility: v.optional(v.picklist(['public', 'private']), 'public') }),
  emptyBody: true,
  handle: ({ params: { roomId: room_id }, body: { visibility }, user: { user_id } }, { main }) =>
    main.setRoomPublished({ room_id, user_id, published: visibility === 'public' }),
})
