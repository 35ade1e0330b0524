/** Joining, leaving and what members do to one another. https://spec.matrix.org/v1.19/client-server-api/#room-membership */
import * as v from 'valibot'
import { Content } from '../../../shared/commands/rooms.ts'
import { RoomAlias, RoomId, ServerName, UserId } from '../../../shared/matrix/ids.ts'
import type { JsonObject } from '../../../shared/matrix/json-value.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { type ClientDeps, route } from '../deps.ts'
import { lookUpAlias } from './look-up-alias.ts'

const RoomIdOrAlias = v.union([RoomId, RoomAlias])
const reason = v.optional(v.string())

const viaMax = 20

/** The room, and the servers by whose way it may be reached: those that the client names, and those that go with an alias. */
async function roomOf(
  deps: ClientDeps,
  idOrAlias: RoomId | RoomAlias,
  search: URLSearchParams,
): Promise<{ room_id: RoomId; via: ServerName[] }> {
  // https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3joinroomidoralias: of two names for one thing, the newer.
  const named = search.has('via') ? search.getAll('via') : search.getAll('server_name')
  const via = named.flatMap((name) => (v.is(ServerName, name) ? [name as ServerName] : [])).slice(0, viaMax)
  const alias = v.safeParse(RoomAlias, idOrAlias)
  if (!alias.success) return { room_id: v.parse(RoomId, idOrAlias), via }
  const found = await lookUpAlias(deps, alias.output)
  if (!found) throw new MatrixError('M_NOT_FOUND', `There is no room of the alias ${idOrAlias}`)
  return { room_id: found.room_id, via: [...via, ...found.servers].slice(0, viaMax) }
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
    async handle({ params: { room }, body, request, user: { user_id, device_id, guest } }, deps) {
      const { room_id, via } = await roomOf(deps, room, request.searchParams)
      await deps.main.changeMembership({
        room_id,
        user_id,
        device_id,
        guest,
        target: user_id,
        action: 'join',
        via,
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
  async handle({ params, body, request, user: { user_id, device_id } }, deps) {
    const { room_id, via } = await roomOf(deps, params.roomIdOrAlias, request.searchParams)
    await deps.main.changeMembership({ room_id, user_id, device_id, target: user_id, action: 'knock', via, ...body })
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
