/** Whose devices a client has to look at anew, or no more: those whose keys changed, and those who began or ceased to share
 *  a room with the user. https://spec.matrix.org/v1.19/client-server-api/#tracking-the-device-list-for-a-user */
import type { UserId } from '../../shared/matrix/ids.ts'
import { changedDeviceLists } from '../../shared/storage/device-lists.ts'
import { joinedAmong } from '../../shared/storage/sync-rooms.ts'
import type { StreamPositions } from '../../shared/streams/registry.ts'
import type { AnswerContext } from './answer.ts'
import type { Live } from './live.ts'
import type { LiveUser } from './live-user.ts'
import type { Neighbours } from './neighbours.ts'
import type { Plan } from './plan.ts'
import type { Soon } from './soon.ts'

/** More users than this are looked up in the database together. */
const fromMemoryMax = 200

/** `,"device_lists":{…}`, or '' where nothing changed. */
export function deviceListsJson(context: AnswerContext, { since, upTo }: Plan, people: Neighbours): Soon<string> {
  if (!since) return ''
  const peopleMoved = people.met.size + people.parted.size > 0
  if (!peopleMoved && !deviceListsMoved(context.live, context.user, since, upTo)) return ''
  return readDeviceLists(context, since, upTo, people)
}

/** Whether keys changed of somebody who shares a room with the user, as far as the memory can tell. */
export function deviceListsMoved(live: Live, user: LiveUser, since: StreamPositions, upTo: StreamPositions): boolean {
  if (since.device_lists === upTo.device_lists) return false
  const rows = live.deviceLists.between(since.device_lists, upTo.device_lists)
  if (!rows) return true
  return rows.some(({ user_id, viewer }) => {
    if (viewer !== undefined) return viewer === user.user_id
    const rooms = live.joinedRoomsOf(user_id)
    return user_id === user.user_id || !rooms || sharesRoom(user, rooms)
  })
}

async function readDeviceLists(
  { sql, user, live }: AnswerContext,
  since: StreamPositions,
  upTo: StreamPositions,
  { met, parted, entered }: Neighbours,
): Promise<string> {
  const own: number[] = []
  for (const room of user.rooms.values()) if (room.membership === 'join') own.push(room.room_nid)
  const keysChanged = await changedKeys({ sql, user, live, own }, since.device_lists, upTo.device_lists)
  const shared = new Set<UserId>()
  const unknown: UserId[] = []
  for (const id of new Set([...met, ...parted])) {
    const rooms = live.joinedRoomsOf(id)
    if (!rooms) unknown.push(id)
    else if (sharesRoom(user, rooms)) shared.add(id)
  }
  for (const id of await joinedAmong(sql, own, unknown)) shared.add(id)
  const changed = new Set(keysChanged)
  for (const id of met) if (shared.has(id)) changed.add(id)
  // Where others met the user, so did the user's other devices.
  if (entered && met.size > 0) changed.add(user.user_id)
  const left = [...parted].filter((id) => !shared.has(id))
  if (changed.size + left.length === 0) return ''
  return `,"device_lists":${JSON.stringify({ changed: [...changed], left })}`
}

interface KeyContext extends Pick<AnswerContext, 'sql' | 'user' | 'live'> {
  /** Rooms that the user is joined to. */
  readonly own: readonly number[]
}

/** Users whose keys changed at positions in (after, upTo], as far as the user may know. */
async function changedKeys(context: KeyContext, after: number, upTo: number): Promise<readonly UserId[]> {
  const { sql, user, live, own } = context
  if (after === upTo) return []
  const rows = live.deviceLists.between(after, upTo)
  const known = new Set<UserId>()
  const candidates = new Set<UserId>()
  for (const { user_id, viewer } of rows ?? []) {
    if (viewer === undefined ? user_id === user.user_id : viewer === user.user_id) known.add(user_id)
    else if (viewer === undefined) candidates.add(user_id)
  }
  if (!rows || candidates.size > fromMemoryMax) return changedDeviceLists(sql, user.user_id, own, after)
  const unknown = [...candidates].filter((id) => !live.joinedRoomsOf(id))
  for (const id of await joinedAmong(sql, own, unknown)) known.add(id)
  for (const id of candidates) {
    const rooms = live.joinedRoomsOf(id)
    if (rooms && sharesRoom(user, rooms)) known.add(id)
  }
  return [...known]
}

function sharesRoom(user: LiveUser, rooms: ReadonlySet<number>): boolean {
  for (const nid of rooms) if (user.rooms.get(nid)?.membership === 'join') return true
  return false
}
