/** Writing to rooms: creation, membership, events, aliases. */
import { createRoom, upgradeRoom } from './creation.ts'
import { delayedEventRoutes } from './delayed-events.ts'
import { deleteAlias, getAlias, getRoomAliases, getRoomVisibility, putAlias, putRoomVisibility } from './directory.ts'
import {
  banUser,
  forgetRoom,
  inviteUser,
  joinRoom,
  joinRoomById,
  kickUser,
  knockRoom,
  leaveRoom,
  unbanUser,
} from './membership.ts'
import { putState, putStateWithKey, redactEvent, sendMessage } from './send.ts'

export const roomRoutes = [
  createRoom,
  upgradeRoom,
  sendMessage,
  putState,
  putStateWithKey,
  redactEvent,
  ...delayedEventRoutes,
  joinRoom,
  joinRoomById,
  knockRoom,
  leaveRoom,
  inviteUser,
  kickUser,
  banUser,
  unbanUser,
  forgetRoom,
  getAlias,
  putAlias,
  deleteAlias,
  getRoomAliases,
  getRoomVisibility,
  putRoomVisibility,
] as const
