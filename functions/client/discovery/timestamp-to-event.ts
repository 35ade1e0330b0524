/** https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1roomsroomidtimestamp_to_event */
import * as v from 'valibot'
import { RoomId } from '../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { eventsByTime, type PlaceInTime } from '../../../shared/storage/events.ts'
import { route } from '../deps.ts'
import { directionOf } from '../read/parameters.ts'
import { readerOf } from '../read/rendering.ts'

/** What is found may be hidden from who asks; it is looked further, but not for ever. */
const eventsPerRead = 50
const readsMax = 10

const text = v.optional(v.string())

export const getEventByTimestamp = route({
  method: 'GET',
  path: '/_matrix/client/v1/rooms/:roomId/timestamp_to_event',
  spec: 'client-server-api/#get_matrixclientv1roomsroomidtimestamp_to_event',
  auth: 'user',
  limit: 'read',
  sticky: 'room',
  params: v.object({ roomId: RoomId }),
  query: v.object({ ts: text, dir: text }),
  async handle({ params: { roomId }, query, user }, deps) {
    const reader = readerOf(deps)
    const view = await reader.open(roomId, user.user_id)
    const ts = timeOf(query.ts)
    const direction = directionOf(query.dir)
    const forwards = direction === 'f'
    // The time itself is part of the range, on either side.
    let from: PlaceInTime = { origin_server_ts: ts, position: forwards ? 0 : Number.MAX_SAFE_INTEGER }
    for (let reads = 0; reads < readsMax; reads++) {
      const page = { direction, upTo: view.upTo, limit: reads === 0 ? 1 : eventsPerRead }
      const events = await eventsByTime(deps.sql, view, from, page)
      const [found] = await reader.seen(view, events)
      if (found) {
        const { event_id, origin_server_ts } = found.event
        return { event_id, origin_server_ts }
      }
      const last = events.at(-1)
      if (!last) break
      from = last
    }
    throw new MatrixError('M_NOT_FOUND', `There is no event ${forwards ? 'after' : 'before'} that time for you to see`)
  },
})

function timeOf(text: string | undefined): number {
  if (text === undefined) throw new MatrixError('M_MISSING_PARAM', 'Query parameter ts is missing')
  const ts = Number(text)
  if (!/^-?\d{1,16}$/.test(text) || !Number.isSafeInteger(ts)) {
    throw new MatrixError('M_INVALID_PARAM', 'Query parameter ts must be a time in milliseconds')
  }
  return ts
}
