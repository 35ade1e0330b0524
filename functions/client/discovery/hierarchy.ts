/** The rooms of a space. https://spec.matrix.org/v1.19/client-server-api/#querying-rooms-within-a-space */
import * as v from 'valibot'
import { RawJson } from '../../../shared/http/route.ts'
import { RoomId } from '../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { type ChildLink, childLinkJson, walkSpace } from '../../../shared/rooms/space-walk.ts'
import { route } from '../deps.ts'
import { flagOf, limitOf } from '../read/parameters.ts'
import { spaceTree } from './space-tree.ts'

const limits = { standard: 50, most: 50 }
const depthMax = 100

const text = v.optional(v.string())

export const getHierarchy = route({
  method: 'GET',
  path: '/_matrix/client/v1/rooms/:roomId/hierarchy',
  spec: 'client-server-api/#get_matrixclientv1roomsroomidhierarchy',
  auth: 'user',
  limit: 'read',
  sticky: 'room',
  params: v.object({ roomId: RoomId }),
  query: v.object({ suggested_only: text, limit: text, max_depth: text, from: text }),
  async handle({ params: { roomId }, query, user }, deps) {
    const suggestedOnly = flagOf(query.suggested_only, 'suggested_only')
    const maxDepth = depthOf(query.max_depth)
    const limit = limitOf(query.limit, limits)
    if (limit === 0) throw new MatrixError('M_INVALID_PARAM', 'Query parameter limit must be greater than zero')
    const walk = `${maxDepth}_${suggestedOnly ? 1 : 0}`
    const start = query.from ? startOf(query.from, walk) : 0

    const counts = (child: ChildLink) => !suggestedOnly || child.suggested
    const tree = await spaceTree(deps, roomId, { user_id: user.user_id, counts })
    if (!tree.has(roomId)) throw new MatrixError('M_FORBIDDEN', 'You may not see this room')
    const order = walkSpace(roomId, maxDepth, {
      visible: (room) => tree.has(room),
      childrenOf: (room) => (tree.get(room)?.children ?? []).map((child) => child.link.state_key),
    })
    const rooms = order.slice(start, start + limit).flatMap((room_id) => {
      const room = tree.get(room_id)
      if (!room) return []
      const state = room.children.map(({ link }) => childLinkJson(link))
      return [`${JSON.stringify(room.summary).slice(0, -1)},"children_state":[${state.join(',')}]}`]
    })
    const next = start + limit < order.length ? `,"next_batch":"h1_${start + limit}_${walk}"` : ''
    return new RawJson(`{"rooms":[${rooms.join(',')}]${next}}`)
  },
})

function depthOf(text: string | undefined): number {
  if (text === undefined || text === '') return depthMax
  if (!/^\d{1,15}$/.test(text)) {
    throw new MatrixError('M_INVALID_PARAM', 'Query parameter max_depth must be a whole number')
  }
  return Math.min(Number(text), depthMax)
}

/** `walk` is what may not change between the pages. */
function startOf(token: string, walk: string): number {
  const match = /^h1_(\d{1,9})_(\d+_[01])$/.exec(token)
  if (!match) throw new MatrixError('M_INVALID_PARAM', 'Query parameter from is not a token of this server')
  if (match[2] !== walk) {
    throw new MatrixError('M_INVALID_PARAM', 'suggested_only and max_depth cannot change between pages')
  }
  return Number(match[1])
}
