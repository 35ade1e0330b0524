/** One room at once, as older clients and previews ask for it.
 *  https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidinitialsync */
import * as v from 'valibot'
import { RawJson } from '../../../shared/http/route.ts'
import { RoomId } from '../../../shared/matrix/ids.ts'
import { accountDataOfRooms, isThere } from '../../../shared/storage/account-data.ts'
import { isPublished } from '../../../shared/storage/aliases.ts'
import { encodePaginationToken, timelineBeginning } from '../../../shared/streams/token.ts'
import { timelinePage } from '../../../shared/timeline/timeline-page.ts'
import { route } from '../deps.ts'
import { limitOf } from './parameters.ts'
import { eventsJson, readerOf, stateJson } from './rendering.ts'
import { stateOf } from './state-of-view.ts'

export const getRoomInitialSync = route({
  method: 'GET',
  path: '/_matrix/client/v3/rooms/:roomId/initialSync',
  spec: 'client-server-api/#get_matrixclientv3roomsroomidinitialsync',
  auth: 'guest',
  limit: 'read',
  sticky: 'room',
  params: v.object({ roomId: RoomId }),
  query: v.object({ limit: v.optional(v.string()) }),
  async handle({ params: { roomId }, query, user }, deps) {
    const { sql, replication } = deps
    const reader = readerOf(deps)
    const view = await reader.open(roomId, user.user_id)
    const limit = limitOf(query.limit, { standard: 10, most: 100 })
    const page = { range: { after: timelineBeginning, upTo: view.upTo }, direction: 'b', limit } as const
    const [{ seen, end }, published, accountData] = await Promise.all([
      timelinePage(sql, reader, view, page),
      isPublished(sql, roomId),
      accountDataOfRooms(sql, user.user_id, [view.room_nid], replication.positions().account_data),
    ])
    const chunk = (await eventsJson(deps, view, seen, user)).toReversed()
    const start = encodePaginationToken(end ?? (seen.at(-1)?.event.position ?? 1) - 1)
    const data = accountData
      .filter(isThere)
      .map(({ type, content }) => `{"content":${content},"type":${JSON.stringify(type)}}`)
    const head = {
      room_id: roomId,
      // Who reads as part of the world has none.
      ...(view.membership ? { membership: view.membership } : {}),
      visibility: published ? 'public' : 'private',
    }
    return new RawJson(
      (async function* () {
        yield `${JSON.stringify(head).slice(0, -1)},"account_data":[${data.join(',')}]`
        yield `,"messages":{"start":"${start}","end":"${encodePaginationToken(view.upTo)}","chunk":[${chunk.join(',')}]}`
        yield ',"presence":[],"receipts":[],"state":['
        let before = ''
        for await (const events of stateOf(sql, view, { root: view.stateRoot })) {
          if (events.length === 0) continue
          yield before + stateJson(deps, events, user).join(',')
          before = ','
        }
        yield ']}'
      })(),
    )
  },
})
