/** The handlers of the commands on rooms. */
import type { MainClient } from '../../../../shared/commands/registry.ts'
import type { roomCommands } from '../../../../shared/commands/rooms.ts'
import { aliasHandlers } from './aliases.ts'
import { changeMembershipHandler } from './change-membership.ts'
import { createRoomHandler } from './create-room.ts'
import { forgetRoomHandler } from './forget-room.ts'
import type { RoomCommandDeps } from './room-command-deps.ts'
import { sendEventHandler } from './send-event.ts'
import { upgradeRoomHandler } from './upgrade-room.ts'

export function roomHandlers(deps: RoomCommandDeps): Pick<MainClient, keyof typeof roomCommands> {
  return {
    sendEvent: sendEventHandler(deps),
    createRoom: createRoomHandler(deps),
    changeMembership: changeMembershipHandler(deps),
    forgetRoom: forgetRoomHandler(deps),
    upgradeRoom: upgradeRoomHandler(deps),
    async updateMemberProfile({ room_id, user_id, ...profile }) {
      await deps.engine.updateMemberProfile(room_id, user_id, profile)
      return {}
    },
    async carryOverSettings({ room_id, user_id }) {
      await deps.carryOver.joined(user_id, room_id)
      return {}
    },
    ...aliasHandlers(deps),
  }
}
