/** Finding rooms, people, messages and what notified; and reports of what was found. */
import { getHierarchy } from './hierarchy.ts'
import { getMutualRooms, getUnstableMutualRooms } from './mutual-rooms.ts'
import { getNotifications } from './notifications.ts'
import { reportEvent, reportRoom, reportUser } from './reports.ts'
import { getOlderUnstableRoomSummary, getRoomSummary, getUnstableRoomSummary } from './room-summary.ts'
import { searchEvents } from './search.ts'
import * as thirdParty from './third-party.ts'
import { getEventByTimestamp } from './timestamp-to-event.ts'
import { searchUsers } from './user-directory.ts'

export const discoveryRoutes = [
  getRoomSummary,
  getUnstableRoomSummary,
  getOlderUnstableRoomSummary,
  getHierarchy,
  searchUsers,
  searchEvents,
  getEventByTimestamp,
  getMutualRooms,
  getUnstableMutualRooms,
  getNotifications,
  reportEvent,
  reportRoom,
  reportUser,
  ...Object.values(thirdParty),
] as const
