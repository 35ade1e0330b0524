/** A room's state and its members. */
import * as v from 'valibot'
import { RawJson } from '../../../shared/http/route.ts'
import { RoomId } from '../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { timelineBetween } from '../../../shared/storage/events.ts'
import { joinedMembers } from '../../../shared/storage/members.ts'
import { joinedRooms } from '../../../shared/storage/rooms.ts'
import { parsePaginationToken, timelineBeginning } from '../../../shared/streams/token.ts'
import type { RoomView } from '../../../shared/timeline/room-reader.ts'
import type { TimelineEvent } from '../../../shared/timeline/timeline-event.ts'
import { membershipIn } from '../../../shared/timeline/visibility.ts'
import { type ClientDeps, route } from '../deps.ts'
import { eventList, readerOf, stateJson } from './rendering.ts'
import { stateEventOf, stateOf } from './state-of-view.ts'

const text = v.optional(v.string())
const membership = v.optional(v.picklist(['join', 'invite', 'knock', 'leave', 'ban']))

export const getState = route({
  method: 'GET',
  path: '/_matrix/client/v3/rooms/:roomId/state',
  spec: 'client-server-api/#get_matrixclientv3roomsroomidstate',
  auth: 'guest',
  sticky: 'room',
  params: v.object({ roomId: RoomId }),
  async handle({ params, user }, deps) {
    const view = await readerOf(deps).open(params.roomId, user.user_id)
    return eventList(deps, user, { open: '[', close: ']' }, stateOf(deps.sql, view, { root: view.stateRoot }))
  },
})

const stateKeyRoute = (path: string, params: v.GenericSchema<unknown, { roomId: RoomId; type: string; key: string }>) =>
  route({
    method: 'GET',
    path,
    spec: 'client-server-api/#get_matrixclientv3roomsroomidstateeventtypestatekey',
    auth: 'guest',
    sticky: 'room',
    params,
    query: v.object({ format: text }),
    async handle({ params: { roomId, type, key }, query: { format }, user }, deps) {
      const view = await readerOf(deps).open(roomId, user.user_id)
      if (format !== undefined && format !== 'content' && format !== 'event') {
        throw new MatrixError('M_INVALID_PARAM', 'Query parameter format must be content or event')
      }
      const event = await stateEventOf(deps.sql, view, type, key)
      if (!event) throw new MatrixError('M_NOT_FOUND', 'The room has no such state')
      return new RawJson(format === 'event' ? (stateJson(deps, [event], user)[0] ?? '{}') : event.content)
    },
  })

/** The key may be empty, and may hold slashes that came unencoded. */
export const getStateWithKey = stateKeyRoute(
  '/_matrix/client/v3/rooms/:roomId/state/:eventType/*',
  v.pipe(
    v.object({ roomId: RoomId, eventType: v.string(), '*': v.string() }),
    v.transform(({ roomId, eventType, '*': key }) => ({ roomId, type: eventType, key })),
  ),
)

export const getStateWithoutKey = stateKeyRoute(
  '/_matrix/client/v3/rooms/:roomId/state/:eventType',
  v.pipe(
    v.object({ roomId: RoomId, eventType: v.string() }),
    v.transform(({ roomId, eventType }) => ({ roomId, type: eventType, key: '' })),
  ),
)

export const getMembers = route({
  method: 'GET',
  path: '/_matrix/client/v3/rooms/:roomId/members',
  spec: 'client-server-api/#get_matrixclientv3roomsroomidmembers',
  auth: 'guest',
  sticky: 'room',
  params: v.object({ roomId: RoomId }),
  query: v.object({ at: text, membership, not_membership: membership }),
  async handle({ params, query, user }, deps) {
    const view = await readerOf(deps).open(params.roomId, user.user_id)
    const root = query.at ? await rootAtToken(deps, view, query.at) : view.stateRoot
    const pages = stateOf(deps.sql, view, { root, only: 'm.room.member' })
    const { membership: is, not_membership: isNot } = query
    const chosen = (event: TimelineEvent) => {
      const value = membershipIn(event.content)
      return (is !== undefined && value === is) || (isNot !== undefined && value !== isNot)
    }
    const filtered = is === undefined && isNot === undefined ? pages : filterPages(pages, chosen)
    return eventList(deps, user, { open: '{"chunk":[', close: ']}' }, filtered)
  },
})

async function* filterPages(
  pages: AsyncIterable<readonly TimelineEvent[]>,
  chosen: (event: TimelineEvent) => boolean,
): AsyncGenerator<readonly TimelineEvent[]> {
  for await (const page of pages) yield page.filter(chosen)
}

/** The state at a token is for those to see who see the last event before it. A token from before the room's beginning,
 *  as the first sync of a short room gives, stands for the room as its creator's join left it. */
async function rootAtToken(deps: ClientDeps, view: RoomView, token: string): Promise<number | undefined> {
  const { sql } = deps
  const upTo = Math.min(parsePaginationToken(token, 'at'), view.upTo)
  const before = await timelineBetween(sql, view, { after: timelineBeginning, upTo }, 1, 'b')
  const [last] = before.length > 0 ? before : await firstJoin(deps, view)
  const seen = last ? await readerOf(deps).seen(view, [last]) : []
  if (seen.length === 0) throw new MatrixError('M_FORBIDDEN', "You can't see the room as it was then")
  return last?.state_root
}

async function firstJoin({ sql }: ClientDeps, view: RoomView): Promise<TimelineEvent[]> {
  const first = await timelineBetween(sql, view, { after: timelineBeginning, upTo: view.upTo }, 10, 'f')
  return first.filter((event) => event.type === 'm.room.member').slice(0, 1)
}

export const getJoinedMembers = route({
  method: 'GET',
  path: '/_matrix/client/v3/rooms/:roomId/joined_members',
  spec: 'client-server-api/#get_matrixclientv3roomsroomidjoined_members',
  auth: 'user',
  sticky: 'room',
  params: v.object({ roomId: RoomId }),
  async handle({ params, user }, deps) {
    const view = await readerOf(deps).open(params.roomId, user.user_id)
    if (view.membership !== 'join') throw new MatrixError('M_FORBIDDEN', 'You are not in this room')
    const members = await joinedMembers(deps.sql, view)
    const pieces = members.map(
      ({ user_id, display_name, avatar_url }, i) =>
        `${i === 0 ? '' : ','}${JSON.stringify(user_id)}:${JSON.stringify({ display_name, avatar_url })}`,
    )
    return new RawJson(['{"joined":{', ...pieces, '}}'])
  },
})

export const getJoinedRooms = route({
  method: 'GET',
  path: '/_matrix/client/v3/joined_rooms',
  spec: 'client-server-api/#get_matrixclientv3joined_rooms',
  auth: 'user',
  sticky: 'user',
  handle: async ({ user }, { sql }) => ({ joined_rooms: await joinedRooms(sql, user.user_id) }),
})
