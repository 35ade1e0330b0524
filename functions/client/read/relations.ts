/** Children of an event, and the threads of a room. */
import * as v from 'valibot'
import { RawJson } from '../../../shared/http/route.ts'
import { RoomId } from '../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { childEvents, recursionDepth } from '../../../shared/storage/relations.ts'
import { threadRoots } from '../../../shared/storage/threads.ts'
import { encodePaginationToken, parsePaginationToken } from '../../../shared/streams/token.ts'
import { isIgnored } from '../../../shared/timeline/timeline-page.ts'
import { route } from '../deps.ts'
import { seenEvent } from './events.ts'
import { directionOf, flagOf, limitOf } from './parameters.ts'
import { eventsJson, readerOf } from './rendering.ts'

const text = v.optional(v.string())
const limits = { standard: 20, most: 200 }

const relationsRoute = (
  path: string,
  spec: string,
  params: v.GenericSchema<
    unknown,
    { roomId: RoomId; eventId: string; relType?: string | undefined; eventType?: string | undefined }
  >,
) =>
  route({
    method: 'GET',
    path: `/_matrix/client/v1/rooms/:roomId/relations/${path}`,
    spec: `client-server-api/#${spec}`,
    auth: 'user',
    sticky: 'room',
    params,
    query: v.object({
      from: text,
      to: text,
      limit: text,
      dir: text,
      recurse: text,
      'org.matrix.msc3981.recurse': text,
    }),
    async handle({ params: { roomId, eventId, relType, eventType }, query, user }, deps) {
      const reader = readerOf(deps)
      const view = await reader.open(roomId, user.user_id)
      await seenEvent(deps, view, eventId)
      const direction = directionOf(query.dir, 'b')
      const limit = Math.max(1, limitOf(query.limit, limits))
      const asked = query.recurse ?? query['org.matrix.msc3981.recurse']
      const recurse = flagOf(asked, 'recurse')
      const from = query.from ? parsePaginationToken(query.from) : undefined
      const to = query.to ? parsePaginationToken(query.to, 'to') : undefined
      const after = direction === 'f' ? from : to
      const upTo = direction === 'f' ? to : from
      const { events: page, more } = await childEvents(deps.sql, view, {
        parent: eventId,
        rel_type: relType,
        type: eventType,
        recurse,
        range: { after: after ?? 0, upTo: Math.min(upTo ?? view.upTo, view.upTo) },
        limit,
        direction,
      })
      const ignored = await reader.ignoredUsers(user.user_id)
      const seen = await reader.seen(
        view,
        page.filter((event) => !isIgnored(event, ignored)),
      )
      const chunk = await eventsJson(deps, view, seen, user)
      let json = `{"chunk":[${chunk.join(',')}]`
      const last = page.at(-1)
      if (last && more) {
        json += `,"next_batch":"${encodePaginationToken(direction === 'f' ? last.position : last.position - 1)}"`
      }
      if (query.from) json += `,"prev_batch":${JSON.stringify(query.from)}`
      if (asked !== undefined) json += `,"recursion_depth":${recurse ? recursionDepth : 1}`
      return new RawJson(`${json}}`)
    },
  })

const ids = { roomId: RoomId, eventId: v.string() }

export const getRelations = relationsRoute(':eventId', 'get_matrixclientv1roomsroomidrelationseventid', v.object(ids))
export const getRelationsOfType = relationsRoute(
  ':eventId/:relType',
  'get_matrixclientv1roomsroomidrelationseventidreltype',
  v.object({ ...ids, relType: v.string() }),
)
export const getRelationsOfEventType = relationsRoute(
  ':eventId/:relType/:eventType',
  'get_matrixclientv1roomsroomidrelationseventidreltypeeventtype',
  v.object({ ...ids, relType: v.string(), eventType: v.string() }),
)

export const getThreads = route({
  method: 'GET',
  path: '/_matrix/client/v1/rooms/:roomId/threads',
  spec: 'client-server-api/#get_matrixclientv1roomsroomidthreads',
  auth: 'user',
  limit: 'read',
  sticky: 'room',
  params: v.object({ roomId: RoomId }),
  query: v.object({ include: v.optional(v.picklist(['all', 'participated'])), limit: text, from: text }),
  async handle({ params, query, user }, deps) {
    const reader = readerOf(deps)
    const view = await reader.open(params.roomId, user.user_id)
    const limit = limitOf(query.limit, limits)
    if (limit === 0) throw new MatrixError('M_INVALID_PARAM', 'Query parameter limit must be greater than 0')
    const from = query.from ? parsePaginationToken(query.from) : undefined
    const found = await threadRoots(deps.sql, view, {
      upTo: from ?? Number.MAX_SAFE_INTEGER,
      limit: limit + 1,
      ...(query.include === 'participated' ? { participant: user.user_id } : {}),
    })
    const page = found.slice(0, limit)
    const ignored = await reader.ignoredUsers(user.user_id)
    const roots = page.map(({ root }) => root).filter((root) => root.position <= view.upTo && !isIgnored(root, ignored))
    const chunk = await eventsJson(deps, view, await reader.seen(view, roots), user)
    const next = found.length > limit ? found[limit] : undefined
    const batch = next ? `,"next_batch":"${encodePaginationToken(next.latest_position)}"` : ''
    return new RawJson(`{"chunk":[${chunk.join(',')}]${batch}}`)
  },
})
