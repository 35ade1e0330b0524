/** Whose devices a client has to look at anew, or no more: those who began or ceased to share a room with the user.
 *  https://spec.matrix.org/v1.19/client-server-api/#tracking-the-device-list-for-a-user */
import { joinedAmong } from '../../shared/storage/sync-rooms.ts'
import type { AnswerContext } from './answer.ts'
import type { Neighbours } from './neighbours.ts'

/** `,"device_lists":{…}`, or '' where nothing changed. */
export async function deviceListsJson({ sql, user }: AnswerContext, { met, parted }: Neighbours): Promise<string> {
  if (met.size === 0 && parted.size === 0) return ''
  const rooms: number[] = []
  for (const room of user.rooms.values()) if (room.membership === 'join') rooms.push(room.room_nid)
  const shared = await joinedAmong(sql, rooms, [...met, ...parted])
  const changed = [...met].filter((id) => shared.has(id))
  const left = [...parted].filter((id) => !shared.has(id))
  return changed.length === 0 && left.length === 0 ? '' : `,"device_lists":${JSON.stringify({ changed, left })}`
}
