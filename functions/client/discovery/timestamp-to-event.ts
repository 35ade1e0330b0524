/** https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1roomsroomidtimestamp_to_event */
import * as v from 'valibot'
import { type EventId, RoomId } from '../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { type Direction, eventsByIds, eventsByTime, type PlaceInTime } from '../../../shared/storage/events.ts'
import { timelineBeginning } from '../../../shared/streams/token.ts'
import type { RoomView } from '../../../shared/timeline/room-reader.ts'
import { type ClientDeps, route } from '../deps.ts'
import { directionOf } from '../read/parameters.ts'
import { readerOf } from '../read/rendering.ts'
import { type EventInTime, isNearer, remoteEventAt } from './remote-time.ts'

/** What is found may be hidden from who asks; it is looked further, but not for ever. */
const eventsPerRead = 50
const readsMax = 10
/** History is fetched for one question so many times, as much each time. */
const fetchesMax = 5
const eventsPerFetch = 100

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
    const view = await readerOf(deps).open(roomId, user.user_id)
    const ts = timeOf(query.ts)
    const direction = directionOf(query.dir)
    const here = await nearestHere(deps, view, { ts, direction })
    const elsewhere = await remoteEventAt(deps, view, { ts, direction })
    if (elsewhere && isNearer(elsewhere, here, ts)) {
      await bringHere(deps, view, elsewhere.event_id)
      return elsewhere
    }
    if (here) return here
    throw new MatrixError(
      'M_NOT_FOUND',
      `There is no event ${direction === 'f' ? 'after' : 'before'} that time for you to see`,
    )
  },
})

async function nearestHere(
  deps: ClientDeps,
  view: RoomView,
  { ts, direction }: { readonly ts: number; readonly direction: Direction },
): Promise<EventInTime | undefined> {
  const reader = readerOf(deps)
  // The time itself is part of the range, on either side.
  let from: PlaceInTime = {
    origin_server_ts: ts,
    position: direction === 'f' ? timelineBeginning : Number.MAX_SAFE_INTEGER,
  }
  for (let reads = 0; reads < readsMax; reads++) {
    const page = { direction, upTo: view.upTo, limit: reads === 0 ? 1 : eventsPerRead }
    const events = await eventsByTime(deps.sql, view, from, page)
    const [found] = await reader.seen(view, events)
    if (found) {
      const { event_id, origin_server_ts } = found.event
      return { event_id, origin_server_ts }
    }
    const last = events.at(-1)
    if (!last) return undefined
    from = last
  }
  return undefined
}

/** So that what is around it can be read; one that is far back stays where it is. */
async function bringHere({ sql, main }: ClientDeps, { room_id }: RoomView, event_id: EventId): Promise<void> {
  for (let fetches = 0; fetches < fetchesMax; fetches++) {
    if ((await eventsByIds(sql, [event_id])).length > 0) return
    const { placed } = await main.backfillRoom({ room_id, limit: eventsPerFetch })
    if (placed === 0) return
  }
}

function timeOf(text: string | undefined): number {
  if (text === undefined) throw new MatrixError('M_MISSING_PARAM', 'Query parameter ts is missing')
  const ts = Number(text)
  if (!/^-?\d{1,16}$/.test(text) || !Number.isSafeInteger(ts)) {
    throw new MatrixError('M_INVALID_PARAM', 'Query parameter ts must be a time in milliseconds')
  }
  return ts
}
