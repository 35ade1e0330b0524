/** Joining, inviting, leaving, kicking, banning, knocking. https://spec.matrix.org/v1.19/client-server-api/#room-membership
 *  The authorisation rules decide; what is checked here is what the rules leave open, or answer less clearly. */
import type { RequestOf } from '../../../../shared/commands/define.ts'
import type { MainClient } from '../../../../shared/commands/registry.ts'
import type { roomCommands } from '../../../../shared/commands/rooms.ts'
import type { EventId } from '../../../../shared/matrix/ids.ts'
import type { JsonObject } from '../../../../shared/matrix/json-value.ts'
import { MatrixError } from '../../../../shared/matrix/matrix-error.ts'
import { answered } from '../../command-call.ts'
import { membershipOf, type Room, stateEntry } from '../../rooms/room.ts'
import { noticesSender } from '../server-notices.ts'
import { replacesRoom } from './carry-over.ts'
import { checkGuest } from './guests.ts'
import { checkInvitees } from './invitees.ts'
import { joinContent } from './join-content.ts'
import { profileOf } from './profiles.ts'
import type { RoomCommandDeps } from './room-command-deps.ts'

type Request = RequestOf<(typeof roomCommands)['changeMembership']>
type Action = Request['action']

const membershipAfter = {
  join: 'join',
  invite: 'invite',
  leave: 'leave',
  kick: 'leave',
  ban: 'ban',
  unban: 'leave',
  knock: 'knock',
} as const satisfies Record<Action, string>

/** Keys of a member event that are the server's to set. */
const reserved = ['membership', 'displayname', 'avatar_url', 'reason', 'join_authorised_via_users_server', 'is_direct']

export function changeMembershipHandler(deps: RoomCommandDeps): MainClient['changeMembership'] {
  const { engine, sql } = deps
  return async (request) => {
    const { action, user_id, target, room_id } = request
    const unaware = action === 'invite' ? await checkInvitees(deps, user_id, [target]) : undefined
    // Asked before the room is held: it is the target's alone.
    const profile = action === 'join' || action === 'knock' || action === 'invite' ? await profileOf(sql, target) : {}
    const changed = await engine.tryRun(room_id, action, async ({ room, append, write }) => {
      const before = membershipOf(room, target)
      const settled = settledAlready(room, request, before)
      if (settled) return { event_id: settled, settings: false }
      await check(deps, room, request, before)
      const content: JsonObject = {
        ...extraContent(request),
        ...profile,
        ...(action === 'join' ? await joinContent(deps, room, target) : undefined),
        ...(request.reason === undefined ? undefined : { reason: request.reason }),
        membership: membershipAfter[action],
      }
      const { pdu } = await append({
        type: 'm.room.member',
        state_key: target,
        sender: user_id,
        content,
        device_id: request.device_id,
        unnoticed: unaware?.has(target),
      })
      write(answered({ event_id: pdu.event_id }))
      return { event_id: pdu.event_id, settings: action === 'join' && replacesRoom(room) }
    })
    if (!changed) throw unknownRoom(action)
    if (changed.settings) await deps.settingsFollow(target, room_id)
    return { event_id: changed.event_id }
  }
}

/** Joining twice, leaving twice: the event that is there answers. */
function settledAlready(room: Room, { action, target, user_id }: Request, before: string): EventId | undefined {
  const entry = stateEntry(room, 'm.room.member', target)
  if (!entry) return undefined
  if (action === 'join' && user_id === target && before === 'join') return entry.event_id
  if (action === 'leave' && before === 'leave' && entry.sender === target) return entry.event_id
  return undefined
}

async function check(deps: RoomCommandDeps, room: Room, request: Request, before: string): Promise<void> {
  const { action, user_id, target } = request
  switch (action) {
    case 'join':
      if (request.guest) await checkGuest(deps.sql, room)
      return
    case 'leave':
      if (before === 'leave') throw new MatrixError('M_FORBIDDEN', 'You are not in this room')
      if (
        before === 'invite' &&
        stateEntry(room, 'm.room.create', '')?.sender === noticesSender(deps.config, deps.serverName)
      ) {
        throw new MatrixError(
          'M_CANNOT_LEAVE_SERVER_NOTICE_ROOM',
          'What this server has to say to you can not be refused',
        )
      }
      return
    case 'kick':
      if (before !== 'join' && before !== 'invite' && before !== 'knock') {
        throw new MatrixError('M_FORBIDDEN', 'The user is not in the room')
      }
      return
    case 'unban':
      if (membershipOf(room, user_id) !== 'join') throw new MatrixError('M_FORBIDDEN', 'You are not in this room')
      if (before !== 'ban') throw new MatrixError('M_FORBIDDEN', 'The user is not banned from the room')
      return
    case 'invite':
      if (before === 'join') throw new MatrixError('M_FORBIDDEN', `${target} is in the room already`)
      return
    case 'ban':
    case 'knock':
      return
    default:
      action satisfies never
  }
}

function extraContent({ action, content }: Request): JsonObject {
  if (action === 'invite' && content?.is_direct === true) return { is_direct: true }
  if (action !== 'join') return {}
  const extra: JsonObject = { ...content }
  for (const key of reserved) delete extra[key]
  return extra
}

function unknownRoom(action: Action): MatrixError {
  return action === 'join' || action === 'knock' || action === 'leave'
    ? new MatrixError('M_NOT_FOUND', 'This server does not know the room')
    : new MatrixError('M_FORBIDDEN', 'You are not in this room')
}
