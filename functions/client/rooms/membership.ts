/** Joining, leaving and what members do to one another. https://spec.matrix.org/v1.19/client-server-api/#room-membership */
import * as v from 'valibot'
import { Content } from '../../../shared/commands/rooms.ts'
import { RoomAlias, RoomId, UserId } from '../../../shared/matrix/ids.ts'
import type { JsonObject } from '../../../shared/matrix/json-value.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { roomOfAlias } from '../../../shared/storage/aliases.ts'
import { type ClientDeps, route } from '../deps.ts'

const RoomIdOrAlias = v.union([RoomId, RoomAlias])
const reason = v.optional(v.string())

async function roomOf(deps: ClientDeps, idOrAlias: RoomId | RoomAlias): Promise<RoomId> {
  const alias = v.safeParse(RoomAlias, idOrAlias)
  const room = alias.success ? await roomOfAlias(deps.sql, alias.output) : v.parse(RoomId, idOrAlias)
  if (!room) throw new MatrixError('M_NOT_FOUND', `There is no room of the alias ${idOrAlias}`)
  return room
}

/** The body of a join goes into the member event, but for what is addressed to the server. */
function joinOf(body: JsonObject) {
  const { third_party_signed: _signed, reason: why, ...content } = body
  if (why !== undefined && typeof why !== 'string') throw new MatrixError('M_BAD_JSON', 'reason must be a string')
  return { content, ...(why === undefined ? undefined : { reason: why }) }
}

const joinRoute = (path: string, spec: string, params: v.GenericSchema<unknown, { room: RoomId | RoomAlias }>) =>
  route({
    method: 'POST',
    path,
    spec,
    auth: 'guest',
    suspended: 'refused',
    limit: 'joins',
    params,
    body: Content,
    emptyBody: true,
    async handle({ params: { room }, body, user: { user_id, device_id, guest } }, deps) {
      const room_id = await roomOf(deps, room)
      await deps.main.changeMembership({
        room_id,
        user_id,
        device_id,
        guest,
        target: user_id,
        action: 'join',
        ...joinOf(body),
      })
      return { room_id }
    },
  })

export const joinRoom = joinRoute(
  '/_matrix/client/v3/join/:roomIdOrAlias',
  'client-server-api/#post_matrixclientv3joinroomidoralias',
  v.pipe(
    v.object({ roomIdOrAlias: RoomIdOrAlias }),
    v.transform(({ roomIdOrAlias }) => ({ room: roomIdOrAlias })),
  ),
)
export const joinRoomById = joinRoute(
  '/_matrix/client/v3/rooms/:roomId/join',
  'client-server-api/#post_matrixclientv3roomsroomidjoin',
  v.pipe(
    v.object({ roomId: RoomId }),
    v.transform(({ roomId }) => ({ room: roomId })),
  ),
)

export const knockRoom = route({
  method: 'POST',
  path: '/_matrix/client/v3/knock/:roomIdOrAlias',
  spec: 'client-server-api/#post_matrixclientv3knockroomidoralias',
  auth: 'user',
  suspended: 'refused',
  limit: 'joins',
  params: v.object({ roomIdOrAlias: RoomIdOrAlias }),
  body: v.object({ reason }),
  emptyBody: true,
  async handle({ params, body, user: { user_id, device_id } }, deps) {
    const room_id = await roomOf(deps, params.roomIdOrAlias)
    await deps.main.changeMembership({ room_id, user_id, device_id, target: user_id, action: 'knock', ...body })
    return { room_id }
  },
})

export const leaveRoom = route({
  method: 'POST',
  path: '/_matrix/client/v3/rooms/:roomId/leave',
  spec: 'client-server-api/#post_matrixclientv3roomsroomidleave',
  auth: 'guest',
  sticky: 'room',
  params: v.object({ roomId: RoomId }),
  body: v.object({ reason }),
  emptyBody: true,
  async handle({ params: { roomId: room_id }, body, user: { user_id, device_id } }, { main }) {
    await main.changeMembership({ room_id, user_id, device_id, target: user_id, action: 'leave', ...body })
    return {}
  },
})

const actOnUser = (action: 'invite' | 'kick' | 'ban' | 'unban', limit: 'invites' | 'message') =>
  route({
    method: 'POST',
    path: `/_matrix/client/v3/rooms/:roomId/${action}`,
    spec: `client-server-api/#post_matrixclientv3roomsroomid${action}`,
    auth: 'user',
    suspended: 'refused',
    limit,
    sticky: 'room',
    params: v.object({ roomId: RoomId }),
    body: v.object({ user_id: UserId, reason }),
    async handle({ params: { roomId: room_id }, body, user: { user_id, device_id } }, { main }) {
      const { user_id: target, ...why } = body
      await main.changeMembership({ room_id, user_id, device_id, target, action, ...why })
      return {}
    },
  })
export const inviteUser = actOnUser('invite', 'invites')
export const kickUser = actOnUser('kick', 'message')
export const banUser = actOnUser('ban', 'message')
export const unbanUser = actOnUser('unban', 'message')

export const forgetRoom = route({
  method: 'POST',
  path: '/_matrix/client/v3/rooms/:roomId/forget',
  spec: 'client-server-api/#post_matrixclientv3roomsroomidforget',
  auth: 'user',
  sticky: 'room',
  params: v.object({ roomId: RoomId }),
  handle: ({ params: { roomId: room_id }, user: { user_id } }, { main }) => main.forgetRoom({ room_id, user_id }),
})
