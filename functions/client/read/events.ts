/** Single events, and what happened around them. */
import * as v from 'valibot'
import type { Requester } from '../../../shared/auth/requester.ts'
import { RawJson } from '../../../shared/http/route.ts'
import { RoomId, type UserId } from '../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { eventsByIds } from '../../../shared/storage/events.ts'
import { roomOfEvent } from '../../../shared/storage/rooms.ts'
import { encodePaginationToken, timelineBeginning } from '../../../shared/streams/token.ts'
import type { RoomView, SeenEvent } from '../../../shared/timeline/room-reader.ts'
import type { TimelineEvent } from '../../../shared/timeline/timeline-event.ts'
import { timelinePage } from '../../../shared/timeline/timeline-page.ts'
import { type ClientDeps, route } from '../deps.ts'
import { filterOf, limitOf } from './parameters.ts'
import { eventsJson, readerOf, stateJson } from './rendering.ts'
import { stateOf } from './state-of-view.ts'

const text = v.optional(v.string())

export const getEvent = route({
  method: 'GET',
  path: '/_matrix/client/v3/rooms/:roomId/event/:eventId',
  spec: 'client-server-api/#get_matrixclientv3roomsroomideventeventid',
  auth: 'guest',
  sticky: 'room',
  params: v.object({ roomId: RoomId, eventId: v.string() }),
  handle: ({ params, user }, deps) => oneEvent(deps, params.roomId, params.eventId, user),
})

/** Deprecated: an event of any room. */
export const getOneEvent = route({
  method: 'GET',
  path: '/_matrix/client/v3/events/:eventId',
  spec: 'client-server-api/#get_matrixclientv3eventseventid',
  auth: 'user',
  params: v.object({ eventId: v.string() }),
  async handle({ params: { eventId }, user }, deps) {
    const roomId = await roomOfEvent(deps.sql, eventId)
    if (roomId === undefined) throw noEvent()
    return oneEvent(deps, roomId, eventId, user)
  },
})

async function oneEvent(deps: ClientDeps, roomId: RoomId, eventId: string, user: Requester): Promise<RawJson> {
  const view = await openForEvent(deps, roomId, user.user_id)
  const [json] = await eventsJson(deps, view, [await seenEvent(deps, view, eventId)], user)
  return new RawJson(json ?? '{}')
}

export const getContext = route({
  method: 'GET',
  path: '/_matrix/client/v3/rooms/:roomId/context/:eventId',
  spec: 'client-server-api/#get_matrixclientv3roomsroomidcontexteventid',
  auth: 'guest',
  sticky: 'room',
  params: v.object({ roomId: RoomId, eventId: v.string() }),
  query: v.object({ limit: text, filter: text }),
  async handle({ params, query, user }, deps) {
    const { sql } = deps
    const reader = readerOf(deps)
    const view = await reader.open(params.roomId, user.user_id)
    const limit = limitOf(query.limit, { standard: 10, most: 200 })
    const { filter, lazyLoadMembers } = filterOf(query.filter)
    const target = await seenEvent(deps, view, params.eventId)
    const { position } = target.event
    const beforeMax = Math.ceil(limit / 2)
    const [before, after] = await Promise.all([
      timelinePage(sql, reader, view, {
        range: { after: timelineBeginning, upTo: position - 1 },
        direction: 'b',
        limit: beforeMax,
        filter,
      }),
      timelinePage(sql, reader, view, {
        range: { after: position, upTo: view.upTo },
        direction: 'f',
        limit: limit - beforeMax,
        filter,
      }),
    ])

    const shown = [...before.seen, target, ...after.seen]
    const last = after.seen.at(-1)?.event ?? target.event
    const senders = lazyLoadMembers ? new Set<string>(shown.map(({ event }) => event.sender)) : undefined
    const state: TimelineEvent[] = []
    for await (const page of stateOf(sql, view, { root: last.state_root, members: senders })) {
      state.push(...(filter ? page.filter((event) => filter.compiled.matches(event)) : page))
    }

    const json = await eventsJson(deps, view, shown, user)
    const first = before.seen.at(-1)?.event ?? target.event
    const start = before.end ?? first.position - 1
    const end = after.end ?? last.position
    return new RawJson(
      `{"start":"${encodePaginationToken(start)}","end":"${encodePaginationToken(end)}"` +
        `,"events_before":[${json.slice(0, before.seen.length).join(',')}]` +
        `,"event":${json[before.seen.length]}` +
        `,"events_after":[${json.slice(before.seen.length + 1).join(',')}]` +
        `,"state":[${stateJson(deps, state, user).join(',')}]}`,
    )
  },
})

/** The room of an event that is asked for. One that is hidden and one that isn't there look the same, whatever the reason. */
export function openForEvent(deps: ClientDeps, roomId: RoomId, user: UserId): Promise<RoomView> {
  return readerOf(deps).open(roomId, user).catch(hiddenRoom)
}

/** Throws M_NOT_FOUND if the event is not in this room or not the user's to see. */
export async function seenEvent(deps: ClientDeps, view: RoomView, eventId: string): Promise<SeenEvent> {
  const found = await eventsByIds(deps.sql, [eventId])
  const here = found.filter((event) => event.room_nid === view.room_nid && event.position <= view.upTo)
  const [seen] = await readerOf(deps).seen(view, here)
  if (!seen) throw noEvent()
  return seen
}

function hiddenRoom(error: unknown): never {
  throw error instanceof MatrixError && error.errcode === 'M_FORBIDDEN' ? noEvent() : error
}

function noEvent(): MatrixError {
  return new MatrixError('M_NOT_FOUND', 'There is no such event, or it is not yours to see')
}
