/** Everything that the federation role serves. */
import { getKeysOfServer, postKeysOfServers } from './notary.ts'
import { queryAnything, queryDirectory, queryProfile } from './queries.ts'
import { getOpenIdUser, getVersion, getWellKnownServer } from './server-info.ts'
import { getServerKey, getServerKeys } from './server-keys.ts'
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
] as const
