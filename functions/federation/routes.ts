/** Everything that the federation role serves. */
import { getHierarchy, getPublicRooms, postPublicRooms } from './directory.ts'
import { putInvite, putInviteV1 } from './invites.ts'
import { claimUserKeys, getUserDevices, queryUserKeys } from './keys.ts'
import {
  makeJoin,
  makeKnock,
  makeLeave,
  sendJoin,
  sendJoinV1,
  sendKnock,
  sendLeave,
  sendLeaveV1,
} from './memberships.ts'
import { getKeysOfServer, postKeysOfServers } from './notary.ts'
import { queryAnything, queryDirectory, queryProfile } from './queries.ts'
import { getBackfill, getEvent, getEventAuth, getState, getStateIds, postMissingEvents } from './room-reads.ts'
import { getOpenIdUser, getVersion, getWellKnownServer } from './server-info.ts'
import { getServerKey, getServerKeys } from './server-keys.ts'
import { exchangeThirdPartyInvite, onBindThirdParty } from './third-party-invites.ts'
import { getEventByTimestamp } from './timestamp-to-event.ts'
import { sendTransaction } from './transactions.ts'

export const federationRoutes = [
  getServerKeys,
  getServerKey,
  getKeysOfServer,
  postKeysOfServers,
  getVersion,
  getWellKnownServer,
  getOpenIdUser,
  queryProfile,
  queryDirectory,
  queryAnything,
  sendTransaction,
  getEvent,
  getBackfill,
  postMissingEvents,
  getState,
  getStateIds,
  getEventAuth,
  makeJoin,
  sendJoin,
  sendJoinV1,
  makeLeave,
  sendLeave,
  sendLeaveV1,
  makeKnock,
  sendKnock,
  putInvite,
  putInviteV1,
  exchangeThirdPartyInvite,
  onBindThirdParty,
  getUserDevices,
  queryUserKeys,
  claimUserKeys,
  getEventByTimestamp,
  getPublicRooms,
  postPublicRooms,
  getHierarchy,
] as const
