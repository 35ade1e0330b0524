/** https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1timestamp_to_eventroomid */
import * as v from 'valibot'
import { assertServerInRoom } from '../../shared/federation/room-access.ts'
import { RoomId } from '../../shared/matrix/ids.ts'
import { MatrixError } from '../../shared/matrix/matrix-error.ts'
import { nearestInTime } from '../../shared/storage/event-answers.ts'
import { route } from './deps.ts'

export const getEventByTimestamp = route({
  method: 'GET',
  path: '/_matrix/federation/v1/timestamp_to_event/:roomId',
  spec: 'server-server-api/#get_matrixfederationv1timestamp_to_eventroomid',
  auth: 'server',
  limit: 'federation',
  sticky: 'origin',
  params: v.object({ roomId: RoomId }),
  query: v.object({
    ts: v.pipe(v.string(), v.regex(/^-?\d{1,15}$/), v.transform(Number)),
    dir: v.picklist(['f', 'b']),
  }),
  async handle({ params: { roomId }, query: { ts, dir }, origin }, { sql }) {
    await assertServerInRoom(sql, roomId, origin)
    const found = await nearestInTime(sql, roomId, { ts, direction: dir })
    if (!found) throw new MatrixError('M_NOT_FOUND', `There is no event ${dir === 'f' ? 'after' : 'before'} that time`)
    return found
  },
})
