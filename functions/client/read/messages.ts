import * as v from 'valibot'
import { RawJson } from '../../../shared/http/route.ts'
import { RoomId } from '../../../shared/matrix/ids.ts'
import { encodePaginationToken, parsePaginationToken, timelineBeginning } from '../../../shared/streams/token.ts'
import { route } from '../deps.ts'
import { pageWithHistory } from './history.ts'
import { directionOf, filterOf, limitOf } from './parameters.ts'
import { eventsJson, readerOf, stateJson } from './rendering.ts'
import { membersOf } from './state-of-view.ts'

const text = v.optional(v.string())

export const getMessages = route({
  method: 'GET',
  path: '/_matrix/client/v3/rooms/:roomId/messages',
  spec: 'client-server-api/#get_matrixclientv3roomsroomidmessages',
  auth: 'guest',
  sticky: 'room',
  params: v.object({ roomId: RoomId }),
  query: v.object({ from: text, to: text, dir: text, limit: text, filter: text }),
  async handle({ params, query, user }, deps) {
    const { sql } = deps
    const reader = readerOf(deps)
    // Before the parameters are looked at: who may not read the room hears that first.
    const view = await reader.open(params.roomId, user.user_id)
    const direction = directionOf(query.dir)
    const limit = limitOf(query.limit, { standard: 10, most: 500 })
    const { filter, lazyLoadMembers } = filterOf(query.filter)
    const from = query.from ? parsePaginationToken(query.from) : undefined
    const to = query.to ? parsePaginationToken(query.to, 'to') : undefined
    const range =
      direction === 'f'
        ? { after: from ?? timelineBeginning, upTo: to ?? view.upTo }
        : { after: to ?? timelineBeginning, upTo: from ?? view.upTo }
    const { seen, end } = await pageWithHistory(deps, view, { range, direction, limit, filter })

    const start = query.from || encodePaginationToken(direction === 'f' ? range.after : range.upTo)
    const chunk = await eventsJson(deps, view, seen, user)
    let json = `{"chunk":[${chunk.join(',')}],"start":${JSON.stringify(start)}`
    if (end !== undefined) json += `,"end":"${encodePaginationToken(end)}"`
    if (lazyLoadMembers && seen.length > 0) {
      const senders = [...new Set(seen.map(({ event }) => event.sender))]
      const members = await membersOf(sql, view, seen[0]?.event.state_root, senders)
      json += `,"state":[${stateJson(deps, members, user).join(',')}]`
    }
    return new RawJson(`${json}}`)
  },
})
