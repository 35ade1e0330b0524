/** https://spec.matrix.org/v1.19/client-server-api/#mutual-rooms */
import * as v from 'valibot'
import { UserId } from '../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { mutualRooms } from '../../../shared/storage/mutual-rooms.ts'
import { route } from '../deps.ts'

const roomsPerPage = 100
const text = v.optional(v.string())

const mutualRoomsRoute = (
  path: string,
  tokenName: 'from' | 'batch_token',
  nextName: 'next_batch' | 'next_batch_token',
) =>
  route({
    method: 'GET',
    path,
    spec: 'client-server-api/#get_matrixclientv1mutual_rooms',
    auth: 'user',
    limit: 'read',
    query: v.object({ user_id: text, from: text, batch_token: text }),
    async handle({ query, user: { user_id } }, { sql }) {
      if (query.user_id === undefined) throw new MatrixError('M_MISSING_PARAM', 'Query parameter user_id is missing')
      const other = v.safeParse(UserId, query.user_id)
      if (!other.success) throw new MatrixError('M_INVALID_PARAM', 'Query parameter user_id is no user id')
      if (other.output === user_id) throw new MatrixError('M_INVALID_PARAM', 'You share all rooms with yourself')
      const token = query[tokenName]
      const after = token ? placeOf(token) : 0
      const { rooms, count } = await mutualRooms(sql, [user_id, other.output], { after, limit: roomsPerPage + 1 })
      const page = rooms.slice(0, roomsPerPage)
      const last = rooms.length > roomsPerPage ? page.at(-1) : undefined
      return {
        joined: page.map((room) => room.room_id),
        count,
        ...(last ? { [nextName]: `m1_${last.room_nid}` } : {}),
      }
    },
  })

export const getMutualRooms = mutualRoomsRoute('/_matrix/client/v1/mutual_rooms', 'from', 'next_batch')

/** As in the proposal MSC2666. */
export const getUnstableMutualRooms = mutualRoomsRoute(
  '/_matrix/client/unstable/uk.half-shot.msc2666/user/mutual_rooms',
  'batch_token',
  'next_batch_token',
)

function placeOf(token: string): number {
  const match = /^m1_(\d{1,15})$/.exec(token)
  if (!match) throw new MatrixError('M_INVALID_PARAM', 'The token is not one of this server')
  return Number(match[1])
}
