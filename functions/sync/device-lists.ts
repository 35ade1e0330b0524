/** Whose devices a client has to look at anew, or no more: those who began or ceased to share a room with the user.
 *  https://spec.matrix.org/v1.19/client-server-api/#tracking-the-device-list-for-a-user */
import type { UserId } from '../../shared/matrix/ids.ts'
import { joinedAmong } from '../../shared/storage/sync-rooms.ts'
import type { AnswerContext } from './answer.ts'
import type { Neighbours } from './neighbours.ts'
import type { Soon } from './soon.ts'

/** `,"device_lists":{…}`, or '' where nothing changed. */
export function deviceListsJson(context: AnswerContext, people: Neighbours): Soon<string> {
  return people.met.size + people.parted.size === 0 ? '' : readDeviceLists(context, people)
}

async function readDeviceLists({ sql, user, live }: AnswerContext, { met, parted }: Neighbours): Promise<string> {
  const own: number[] = []
  for (const room of user.rooms.values()) if (room.membership === 'join') own.push(room.room_nid)
  const shared = new Set<UserId>()
  const unknown: UserId[] = []
  for (const id of new Set([...met, ...parted])) {
    const rooms = live.joinedRoomsOf(id)
    if (!rooms) unknown.push(id)
    else if (own.some((nid) => rooms.has(nid))) shared.add(id)
  }
  for (const id of await joinedAmong(sql, own, unknown)) shared.add(id)
  const changed = [...met].filter((id) => shared.has(id))
  const left = [...parted].filter((id) => !shared.has(id))
  return changed.length === 0 && left.length === 0 ? '' : `,"device_lists":${JSON.stringify({ changed, left })}`
}
