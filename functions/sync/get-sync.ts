/** GET /sync. https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3sync */
import * as v from 'valibot'
import type { Requester } from '../../shared/auth/requester.ts'
import { RawJson, type RequestInfo } from '../../shared/http/route.ts'
import { PresenceState } from '../../shared/streams/presence.ts'
import { type StreamPositions, streamNames } from '../../shared/streams/registry.ts'
import { parseSyncToken } from '../../shared/streams/token.ts'
import { type AnswerContext, answer, emptyAnswer } from './answer.ts'
import { route, type SyncDeps } from './deps.ts'
import { deviceListsMoved } from './device-lists.ts'
import { acknowledge } from './inboxes.ts'
import type { LiveUser } from './live-user.ts'
import { makePlan, type Plan } from './plan.ts'
import { changedPresence, presenceMoved } from './presence-json.ts'
import type { SyncFilter } from './sync-filter.ts'
import { newsFor } from './wait.ts'

/** Longer waits are cut short: proxies and clients give up before. */
export const timeoutMaxMs = 120_000
/** A client that polls without pause is told of as often as this. */
const presenceEveryMs = 10_000

const flag = v.optional(
  v.pipe(
    v.picklist(['true', 'false']),
    v.transform((value) => value === 'true'),
  ),
)

const Query = v.object({
  filter: v.optional(v.string()),
  since: v.optional(v.string()),
  full_state: flag,
  set_presence: v.optional(PresenceState),
  timeout: v.optional(v.pipe(v.string(), v.regex(/^\d{1,15}$/), v.transform(Number))),
  use_state_after: flag,
  'org.matrix.msc4222.use_state_after': flag,
})
export type Query = v.InferOutput<typeof Query>

export const getSync = route({
  method: 'GET',
  path: '/_matrix/client/v3/sync',
  spec: 'client-server-api/#get_matrixclientv3sync',
  auth: 'guest',
  sticky: 'user',
  query: Query,
  handle: ({ query, user: requester, request }, deps) => answerSync(deps, { query, requester, request }),
})

/** Waits as long as the query says, where there is a token and nothing new. */
export async function answerSync(
  deps: SyncDeps,
  {
    query,
    requester,
    request,
    inbox = true,
  }: Pick<SyncRequest, 'query' | 'requester' | 'request'> & {
    /** Whether the token says which messages to its device the client has. */
    readonly inbox?: boolean
  },
): Promise<RawJson> {
  const found = deps.filters.get(requester.user_id, query.filter)
  const filter = found instanceof Promise ? await found : found
  const token = query.since ? parseSyncToken(query.since) : undefined
  // Another handler may have read ahead in the database of what was published. A token of one that is no more ends anew.
  const ahead = token && deps.replication.reach?.(token)
  if (ahead) await ahead
  const user = deps.live.peek(requester.user_id) ?? (await deps.live.user(requester.user_id))
  user.uses++
  try {
    tellPresence(deps, user, query.set_presence ?? 'online')
    const since = token && reconciled(token, deps.replication.positions())
    // While this is under way, what is new is waited for and read.
    const acknowledged = inbox && since && acknowledge(deps, user, requester.device_id, since.to_device)
    const answer = await sync(deps, user, { requester, query, filter, since, request })
    // Who begins anew after this answer must not meet again what it acknowledged.
    if (acknowledged) await acknowledged
    return answer
  } finally {
    user.uses--
  }
}

interface SyncRequest {
  readonly requester: Requester
  readonly query: Query
  readonly filter: SyncFilter
  /** Where the client is; undefined: it begins. */
  readonly since: StreamPositions | undefined
  readonly request: RequestInfo
}

