/** From an access token to its requester. Known tokens are answered from memory, without a promise; stream
 *  `invalidations` is the only thing that makes the memory forget. */
import { LRUCache } from 'lru-cache'
import * as v from 'valibot'
import type { Clock } from '../clock.ts'
import type { Authenticate } from '../http/mount.ts'
import type { RequestInfo } from '../http/route.ts'
import { entriesUpTo } from '../lru-bound.ts'
import { DeviceId, UserId } from '../matrix/ids.ts'
import { MatrixError } from '../matrix/matrix-error.ts'
import { cacheTally } from '../metrics/tallies.ts'
import type { Replication } from '../replication/replication.ts'
import { cachedValue } from '../replication/shared-cache.ts'
import type { ReadSql } from '../storage/sql.ts'
import { type AccessTokenRow, accessTokenByHash } from '../storage/tokens.ts'
import type { Requester } from './requester.ts'
import { isWellFormedToken, tagOfToken, tokenHash } from './tokens.ts'

export interface DeviceSeen {
  readonly user_id: UserId
  readonly device_id: DeviceId
  readonly ip: string
  readonly agent?: string | undefined
  readonly ts: number
}

export interface AuthenticateDeps {
  readonly sql: ReadSql
  readonly clock: Clock
  readonly replication: Replication
  /** Called at most every few minutes a device, not awaited. */
  readonly deviceSeen: (seen: DeviceSeen) => void
  /** The first use of a token from a refresh: ends the pair before it. */
  readonly confirmRefresh: (request: { user_id: UserId; token_hash: string }) => Promise<unknown>
}

const sharedRow = v.object({
  user_id: UserId,
  device_id: DeviceId,
  expires_ts: v.nullable(v.number()),
  supersedes: v.literal(false),
  admin: v.boolean(),
  kind: v.string(),
  deactivated: v.literal(false),
  locked: v.boolean(),
  suspended: v.boolean(),
  last_seen_ts: v.nullable(v.number()),
})

interface Entry {
  readonly requester: Requester
  readonly expires_ts: number
  seen_ts: number
}

const entriesMax = 100_000
export const seenIntervalMs = 5 * 60_000

export function createAuthenticate(deps: AuthenticateDeps): Authenticate {
  const { clock, replication, deviceSeen } = deps
  // Keyed by the token as it comes: hashing it for every request would cost more than all the rest. Its hash, by which
  // invalidations name it, is worked out once.
  const tokenOfHash = new Map<string, string>()
  const tokensOfUser = new Map<string, Set<string>>()
  const entries = new LRUCache<string, Entry>({
    ...entriesUpTo(entriesMax),
    dispose: ({ requester: { token_hash, user_id } }, token) => {
      tokenOfHash.delete(token_hash)
      const tokens = tokensOfUser.get(user_id)
      tokens?.delete(token)
      if (tokens?.size === 0) tokensOfUser.delete(user_id)
    },
  })
  const tally = cacheTally('access_tokens')
  tally.size = () => entries.size
  const loading = new Map<string, Promise<Entry>>()
  /** Counts what was invalidated: a row read before an invalidation must not be remembered after it, nor answer who asks
   *  after it. */
  let generation = 0
  const invalidated = () => {
    generation++
    loading.clear()
  }

  replication.subscribe('invalidations', ({ rows }) => {
    for (const { cache, key } of rows) {
      if (cache === 'access_token') {
        invalidated()
        const token = tokenOfHash.get(key)
        if (token !== undefined) entries.delete(token)
      } else if (cache === 'user_tokens') {
        invalidated()
        for (const token of [...(tokensOfUser.get(key) ?? [])]) entries.delete(token)
      }
    }
  })

  async function load(token: string): Promise<Entry> {
    const hash = tokenHash(token)
    const before = generation
    const row = await rowOf(token, hash)
    if (!row) throw unknownToken()
    if (row.deactivated) throw new MatrixError('M_USER_DEACTIVATED', 'This account is deactivated')
    const expires_ts = row.expires_ts ?? Number.POSITIVE_INFINITY
    const entry: Entry = {
      requester: {
        user_id: row.user_id,
        device_id: row.device_id,
        admin: row.admin,
        guest: row.kind === 'guest',
        locked: row.locked,
        suspended: row.suspended,
        token_hash: hash,
      },
      expires_ts,
      seen_ts: row.last_seen_ts ?? 0,
    }
    if (expires_ts > clock.now() && row.supersedes)
      await deps.confirmRefresh({ user_id: row.user_id, token_hash: hash })
    if (generation === before) {
      entries.set(token, entry)
      tokenOfHash.set(hash, token)
      const tokens = tokensOfUser.get(row.user_id)
      if (tokens) tokens.add(token)
      else tokensOfUser.set(row.user_id, new Set([token]))
    }
    return entry
  }

  /** From what handlers share, where they do, and else from Postgres. */
  async function rowOf(token: string, hash: string): Promise<AccessTokenRow | undefined> {
    const looked = replication.cache?.look({
      name: `token:${hash}`,
      marks: [`token:${hash}`, `user:${tagOfToken(token)}`],
    })
    if (!looked) return accessTokenByHash(deps.sql, hash)
    const slot = await looked
    const shared = cachedValue(slot, sharedRow)
    if (shared) return shared
    const row = await accessTokenByHash(deps.sql, hash)
    // The first use of a token from a refresh has an effect, so each handler has to ask if it is the first.
    if (row && !row.supersedes && !row.deactivated) slot.put(JSON.stringify(row))
    return row
  }

  function admit(entry: Entry, request: RequestInfo): Requester {
    const now = clock.now()
    if (entry.expires_ts <= now) {
      throw new MatrixError('M_UNKNOWN_TOKEN', 'The access token has expired', { extra: { soft_logout: true } })
    }
    const { user_id, device_id } = entry.requester
    if (now - entry.seen_ts >= seenIntervalMs) {
      entry.seen_ts = now
      deviceSeen({ user_id, device_id, ip: request.ip, agent: request.userAgent, ts: now })
    }
    return entry.requester
  }

  return (token, request) => {
    const known = entries.get(token)
    if (known) {
      tally.hits++
      return admit(known, request)
    }
    if (!isWellFormedToken(token, 'gat')) throw unknownToken()
    tally.misses++
    let found = loading.get(token)
    if (!found) {
      const mine = load(token).finally(() => {
        if (loading.get(token) === mine) loading.delete(token)
      })
      found = mine
      loading.set(token, mine)
    }
    return found.then((entry) => admit(entry, request))
  }
}

function unknownToken(): MatrixError {
  return new MatrixError('M_UNKNOWN_TOKEN', 'The access token is not known', { extra: { soft_logout: false } })
}
