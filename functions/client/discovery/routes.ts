/** Finding rooms, people and messages. */
import { getHierarchy } from './hierarchy.ts'
import { getOlderUnstableRoomSummary, getRoomSummary, getUnstableRoomSummary } from './room-summary.ts'
import { searchEvents } from './search.ts'
import { searchUsers } from './user-directory.ts'

export const discoveryRoutes = [
  getRoomSummary,
  getUnstableRoomSummary,
  getOlderUnstableRoomSummary,
  getHierarchy,
  searchUsers,
  searchEvents,
] as const