async function sync(deps: SyncDeps, user: LiveUser, request: SyncRequest): Promise<RawJson> {
  const { clock, replication, live, sql } = deps
  const { query, filter } = request
  const fullState = query.full_state ?? false
  const begun = replication.positions().invalidations
  let { since } = request
  const counts = user.keyCountsOf(request.requester.device_id)
  const deadline = clock.now() + (since && !fullState ? Math.min(query.timeout ?? 0, timeoutMaxMs) : 0)
  for (;;) {
    const keysFrom = replication.positions().key_counts
    const keysRead = counts.json(sql, user.user_id, request.requester.device_id)
    const keys = keysRead instanceof Promise ? await keysRead : keysRead
    // What had to be waited for is as of when it was asked for, at least.
    const now = replication.positions()
    const upTo = keysRead instanceof Promise ? { ...now, key_counts: keysFrom } : { ...now }
    if (!since || fullState || mayHaveMoved(deps, user, since, upTo)) {
      const keysMoved = since !== undefined && counts.position > since.key_counts && counts.position <= upTo.key_counts
      const planned = makePlan(live, sql, user, since, upTo, { filter, fullState })
      const plan = planned instanceof Promise ? await planned : planned
      if (!since || fullState || keysMoved || hasNews(deps, user, request, plan, since)) {
        const answered = answer({ ...context(deps, user, request), keys, keysMoved }, plan)
        const pieces = answered instanceof Promise ? await answered : answered
        if (pieces) return new RawJson(pieces)
      }
    }
    const waitMs = deadline - clock.now()
    if (waitMs <= 0 || request.request.signal.aborted) return new RawJson(emptyAnswer(upTo, keys))
    // Nothing up to here concerns this client, so it need not be looked at again.
    since = upTo
    // What was published while this one was reading woke nobody here.
    if (mayHaveMoved(deps, user, upTo, replication.positions())) continue
    await newsFor({
      user,
      timeoutMs: waitMs,
      signal: request.request.signal,
      clock,
      alsoFor: (wake) => deps.endedTokens.onEnd(request.requester, wake),
    })
    if (user.forgotten || deps.endedTokens.endedAfter(request.requester, begun)) {
      return new RawJson(emptyAnswer(upTo, keys))
    }
  }
}

function context(deps: SyncDeps, user: LiveUser, { requester, query, filter }: SyncRequest): AnswerContext {
  const { user_id, device_id } = requester
  const stateKey = query.use_state_after
    ? 'state_after'
    : query['org.matrix.msc4222.use_state_after']
      ? 'org.matrix.msc4222.state_after'
      : 'state'
  const { sql, live, clock } = deps
  return { sql, live, user, viewer: { user_id, device_id }, device_id, filter, stateKey, now: clock.now() }
}

/** A token that lies beyond the stored streams was given out by a database that is no more: the client starts anew. In
 *  the streams kept in memory it only means that the clock went back. */
export function reconciled(token: StreamPositions, now: StreamPositions): StreamPositions | undefined {
  if (
    token.events > now.events ||
    token.receipts > now.receipts ||
    token.account_data > now.account_data ||
    token.invalidations > now.invalidations ||
    token.device_lists > now.device_lists ||
    token.key_counts > now.key_counts ||
    token.to_device > now.to_device ||
    token.thread_subscriptions > now.thread_subscriptions
  ) {
    return undefined
  }
  if (token.typing <= now.typing && token.presence <= now.presence) return token
  const none = 0 as StreamPositions['typing']
  return {
    ...token,
    typing: token.typing > now.typing ? none : token.typing,
    presence: token.presence > now.presence ? none : token.presence,
  }
}

export function mayHaveMoved(
  { live }: SyncDeps,
  user: LiveUser,
  since: StreamPositions,
  upTo: StreamPositions,
): boolean {
  for (const name of streamNames) if (since[name] !== upTo[name]) return true
  return since.typing < live.startedAt.typing || user.accountData > since.account_data
}

function hasNews(
  { live, config }: SyncDeps,
  user: LiveUser,
  { requester, filter }: SyncRequest,
  plan: Plan,
  since: StreamPositions,
): boolean {
  const { joins, leaves, invites, knocks, upTo } = plan
  if (joins.length + leaves.length + invites.length + knocks.length > 0) return true
  // Who comes and goes in rooms that are left out is for the device lists.
  if (!filter.allRooms && since.events !== upTo.events) return true
  if (user.accountData > since.account_data || deviceListsMoved(live, user, since, upTo)) return true
  if (user.inboxes.hasAfter(requester.device_id, since.to_device)) return true
  if (!config.presence.enabled || !presenceMoved(live, since, upTo)) return false
  return live.presence.unplaced().size > 0 || changedPresence(live, user, since, upTo).length > 0
}

export function tellPresence(deps: SyncDeps, user: LiveUser, presence: PresenceState): void {
  if (presence === 'offline' || !deps.setPresence || !deps.config.presence.enabled) return
  const now = deps.clock.now()
  const { told } = user
  if (told && told.presence === presence && now - told.ts < presenceEveryMs) return
  user.told = { presence, ts: now }
  deps.setPresence({ user_id: user.user_id, presence, source: 'sync' }).catch(deps.onError)
}
