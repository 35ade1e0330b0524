/** Users of other servers who join, leave and knock by way of this one.
 *  https://spec.matrix.org/v1.19/server-server-api/#joining-rooms */
import type { MainClient } from '../../../../shared/commands/registry.ts'
import { rulesOf } from '../../../../shared/core/room-versions.ts'
import { pduFromStored } from '../../../../shared/matrix/event-format.ts'
import type { UserId } from '../../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../../shared/matrix/matrix-error.ts'
import { membershipIn } from '../../rooms/event-row.ts'
import { eventTemplate } from '../../rooms/event-template.ts'
import { receiveEvents } from '../../rooms/receive-events.ts'
import { membershipOf } from '../../rooms/room.ts'
import { joinContent } from '../rooms/join-content.ts'
import type { RoomCommandDeps } from '../rooms/room-command-deps.ts'

export function federationMembershipHandlers({
  engine,
  sql,
}: RoomCommandDeps): Pick<MainClient, 'makeMembershipEvent' | 'receiveMembership'> {
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
    async receiveMembership({ room_id, room_version, event: { event_id, envelope, content } }) {
      const rules = rulesOf(room_version)
      if (!rules) throw new MatrixError('M_UNSUPPORTED_ROOM_VERSION', `Room version ${room_version} is not known`)
      const pdu = pduFromStored(rules, event_id, room_id, envelope, content)
      if (membershipIn(pdu) === 'join') {
        // Whoever asked earlier may have left the rooms that let them in.
        await engine.run(room_id, 'receiveMembership', async ({ room }) => {
          await joinContent({ sql, remote: true }, room, pdu.state_key as UserId)
        })
      }
      // Whoever joins sends the event to nobody else.
      const [receipt] = await receiveEvents(engine, room_id, [{ pdu, envelope, content }], { outbound: true })
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
  }
}
