/** Joining, inviting, leaving, kicking, banning, knocking. https://spec.matrix.org/v1.19/client-server-api/#room-membership
 *  The authorisation rules decide; what is checked here is what the rules leave open, or answer less clearly. */
import type { RequestOf } from '../../../../shared/commands/define.ts'
import type { MainClient } from '../../../../shared/commands/registry.ts'
import type { roomCommands } from '../../../../shared/commands/rooms.ts'
import { type EventId, type ServerName, serverNameOf, type UserId } from '../../../../shared/matrix/ids.ts'
import type { JsonObject } from '../../../../shared/matrix/json-value.ts'
import { MatrixError } from '../../../../shared/matrix/matrix-error.ts'
import { answered } from '../../command-call.ts'
import { membershipOf, type Room, stateEntry } from '../../rooms/room.ts'
import { noticesSender } from '../server-notices.ts'
import { replacesRoom } from './carry-over.ts'
import { checkGuest } from './guests.ts'
import { checkInvitees } from './invitees.ts'
import { joinContent, otherAuthorisers } from './join-content.ts'
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
  const handler: MainClient['changeMembership'] = async (request) => {
    const { action, user_id, target, room_id } = request
    const unaware = action === 'invite' ? await checkInvitees(deps, user_id, [target]) : undefined
    // Asked before the room is held: it is the target's alone.
    const profile = action === 'join' || action === 'knock' || action === 'invite' ? await profileOf(sql, target) : {}
    if (action === 'invite' && serverNameOf(target) !== deps.serverName) {
      return { event_id: await inviteOther(deps, request) }
    }
    const changed = await engine.tryRun(room_id, action, async ({ room, append, write }) => {
      if (isElsewhere(room, request)) return undefined
      const before = membershipOf(room, target)
      const settled = settledAlready(room, request, before)
      if (settled) return { event_id: settled, settings: false }
      await check(deps, room, request, before)
      const vouched = action === 'join' ? await vouchedFor(deps, room, target) : undefined
      if (vouched && 'by' in vouched) return vouched
      const content: JsonObject = {
        ...extraContent(request),
        ...profile,
        ...vouched?.content,
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
    if (!changed) return elsewhere(deps, request, profile, () => handler(request))
    if ('by' in changed) return joinThrough(deps, request, profile, changed)
    if (changed.settings) await deps.settingsFollow(target, room_id)
    return { event_id: changed.event_id }
  }
  return handler
}

/** A user of another server. */
async function inviteOther(deps: RoomCommandDeps, request: Request): Promise<EventId> {
  const { room_id, user_id, target, reason } = request
  const isMember = await deps.engine.tryRun(
    room_id,
    'invite',
    async ({ room }) => membershipOf(room, user_id) === 'join',
  )
  if (!isMember) throw unknownRoom('invite')
  const content = { ...extraContent(request), ...(reason === undefined ? undefined : { reason }) }
  return deps.elsewhere.invite({ room_id, user_id, target, content })
}

/** What the join's content needs, or the servers by whose members' word the user gets in. */
async function vouchedFor(
  deps: RoomCommandDeps,
  room: Room,
  user: UserId,
): Promise<{ readonly content: JsonObject } | { readonly by: readonly ServerName[] }> {
  try {
    return { content: await joinContent(deps, room, user) }
  } catch (error) {
    if (!(error instanceof MatrixError) || error.errcode !== 'M_UNABLE_TO_GRANT_JOIN') throw error
    const by = otherAuthorisers(room, deps.serverName)
    if (by.length === 0) throw new MatrixError('M_FORBIDDEN', 'Nobody on this server may let you into the room')
    return { by }
  }
}

/** By way of a server whose members may let the user in. */
async function joinThrough(
  deps: RoomCommandDeps,
  request: Request,
  profile: JsonObject,
  { by }: { readonly by: readonly ServerName[] },
): Promise<{ event_id: EventId }> {
  const { room_id, user_id, reason } = request
  const content = { ...extraContent(request), ...profile, ...(reason === undefined ? undefined : { reason }) }
  return { event_id: await deps.elsewhere.joinThrough({ room_id, user_id, content, via: by }) }
}

/** The room goes on without this server: what its users want there, another server has to do. */
function isElsewhere(room: Room, { action, target, user_id }: Request): boolean {
  if (user_id !== target || room.local_members.size > 0 || room.summary.joined_members === 0) return false
  return action === 'join' || action === 'knock' || action === 'leave'
}

/** `here`: the same where the room is this server's by now. */
async function elsewhere(
  deps: RoomCommandDeps,
  request: Request,
  profile: JsonObject,
  here: () => Promise<{ event_id: EventId }>,
): Promise<{ event_id: EventId }> {
  const { action, room_id, user_id, target, via = [] } = request
  if (user_id !== target) throw unknownRoom(action)
  const content = {
    ...extraContent(request),
    ...profile,
    ...(request.reason === undefined ? undefined : { reason: request.reason }),
  }
  const wish = { room_id, user_id, content, via }
  switch (action) {
    case 'join': {
      const isHere = async () =>
        (await deps.engine.tryRun(room_id, 'isHere', async ({ room }) => !isElsewhere(room, request))) === true
      const event_id = await deps.elsewhere.join(wish, isHere)
      if (event_id === undefined) return here()
      const replaces = await deps.engine.tryRun(room_id, 'replaces', async ({ room }) => replacesRoom(room))
      if (replaces) await deps.settingsFollow(user_id, room_id)
      return { event_id }
    }
    case 'knock':
      return { event_id: await deps.elsewhere.knock(wish) }
    case 'leave': {
      const event_id = await deps.elsewhere.leave(wish)
      if (event_id === undefined) throw unknownRoom(action)
      return { event_id }
    }
    default:
      throw unknownRoom(action)
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
