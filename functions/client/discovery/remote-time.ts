/** Other servers are asked what was said at a time, where this one does not have all of a room.
 *  https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1timestamp_to_eventroomid */
import * as v from 'valibot'
import { RemoteError } from '../../../shared/federation/federation-client.ts'
import { EventId, type ServerName } from '../../../shared/matrix/ids.ts'
import { hasBackwardGap, serversToAsk } from '../../../shared/storage/backward-gaps.ts'
import type { Direction } from '../../../shared/storage/events.ts'
import type { RoomView } from '../../../shared/timeline/room-reader.ts'
import type { ClientDeps } from '../deps.ts'

export interface EventInTime {
  readonly event_id: EventId
  readonly origin_server_ts: number
}

const Answer = v.object({ event_id: EventId, origin_server_ts: v.pipe(v.number(), v.safeInteger()) })
const serversMax = 3
const totalMs = 8_000
const answerBytesMax = 16 * 1024

/** What other servers in the room have nearest to that time; undefined where this one has all, or nobody says. */
export async function remoteEventAt(
  { sql, federation, clock }: ClientDeps,
  view: RoomView,
  { ts, direction }: { readonly ts: number; readonly direction: Direction },
): Promise<EventInTime | undefined> {
  const now = clock.now()
  if (view.membership !== 'join' || !(await hasBackwardGap(sql, view.room_nid, now))) return undefined
  const servers = (await serversToAsk(sql, view.room_nid, now)).slice(0, serversMax)
  const uri = `/_matrix/federation/v1/timestamp_to_event/${encodeURIComponent(view.room_id)}?ts=${ts}&dir=${direction}`
  const ask = async (server: ServerName): Promise<EventInTime[]> => {
    try {
      const limits = { totalMs, bytesMax: answerBytesMax }
      const answer = v.safeParse(Answer, await federation.client.json(server, { method: 'GET', uri, limits }))
      if (!answer.success) return []
      const { origin_server_ts } = answer.output
      return (direction === 'f' ? origin_server_ts >= ts : origin_server_ts <= ts) ? [answer.output] : []
    } catch (error) {
      if (error instanceof RemoteError) return []
      throw error
    }
  }
  const answers = (await Promise.all(servers.map(ask))).flat()
  return answers.reduce<EventInTime | undefined>((best, one) => (isNearer(one, best, ts) ? one : best), undefined)
}

export function isNearer(one: EventInTime, other: EventInTime | undefined, ts: number): boolean {
  return !other || Math.abs(one.origin_server_ts - ts) < Math.abs(other.origin_server_ts - ts)
}
