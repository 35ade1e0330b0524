/** Reports to the administrators. https://spec.matrix.org/v1.19/client-server-api/#reporting-content */
import * as v from 'valibot'
import { EventId, RoomId, serverNameOf, UserId } from '../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { accountExists } from '../../../shared/storage/accounts.ts'
import { isPublished } from '../../../shared/storage/aliases.ts'
import { route } from '../deps.ts'
import { seenEvent } from '../read/events.ts'
import { readerOf } from '../read/rendering.ts'

const reason = v.pipe(v.string(), v.maxLength(1000))

export const reportEvent = route({
  method: 'POST',
  path: '/_matrix/client/v3/rooms/:roomId/report/:eventId',
  spec: 'client-server-api/#post_matrixclientv3roomsroomidreporteventid',
  auth: 'user',
  limit: 'account',
  sticky: 'room',
  params: v.object({ roomId: RoomId, eventId: EventId }),
  body: v.object({
    reason: v.optional(reason),
    /** Of earlier versions: from -100, the worst, to 0. */
    score: v.optional(v.pipe(v.number(), v.safeInteger(), v.minValue(-100), v.maxValue(0))),
  }),
  emptyBody: true,
  async handle({ params: { roomId: room_id, eventId: event_id }, body, user: { user_id: reporter } }, deps) {
    const view = await readerOf(deps).open(room_id, reporter).catch(hidden)
    if (view?.membership !== 'join') {
      throw new MatrixError('M_NOT_FOUND', 'There is no such event, or you are not in its room')
    }
    const { event } = await seenEvent(deps, view, event_id)
    return deps.main.fileReport({
      reporter,
      about: { kind: 'event', room_id, event_id, user_id: event.sender },
      ...body,
    })
  },
})

export const reportRoom = route({
  method: 'POST',
  path: '/_matrix/client/v3/rooms/:roomId/report',
  spec: 'client-server-api/#post_matrixclientv3roomsroomidreport',
  auth: 'user',
  limit: 'account',
  sticky: 'room',
  params: v.object({ roomId: RoomId }),
  body: v.object({ reason }),
  async handle({ params: { roomId: room_id }, body, user: { user_id: reporter } }, { sql, main }) {
    if ((await isPublished(sql, room_id)) === undefined) {
      throw new MatrixError('M_NOT_FOUND', 'This server does not know the room')
    }
    return main.fileReport({ reporter, about: { kind: 'room', room_id }, reason: body.reason })
  },
})

export const reportUser = route({
  method: 'POST',
  path: '/_matrix/client/v3/users/:userId/report',
  spec: 'client-server-api/#post_matrixclientv3usersuseridreport',
  auth: 'user',
  limit: 'account',
  params: v.object({ userId: UserId }),
  body: v.object({ reason }),
  async handle({ params: { userId: user_id }, body, user: { user_id: reporter } }, { sql, main, config }) {
    // Of other servers' users nobody here knows whether they exist.
    if (serverNameOf(user_id) === config.server_name && !(await accountExists(sql, user_id))) {
      throw new MatrixError('M_NOT_FOUND', 'There is no such user')
    }
    return main.fileReport({ reporter, about: { kind: 'user', user_id }, reason: body.reason })
  },
})

function hidden(error: unknown): undefined {
  if (error instanceof MatrixError && error.errcode === 'M_FORBIDDEN') return undefined
  throw error
}
