/** Users of other servers who join, leave and knock by way of this one.
 *  https://spec.matrix.org/v1.19/server-server-api/#joining-rooms */
import type { federationMembershipCommands } from '../../../../shared/commands/federation-membership.ts'
import type { MainClient } from '../../../../shared/commands/registry.ts'
import { rulesOf } from '../../../../shared/core/room-versions.ts'
import { pduFromStored, type StoredEvent } from '../../../../shared/matrix/event-format.ts'
import { type EventId, type RoomId, serverNameOf, type UserId } from '../../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../../shared/matrix/matrix-error.ts'
import { strippedText } from '../../federation/membership-elsewhere.ts'
import { membershipIn } from '../../rooms/event-row.ts'
import { eventTemplate } from '../../rooms/event-template.ts'
import { receiveEvents } from '../../rooms/receive-events.ts'
import { membershipOf } from '../../rooms/room.ts'
import { checkInvitees } from '../rooms/invitees.ts'
import { joinContent } from '../rooms/join-content.ts'
import type { RoomCommandDeps } from '../rooms/room-command-deps.ts'

export function federationMembershipHandlers(
  deps: RoomCommandDeps,
): Pick<MainClient, keyof typeof federationMembershipCommands> {
  const { engine, sql } = deps
  return {
    makeMembershipEvent: ({ room_id, user_id, membership }) =>
      engine.run(room_id, 'makeMembershipEvent', async ({ room }) => {
        if (membership === 'knock' && !room.rules.knocking) {
          throw new MatrixError('M_FORBIDDEN', `Nobody knocks on rooms of version ${room.rules.version}`)
        }
        if (membership === 'leave' && !/^(?:join|invite|knock)$/.test(membershipOf(room, user_id))) {
          throw new MatrixError('M_FORBIDDEN', `${user_id} is not in the room`)
        }
        const content = membership === 'join' ? await joinContent({ sql, remote: true }, room, user_id) : {}
        const event = await eventTemplate(engine.deps, room, {
          type: 'm.room.member',
          state_key: user_id,
          sender: user_id,
          content: { ...content, membership },
        })
        return { room_version: room.rules.version, event }
      }),
    async receiveMembership({ room_id, room_version, event }) {
      const parsed = parsedEvent(room_id, room_version, event)
      const { pdu } = parsed
      if (membershipIn(pdu) === 'join') {
        // Whoever asked earlier may have left the rooms that let them in.
        await engine.run(room_id, 'receiveMembership', async ({ room }) => {
          await joinContent({ sql, remote: true }, room, pdu.state_key as UserId)
        })
      }
      // Whoever joins sends the event to nobody else.
      const [receipt] = await receiveEvents(engine, room_id, [parsed], { outbound: true })
      switch (receipt?.outcome) {
        case 'accepted':
        case 'known':
          return {}
        case 'missing':
          throw new MatrixError('M_INVALID_PARAM', 'The event builds on others that this server does not have')
        default:
          throw new MatrixError('M_FORBIDDEN', receipt?.reason ?? 'The event is not allowed')
      }
    },
    async receiveInvite({ room_id, room_version, event, stripped }) {
      const parsed = parsedEvent(room_id, room_version, event)
      const target = parsed.pdu.state_key as UserId
      const [user] = await sql<{ deactivated: boolean }[]>`select deactivated from users where user_id = ${target}`
      if (!user || user.deactivated) throw new MatrixError('M_NOT_FOUND', `There is no user ${target}`)
      const unaware = await checkInvitees(deps, parsed.pdu.sender, [target])
      // Where this server is in the room, the invitation comes with the room's events.
      const isHere = await engine.tryRun(room_id, 'isHere', async ({ room }) => room.local_members.size > 0)
      if (!isHere) {
        const told = { stripped: strippedText(stripped), unnoticed: unaware.has(target) }
        await deps.elsewhere.invited({ room_id, room_version }, parsed, told)
      }
      return {}
    },
    async inviteByThirdParty({ room_id, sender, target, display_name, signed }) {
      const isKnown = await engine.tryRun(room_id, 'isKnown', async ({ room }) => {
        const membership = membershipOf(room, target)
        return membership === 'join' || membership === 'invite' ? 'settled' : 'open'
      })
      if (isKnown === undefined) throw new MatrixError('M_NOT_FOUND', 'This server does not know the room')
      if (isKnown === 'settled') return {}
      const content = { third_party_invite: { display_name, signed } }
      if (serverNameOf(target) !== deps.serverName) {
        await deps.elsewhere.invite({ room_id, user_id: sender, target, content })
        return {}
      }
      const unaware = await checkInvitees(deps, sender, [target])
      await engine.run(room_id, 'inviteByThirdParty', ({ append }) =>
        append({
          type: 'm.room.member',
          state_key: target,
          sender,
          content: { ...content, membership: 'invite' },
          unnoticed: unaware.has(target),
        }),
      )
      return {}
    },
    async receiveRetraction({ room_id, room_version, event }) {
      await deps.elsewhere.retracted({ room_id, room_version }, parsedEvent(room_id, room_version, event))
      return {}
    },
  }
}

function parsedEvent(
  room_id: RoomId,
  room_version: string,
  { event_id, envelope, content }: { readonly event_id: EventId; readonly envelope: string; readonly content: string },
): StoredEvent {
  const rules = rulesOf(room_version)
  if (!rules) throw new MatrixError('M_UNSUPPORTED_ROOM_VERSION', `Room version ${room_version} is not known`)
  return { pdu: pduFromStored(rules, event_id, room_id, envelope, content), envelope, content }
}
