/** What clients asked for before there was GET /sync: the whole account at once, then a stream of events. Both are made from
 *  what a sync answers. https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3initialsync */
import * as v from 'valibot'
import type { Requester } from '../../shared/auth/requester.ts'
import { RawJson, type RequestInfo } from '../../shared/http/route.ts'
import type { RoomId } from '../../shared/matrix/ids.ts'
import type { JsonObject } from '../../shared/matrix/json-value.ts'
import { MatrixError } from '../../shared/matrix/matrix-error.ts'
import { publishedAmong } from '../../shared/storage/directory.ts'
import { memberEventsByNid } from '../../shared/storage/members.ts'
import { roomsOfUser, type UserRoomRow } from '../../shared/storage/sync-rooms.ts'
import type { StreamPosition } from '../../shared/streams/define.ts'
import type { StreamPositions } from '../../shared/streams/registry.ts'
import { encodeSyncToken } from '../../shared/streams/token.ts'
import { clientEventJson } from '../../shared/timeline/client-json.ts'
import { route, type SyncDeps } from './deps.ts'
import { answerSync, type Query } from './get-sync.ts'
import { Answered, type AnsweredRoom } from './old-sync-answer.ts'

/** Rooms of one sync, of which the answer is in memory. */
const roomsAtOnce = 50
const limits = { standard: 10, most: 100 }

export const getInitialSync = route({
  method: 'GET',
  path: '/_matrix/client/v3/initialSync',
  spec: 'client-server-api/#get_matrixclientv3initialsync',
  auth: 'user',
  limit: 'read',
  sticky: 'user',
  query: v.object({ limit: v.optional(v.string()), archived: v.optional(v.picklist(['true', 'false'])) }),
  async handle({ query, user, request }, deps) {
    const limit = limitOf(query.limit)
    const archived = query.archived === 'true'
    // From before anything is read: what comes meanwhile is told again by GET /events, rather than never.
    const end = oldToken(deps.replication.positions())
    const rooms = (await roomsOfUser(deps.sql, user.user_id)).filter(
      ({ membership, left_at }) =>
        membership === 'join' || membership === 'invite' || (archived && left_at > 0 && membership !== 'knock'),
    )
    const ask = (ids: readonly RoomId[]) => {
      const room = { rooms: ids, include_leave: archived, timeline: { limit } }
      return syncAnswer(deps, { user, request, query: { filter: JSON.stringify({ room }), use_state_after: true } })
    }
    const head = await ask([])
    return new RawJson(
      (async function* () {
        const presence = JSON.stringify(head.presence?.events ?? [])
        yield `{"end":"${end}","account_data":${JSON.stringify(head.account_data?.events ?? [])},"presence":${presence}`
        yield ',"receipts":[],"rooms":['
        let before = ''
        for (let i = 0; i < rooms.length; i += roomsAtOnce) {
          const some = rooms.slice(i, i + roomsAtOnce)
          const answer = await ask(some.map((room) => room.room_id))
          const pieces = await roomPieces(deps, user, some, answer)
          if (pieces.length === 0) continue
          yield before + pieces.join(',')
          before = ','
        }
        yield ']}'
      })(),
    )
  },
})

async function roomPieces(
  deps: SyncDeps,
  user: Requester,
  rooms: readonly UserRoomRow[],
  answer: Answered,
): Promise<string[]> {
  const invites = rooms.filter((room) => room.membership === 'invite').map((room) => room.event_nid)
  const [published, members] = await Promise.all([
    publishedAmong(
      deps.sql,
      rooms.map((room) => room.room_nid),
    ),
    memberEventsByNid(deps.sql, invites),
  ])
  const now = deps.clock.now()
  return rooms.flatMap(({ room_id, room_nid, membership, event_nid }) => {
    const visibility = published.has(room_nid) ? 'public' : 'private'
    const head = { room_id, membership, visibility }
    if (membership === 'invite') {
      const member = answer.rooms?.invite?.[room_id] ? members.get(event_nid) : undefined
      if (!member) return []
      const invite = clientEventJson(member, user, { now, roomId: true })
      return [`${JSON.stringify({ ...head, inviter: member.sender }).slice(0, -1)},"invite":${invite}}`]
    }
    const room = answer.rooms?.join?.[room_id] ?? answer.rooms?.leave?.[room_id]
    return room ? [JSON.stringify({ ...head, ...roomInfo(room_id, room, answer.next_batch) })] : []
  })
}

function roomInfo(room_id: RoomId, room: AnsweredRoom, end: string) {
  const named = (event: JsonObject) => ({ ...event, room_id })
  const { timeline, state_after, account_data, ephemeral } = room
  return {
    messages: { chunk: timeline?.events.map(named) ?? [], start: timeline?.prev_batch ?? end, end },
    state: state_after?.events.map(named) ?? [],
    account_data: account_data?.events ?? [],
    receipts: ephemeral?.events.filter((event) => event.type === 'm.receipt').map(named) ?? [],
  }
}

/** The answer to a sync, parsed. */
export async function syncAnswer(
  deps: SyncDeps,
  { user, request, query }: { readonly user: Requester; readonly request: RequestInfo; readonly query: Query },
): Promise<Answered> {
  const { pieces } = await answerSync(deps, { requester: user, request, query, inbox: false })
  let json = ''
  for await (const piece of pieces) json += piece
  return v.parse(Answered, JSON.parse(json))
}

/** Messages to devices do not come this way: with such a token /sync begins with all that are there. */
export function oldToken(positions: StreamPositions): string {
  return encodeSyncToken({ ...positions, to_device: 0 as StreamPosition })
}

function limitOf(text: string | undefined): number {
  if (text === undefined || text === '') return limits.standard
  if (!/^\d{1,15}$/.test(text)) throw new MatrixError('M_INVALID_PARAM', 'Query parameter limit must be a whole number')
  return Math.min(Number(text), limits.most)
}
