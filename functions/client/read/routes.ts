/** The reading rooms: history, state, members, relations, the directory. */
import { getContext, getEvent, getOneEvent } from './events.ts'
import { getRoomInitialSync } from './initial-sync.ts'
import { getMessages } from './messages.ts'
import { getPublicRooms, postPublicRooms } from './public-rooms.ts'
import { getRelations, getRelationsOfEventType, getRelationsOfType, getThreads } from './relations.ts'
import { getJoinedMembers, getJoinedRooms, getMembers, getState, getStateWithKey, getStateWithoutKey } from './state.ts'
import * as threadSubscriptions from './thread-subscriptions.ts'

export const readRoutes = [
  getMessages,
  getEvent,
  getOneEvent,
  getContext,
  getState,
  getStateWithKey,
  getStateWithoutKey,
  getMembers,
  getJoinedMembers,
  getJoinedRooms,
  getRelations,
  getRelationsOfType,
  getRelationsOfEventType,
  getThreads,
  getPublicRooms,
  postPublicRooms,
  getRoomInitialSync,
  ...Object.values(threadSubscriptions),
] as const
