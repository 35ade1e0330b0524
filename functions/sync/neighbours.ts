/** Who began or ceased to share a room with the user between two places in the streams. */
import type { UserId } from '../../shared/matrix/ids.ts'
import { joinedMembers, membersChangedIn } from '../../shared/storage/sync-members.ts'
import type { AnswerContext } from './answer.ts'
import type { Plan } from './plan.ts'
import type { Soon } from './soon.ts'

export interface Neighbours {
  /** May share a room now and may not have before. */
  readonly met: ReadonlySet<UserId>
  /** Shared a room before and may not any more. */
  readonly parted: ReadonlySet<UserId>
}

const nobody: Neighbours = { met: new Set(), parted: new Set() }

/** Nobody is new on a first sync: the client starts from who is there. */
export function neighbours({ sql, user }: AnswerContext, plan: Plan): Soon<Neighbours> {
  const { since, upTo } = plan
  if (!since || since.events === upTo.events) return nobody
  const met = new Set<UserId>()
  const parted = new Set<UserId>()
  const entered: number[] = []
  const unknown: number[] = []
  for (const { room, newly } of plan.joins) {
    if (newly) entered.push(room.room_nid)
    else if (room.events > since.events && room.streamedFrom > since.events) unknown.push(room.room_nid)
    else {
      for (let i = room.timeline.length - 1; i >= 0; i--) {
        const event = room.timeline[i]?.event
        if (!event || event.position <= since.events) break
        const { member } = event
        if (!member || event.position > upTo.events) continue
        if (member.membership === 'join' && member.prev_membership !== 'join') met.add(member.user_id)
        else if (member.membership !== 'join' && member.prev_membership === 'join') parted.add(member.user_id)
      }
    }
  }
  const left = plan.leaves.filter((part) => !part.ownEventOnly && part.upTo > since.events)
  if (entered.length + unknown.length + left.length > 0) {
    const leftRooms = left.map((part) => part.membership.room_nid)
    const reading = Promise.all([
      joinedMembers(sql, entered),
      joinedMembers(sql, leftRooms),
      membersChangedIn(sql, unknown, { after: since.events, upTo: upTo.events }),
    ])
    return reading.then(([inEntered, inLeft, changed]) => {
      for (const id of inEntered) met.add(id)
      for (const id of inLeft) parted.add(id)
      for (const id of changed) {
        met.add(id)
        parted.add(id)
      }
      return others(user.user_id, met, parted)
    })
  }
  return met.size + parted.size === 0 ? nobody : others(user.user_id, met, parted)
}

function others(user: UserId, met: Set<UserId>, parted: Set<UserId>): Neighbours {
  met.delete(user)
  parted.delete(user)
  return { met, parted }
}
