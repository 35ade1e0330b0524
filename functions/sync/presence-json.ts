/** Presence of those who share a room with the user. https://spec.matrix.org/v1.19/client-server-api/#presence */
import type { UserId } from '../../shared/matrix/ids.ts'
import type { PresenceRow } from '../../shared/streams/presence.ts'
import type { StreamPositions } from '../../shared/streams/registry.ts'
import type { AnswerContext } from './answer.ts'
import type { Live } from './live.ts'
import type { LiveUser } from './live-user.ts'
import type { Neighbours } from './neighbours.ts'
import type { Plan } from './plan.ts'
import type { Soon } from './soon.ts'

/** Events of what changed, joined by commas; '' for none. On a first sync, and for tokens of an earlier process, all who
 *  are not offline. */
export function presenceJson(context: AnswerContext, plan: Plan, people: Neighbours): Soon<string> {
  const { live, filter } = context
  const { since, upTo } = plan
  if (filter.presence.passesNone || live.presence.position === 0) return ''
  if (since && people.met.size === 0 && !presenceMoved(live, since, upTo)) return ''
  if (live.presence.unplaced().size === 0) return presenceOf(context, plan, people)
  return live.placePresence().then(() => presenceOf(context, plan, people))
}

function presenceOf({ live, user, filter, now }: AnswerContext, { since, upTo }: Plan, { met }: Neighbours): string {
  const rows = new Map<UserId, PresenceRow>()
  for (const row of changedPresence(live, user, since, upTo)) rows.set(row.user_id, row)
  for (const id of met) {
    const row = live.presence.get(id)
    if (row && sharesRoom(user, live.presence.roomsOf(id))) rows.set(id, row)
  }
  return [...rows.values()]
    .filter((row) => filter.presence.matches({ type: 'm.presence', sender: row.user_id }))
    .map((row) => presenceEventJson(row, now))
    .join(',')
}

/** Whether the memory holds presence that the user was not told of. */
export function presenceMoved(live: Live, since: StreamPositions, upTo: StreamPositions): boolean {
  return live.presence.position > since.presence && since.presence < upTo.presence
}

export function changedPresence(
  live: Live,
  user: LiveUser,
  since: StreamPositions | undefined,
  upTo: StreamPositions,
): PresenceRow[] {
  const anew = !since || since.presence < live.startedAt.presence
  const rows = live.presence.between(anew ? 0 : since.presence, upTo.presence)
  return rows.filter(
    (row) =>
      row.user_id !== user.user_id &&
      (!anew || row.presence !== 'offline') &&
      sharesRoom(user, live.presence.roomsOf(row.user_id)),
  )
}

function sharesRoom(user: LiveUser, rooms: ReadonlySet<number> | undefined): boolean {
  if (!rooms) return false
  if (rooms.size < user.rooms.size) {
    for (const nid of rooms) if (user.rooms.get(nid)?.membership === 'join') return true
    return false
  }
  for (const room of user.rooms.values()) if (room.membership === 'join' && rooms.has(room.room_nid)) return true
  return false
}

function presenceEventJson(row: PresenceRow, now: number): string {
  const content = {
    presence: row.presence,
    last_active_ago: Math.max(0, now - row.last_active_ts),
    currently_active: row.currently_active,
    ...(row.status_msg === undefined ? {} : { status_msg: row.status_msg }),
  }
  return `{"content":${JSON.stringify(content)},"sender":${JSON.stringify(row.user_id)},"type":"m.presence"}`
}
