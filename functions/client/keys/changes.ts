import * as v from 'valibot'
import { deviceListsSince } from '../../../shared/storage/device-lists-since.ts'
import { parseSyncToken } from '../../../shared/streams/token.ts'
import { route } from '../deps.ts'

export const getKeysChanges = route({
  method: 'GET',
  path: '/_matrix/client/v3/keys/changes',
  spec: 'client-server-api/#get_matrixclientv3keyschanges',
  auth: 'user',
  query: v.object({ from: v.string(), to: v.string() }),
  async handle({ query, user }, { sql, replication }) {
    const from = parseSyncToken(query.from, 'from')
    const to = parseSyncToken(query.to, 'to')
    const ahead = replication.reach?.(to)
    if (ahead) await ahead
    return deviceListsSince(sql, user.user_id, from)
  },
})
