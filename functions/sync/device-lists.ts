/** Whose devices a client has to look at anew, or no more: those who began or ceased to share a room with the user.
 *  https://spec.matrix.org/v1.19/client-server-api/#tracking-the-device-list-for-a-user */
import type { UserId } from '../../shared/matrix/ids.ts'
import { joinedMembers, membersChangedIn } from '../../shared/storage/sync-members.ts'
import { joinedAmong } from '../../shared/storage/sync-rooms.ts'
import type { AnswerContext } from './answer.ts'
import type { Plan } from './plan.ts'

/** `,"device_lists":{…}`, or '' where nothing changed and on a first sync. */
export async function deviceListsJson({ sql, user }: AnswerContext, plan: Plan): Promise<string> {
  const { since, upTo } = plan
  if (!since) return ''
  const met = new Set<UserId>()
  const parted = new Set<UserId>()
  const entered: number[] = []
  const unknown: number[] = []
  for (const part of plan.joins) {
    if (part.newly) entered.push(part.membership.room_nid)
    else if (part.room.timelineFrom > since.events) unknown.push(part.membership.room_nid)
    else {
      for (const { event } of part.room.timeline) {
        if (event.position <= since.events || event.position > part.upTo || !event.member) continue
        const { user_id, membership, prev_membership } = event.member
        if (membership === 'join' && prev_membership !== 'join') met.add(user_id)
        else if (membership !== 'join' && prev_membership === 'join') parted.add(user_id)
      }
    }
  }
  const left = plan.leaves.filter((part) => !part.ownEventOnly && part.upTo > since.events)
  const [inEntered, inLeft, changed] = await Promise.all([
    joinedMembers(sql, entered),
    joinedMembers(
      sql,
      left.map((part) => part.membership.room_nid),
    ),
    membersChangedIn(sql, unknown, { after: since.events, upTo: upTo.events }),
  ])
  for (const id of inEntered) met.add(id)
  for (const id of changed) {
    met.add(id)
    parted.add(id)
  }
  for (const id of inLeft) parted.add(id)
  met.delete(user.user_id)
  parted.delete(user.user_id)
  if (met.size === 0 && parted.size === 0) return ''
  const rooms: number[] = []
  for (const room of user.rooms.values()) if (room.membership === 'join') rooms.push(room.room_nid)
  const shared = await joinedAmong(sql, rooms, [...met, ...parted])
  const lists = {
    changed: [...met].filter((id) => shared.has(id)),
    left: [...parted].filter((id) => !shared.has(id)),
  }
  return lists.changed.length === 0 && lists.left.length === 0 ? '' : `,"device_lists":${JSON.stringify(lists)}`
}
