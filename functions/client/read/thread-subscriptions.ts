/** Following threads. https://github.com/matrix-org/matrix-spec-proposals/pull/4306, and all changes of it in pages:
 *  https://github.com/matrix-org/matrix-spec-proposals/pull/4308 */
import * as v from 'valibot'
import { EventId, RoomId } from '../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { changedThreadSubscriptions, threadSubscription } from '../../../shared/storage/thread-subscriptions.ts'
import { encodeThreadsToken, parseThreadsToken } from '../../../shared/streams/token.ts'
import { changedThreads } from '../../../shared/timeline/thread-subscriptions-json.ts'
import { route } from '../deps.ts'
import { openForEvent, seenEvent } from './events.ts'
import { limitOf } from './parameters.ts'

const subscriptions = 'https://github.com/matrix-org/matrix-spec-proposals/pull/4306'
const pages = 'https://github.com/matrix-org/matrix-spec-proposals/pull/4308'
const path = '/_matrix/client/unstable/io.element.msc4306/rooms/:roomId/thread/:threadRootId/subscription'
const params = v.object({ roomId: RoomId, threadRootId: EventId })
const text = v.optional(v.string())

export const getThreadSubscription = route({
  method: 'GET',
  path,
  spec: subscriptions,
  auth: 'user',
  sticky: 'room',
  params,
  async handle({ params: { roomId, threadRootId }, user: { user_id } }, deps) {
    const view = await openForEvent(deps, roomId, user_id)
    await seenEvent(deps, view, threadRootId)
    const { room_nid } = view
    const held = await threadSubscription(deps.sql, { user_id, room_nid, root_event_id: threadRootId })
    if (!held) throw new MatrixError('M_NOT_FOUND', 'You do not follow this thread')
    return { automatic: held.automatic }
  },
})

export const putThreadSubscription = route({
  method: 'PUT',
  path,
  spec: subscriptions,
  auth: 'user',
  sticky: 'room',
  params,
  body: v.object({ automatic: v.nullish(EventId) }),
  emptyBody: true,
  async handle({ params: { roomId, threadRootId }, body: { automatic }, user: { user_id } }, deps) {
    const view = await openForEvent(deps, roomId, user_id)
    await seenEvent(deps, view, threadRootId)
    const cause = automatic ? (await seenEvent(deps, view, automatic)).event : undefined
    if (cause && (cause.rel_type !== 'm.thread' || cause.relates_to !== threadRootId)) {
      throw new MatrixError('IO.ELEMENT.MSC4306.M_NOT_IN_THREAD', 'That event is not in the thread')
    }
    const thread = { user_id, room_id: roomId, root_event_id: threadRootId }
    return deps.main.subscribeToThread({ ...thread, ...(cause ? { cause: cause.position } : {}) })
  },
})

export const deleteThreadSubscription = route({
  method: 'DELETE',
  path,
  spec: subscriptions,
  auth: 'user',
  sticky: 'room',
  params,
  async handle({ params: { roomId, threadRootId }, user: { user_id } }, deps) {
    await seenEvent(deps, await openForEvent(deps, roomId, user_id), threadRootId)
    return deps.main.unsubscribeFromThread({ user_id, room_id: roomId, root_event_id: threadRootId })
  },
})

export const getThreadSubscriptions = route({
  method: 'GET',
  path: '/_matrix/client/unstable/io.element.msc4308/thread_subscriptions',
  spec: pages,
  auth: 'user',
  limit: 'read',
  query: v.object({ dir: v.picklist(['b']), from: text, to: text, limit: text }),
  async handle({ query: { from, to, limit }, user }, { sql, replication }) {
    const upTo = from ? parseThreadsToken(from, 'from') : replication.positions().thread_subscriptions
    const after = to ? parseThreadsToken(to, 'to') : 0
    const most = limitOf(limit, { standard: 100, most: 500 })
    if (most === 0) throw new MatrixError('M_INVALID_PARAM', 'Query parameter limit must be greater than 0')
    // One more tells whether there are any further.
    const found = await changedThreadSubscriptions(sql, user.user_id, { after, upTo, limit: most + 1 })
    const further = found[most]
    return {
      ...changedThreads(found.slice(0, most)),
      ...(further ? { end: encodeThreadsToken(further.position) } : {}),
    }
  },
})
