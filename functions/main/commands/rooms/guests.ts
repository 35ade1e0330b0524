/** Guests in rooms: they join where m.room.guest_access lets them, and leave when it no longer does.
 *  https://spec.matrix.org/v1.19/client-server-api/#guest-access */
import type { UserId } from '../../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../../shared/matrix/matrix-error.ts'
import type { MainSql } from '../../../../shared/storage/sql.ts'
import type { Draft } from '../../rooms/append.ts'
import type { RoomTask } from '../../rooms/engine.ts'
import { ensureLoaded } from '../../rooms/load-room.ts'
import { type Room, stateEntry, statePdu } from '../../rooms/room.ts'

const guestAccess = 'm.room.guest_access'

/** Throws M_GUEST_ACCESS_FORBIDDEN where the room does not take guests. */
export async function checkGuest(sql: MainSql, room: Room): Promise<void> {
  await ensureLoaded(sql, room, [[guestAccess, '']])
  if (!takesGuests(room)) throw new MatrixError('M_GUEST_ACCESS_FORBIDDEN', 'Guests cannot join this room')
}

/** As the loaded state says. */
export function takesGuests(room: Room): boolean {
  return statePdu(room, guestAccess, '')?.content.guest_access === 'can_join'
}

/** True where the room takes guests, and the event may be what ends that: it sets the rule, or redacts it. */
export async function mayCloseToGuests(sql: MainSql, room: Room, draft: Draft): Promise<boolean> {
  const setsRule = draft.type === guestAccess && draft.state_key === ''
  const redactsRule = draft.redacts !== undefined && stateEntry(room, guestAccess, '')?.event_id === draft.redacts
  if (!setsRule && !redactsRule) return false
  await ensureLoaded(sql, room, [[guestAccess, '']])
  return takesGuests(room)
}

/** This server's guests leave, in the same commit. */
export async function removeGuests(sql: MainSql, room: Room, append: RoomTask['append']): Promise<void> {
  const guests = await sql<{ user_id: UserId }[]>`
    select user_id from users
    where kind = 'guest' and user_id = any(${sql.array([...room.local_members.keys()], 25)}::text[])`
  for (const { user_id } of guests) {
    await append({ type: 'm.room.member', state_key: user_id, sender: user_id, content: { membership: 'leave' } })
  }
}
