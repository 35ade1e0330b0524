/** The published rooms of this server, and its spaces, for other servers.
 *  https://spec.matrix.org/v1.19/server-server-api/#published-room-directory */
import * as v from 'valibot'
import { RawJson } from '../../shared/http/route.ts'
import { RoomId } from '../../shared/matrix/ids.ts'
import { MatrixError } from '../../shared/matrix/matrix-error.ts'
import { previewJson, previewsForServer } from '../../shared/rooms/previews.ts'
import { DirectoryBody, directoryLimits, directoryPage, searchOfDirectory } from '../../shared/rooms/public-rooms.ts'
import { byOrder, childLink, childLinkJson } from '../../shared/rooms/space-walk.ts'
import { knownAmong, spaceLinks } from '../../shared/storage/room-previews.ts'
import { route } from './deps.ts'

const childrenMax = 1_000
const text = v.optional(v.string())
const path = '/_matrix/federation/v1/publicRooms'

/** What is not for everybody is not for other servers, whose users nobody here knows. */
function assertShared(allowed: boolean): void {
  if (!allowed) throw new MatrixError('M_FORBIDDEN', 'This server does not show its directory to others')
}

export const getPublicRooms = route({
  method: 'GET',
  path,
  spec: 'server-server-api/#get_matrixfederationv1publicrooms',
  auth: 'server',
  limit: 'federation',
  query: v.object({
    limit: v.optional(v.pipe(v.string(), v.regex(/^\d{1,9}$/), v.transform(Number)), String(directoryLimits.standard)),
    since: text,
    include_all_networks: text,
    third_party_instance_id: text,
  }),
  async handle({ query: { limit, since } }, { sql, config }) {
    assertShared(config.rooms.public_list_without_login)
    return directoryPage(sql, since, { limit: Math.min(limit, directoryLimits.most) })
  },
})

export const postPublicRooms = route({
  method: 'POST',
  path,
  spec: 'server-server-api/#post_matrixfederationv1publicrooms',
  auth: 'server',
  limit: 'federation',
  body: DirectoryBody,
  async handle({ body }, { sql, config }) {
    assertShared(config.rooms.public_list_without_login)
    if (body.third_party_instance_id) return { chunk: [], total_room_count_estimate: 0 }
    return searchOfDirectory(sql, body)
  },
})

export const getHierarchy = route({
  method: 'GET',
  path: '/_matrix/federation/v1/hierarchy/:roomId',
  spec: 'server-server-api/#get_matrixfederationv1hierarchyroomid',
  auth: 'server',
  limit: 'federation',
  params: v.object({ roomId: RoomId }),
  query: v.object({ suggested_only: v.optional(v.picklist(['true', 'false'])) }),
  async handle({ params: { roomId }, query, origin }, { sql }) {
    const room = (await previewsForServer(sql, [roomId], origin)).get(roomId)
    if (!room) throw new MatrixError('M_NOT_FOUND', 'There is no such room, or it is not yours to see')
    const links = room.room_type === 'm.space' ? await spaceLinks(sql, [room.room_nid], childrenMax) : []
    const children = links
      .flatMap((link) => childLink(link) ?? [])
      .filter((child) => query.suggested_only !== 'true' || child.suggested)
      .sort(byOrder)
    const ids = children.map(({ link }) => link.state_key)
    const [visible, known] = await Promise.all([previewsForServer(sql, ids, origin), knownAmong(sql, ids)])
    const shown = ids.flatMap((id) => {
      const child = visible.get(id)
      return child ? [JSON.stringify(previewJson(child))] : []
    })
    const hidden = ids.filter((id) => known.has(id) && !visible.has(id))
    const state = children.map(({ link }) => childLinkJson(link))
    return new RawJson(
      `{"room":${JSON.stringify(previewJson(room)).slice(0, -1)},"children_state":[${state.join(',')}]}` +
        `,"children":[${shown.join(',')}],"inaccessible_children":${JSON.stringify(hidden)}}`,
    )
  },
})
