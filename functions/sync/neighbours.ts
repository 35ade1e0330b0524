/** Who began or ceased to share a room with the user between two places in the streams, whatever rooms the client has
 *  filtered out. */
import type { UserId } from '../../shared/matrix/ids.ts'
import { joinedMembers, membersMovedIn } from '../../shared/storage/sync-members.ts'
import type { AnswerContext } from './answer.ts'
import type { Plan } from './plan.ts'
import type { Soon } from './soon.ts'

export interface Neighbours {
  /** May share a room now and may not have before. */
  readonly met: ReadonlySet<UserId>
  /** Shared a room before and may not any more. */
  readonly parted: ReadonlySet<UserId>
  /** The user came into a room. */
  readonly entered?: boolean
}

const nobody: Neighbours = { met: new Set(), parted: new Set() }

/** Nobody is new on a first sync: the client starts from who is there. */
export function neighbours({ sql, user }: AnswerContext, plan: Plan): Soon<Neighbours> {
  const { since, upTo } = plan
  if (!since || since.events === upTo.events) return nobody
  const met = new Set<UserId>()
  const parted = new Set<UserId>()
  const entered: number[] = []
  const gone: number[] = []
  const unknown: number[] = []
  for (const { room, room_nid, joinedAt, leftAt } of user.rooms.values()) {
    if (!room) {
      if (leftAt > since.events) gone.push(room_nid)
      continue
    }
    if (joinedAt > since.events) {
      entered.push(room_nid)
      // Who was there before and is not any more was a neighbour if the user was there too.
      if (leftAt > since.events) unknown.push(room_nid)
    } else if (room.events <= since.events) continue
    else if (room.streamedFrom > since.events) unknown.push(room_nid)
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
  if (entered.length + unknown.length + gone.length > 0) {
    const reading = Promise.all([
      joinedMembers(sql, entered),
      joinedMembers(sql, gone),
      // Who left after the user did had been a neighbour too.
      membersMovedIn(sql, [...unknown, ...gone], { after: since.events, upTo: upTo.events }),
    ])
    return reading.then(([inEntered, inGone, moved]) => {
      for (const id of [...inEntered, ...moved.met]) met.add(id)
      for (const id of [...inGone, ...moved.parted]) parted.add(id)
      return { ...others(user.user_id, met, parted), entered: entered.length > 0 }
    })
  }
  return met.size + parted.size === 0 ? nobody : others(user.user_id, met, parted)
}

function others(user: UserId, met: Set<UserId>, parted: Set<UserId>): Neighbours {
  met.delete(user)
  parted.delete(user)
  return { met, parted }
}
