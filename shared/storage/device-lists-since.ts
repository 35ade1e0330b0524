/** Whose devices a client has to look at anew, or no more, since a place in the streams, from the database alone.
 *  https://spec.matrix.org/v1.19/client-server-api/#tracking-the-device-list-for-a-user */
import type { UserId } from '../matrix/ids.ts'
import type { StreamPositions } from '../streams/registry.ts'
import { changedDeviceLists } from './device-lists.ts'
import type { ReadSql } from './sql.ts'
import { joinedMembers, membersMovedIn } from './sync-members.ts'
import { joinedAmong, joinedRoomsOf, type MembershipChange, membershipChanges } from './sync-rooms.ts'

const end = Number.MAX_SAFE_INTEGER

export interface DeviceLists {
  /** Those who share a room with the user and whose keys changed, or who may have begun to share one. */
  readonly changed: readonly UserId[]
  /** Those who share no room with the user any more and may have before. */
  readonly left: readonly UserId[]
}

/** Up to now: what changed after the place that the client asks up to, it is told again by its next sync. */
export async function deviceListsSince(
  sql: ReadSql,
  user: UserId,
  since: Pick<StreamPositions, 'events' | 'device_lists'>,
): Promise<DeviceLists> {
  const range = { after: since.events, upTo: end }
  const [joined, moves] = await Promise.all([joinedRoomsOf(sql, [user]), membershipChanges(sql, user, range)])
  const own = joined.get(user) ?? []
  const { entered, gone } = ownMoves(own, moves)
  const [changedKeys, inEntered, inGone, moved] = await Promise.all([
    changedDeviceLists(sql, user, own, since.device_lists),
    joinedMembers(sql, entered),
    joinedMembers(sql, gone),
    membersMovedIn(sql, [...own, ...gone], range),
  ])
  const met = [...inEntered, ...moved.met]
  const parted = new Set([...inGone, ...moved.parted])
  const others = new Set([...met, ...parted])
  others.delete(user)
  const shared = await joinedAmong(sql, own, [...others])
  const changed = new Set(changedKeys)
  for (const id of met) if (shared.has(id)) changed.add(id)
  if (entered.length > 0 && [...met].some((id) => id !== user)) changed.add(user)
  const left = [...others].filter((id) => parted.has(id) && !shared.has(id))
  return { changed: [...changed], left }
}

/** Rooms that the user came into and is in, and those that they were in and are not. */
function ownMoves(own: readonly number[], moves: readonly MembershipChange[]): { entered: number[]; gone: number[] } {
  const entered = new Set<number>()
  const gone = new Set<number>()
  for (const { room_nid, membership, prev_membership } of moves) {
    if (membership === 'join' && prev_membership !== 'join') entered.add(room_nid)
    if (membership !== 'join' && prev_membership === 'join') gone.add(room_nid)
  }
  return {
    entered: own.filter((room) => entered.has(room)),
    gone: [...gone].filter((room) => !own.includes(room)),
  }
}
