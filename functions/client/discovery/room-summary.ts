/** What a room is about, for who thinks of joining. https://spec.matrix.org/v1.19/client-server-api/#room-summaries */
import * as v from 'valibot'
import type { Requester } from '../../../shared/auth/requester.ts'
import { RoomAlias, RoomId } from '../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { previewJson, visiblePreviews } from '../../../shared/rooms/previews.ts'
import { roomOfAlias } from '../../../shared/storage/aliases.ts'
import { type ClientDeps, route } from '../deps.ts'

const params = v.object({ roomIdOrAlias: v.union([RoomId, RoomAlias]) })

const summaryRoute = (path: string, unstable: boolean) =>
  route({
    method: 'GET',
    path,
    spec: 'client-server-api/#get_matrixclientv1room_summaryroomidoralias',
    auth: 'optional',
    limit: 'read',
    params,
    async handle({ params: { roomIdOrAlias }, user }, deps) {
      const summary = await summaryOf(deps, roomIdOrAlias, user)
      if (!unstable) return summary
      const { room_version, encryption, ...rest } = summary
      return {
        ...rest,
        'im.nheko.summary.room_version': room_version,
        'im.nheko.summary.version': room_version,
        ...(encryption ? { 'im.nheko.summary.encryption': encryption } : {}),
      }
    },
  })

export const getRoomSummary = summaryRoute('/_matrix/client/v1/room_summary/:roomIdOrAlias', false)

/** As clients ask for it that know the proposal MSC3266 alone: two paths, and other names for two keys. */
export const getUnstableRoomSummary = summaryRoute(
  '/_matrix/client/unstable/im.nheko.summary/summary/:roomIdOrAlias',
  true,
)
export const getOlderUnstableRoomSummary = summaryRoute(
  '/_matrix/client/unstable/im.nheko.summary/rooms/:roomIdOrAlias/summary',
  true,
)

async function summaryOf(deps: ClientDeps, idOrAlias: RoomId | RoomAlias, user: Requester | undefined) {
  // Without a token, nothing was waited for yet.
  if (!user) await deps.replication.fresh?.()
  const alias = v.safeParse(RoomAlias, idOrAlias)
  const room_id = alias.success ? await roomOfAlias(deps.sql, alias.output) : v.parse(RoomId, idOrAlias)
  const room = room_id && (await visiblePreviews(deps.sql, [room_id], user?.user_id)).get(room_id)
  if (!room) throw new MatrixError('M_NOT_FOUND', 'There is no such room, or it is not yours to see')
  return { ...previewJson(room), ...(room.membership ? { membership: room.membership } : {}) }
}
