/** Simplified sliding sync. https://github.com/matrix-org/matrix-spec-proposals/blob/main/proposals/4186-simplified-sliding-sync.md */
import type { Requester } from '../../../shared/auth/requester.ts'
import { RawJson, type RequestInfo } from '../../../shared/http/route.ts'
import type { StreamPosition } from '../../../shared/streams/define.ts'
import type { StreamPositions } from '../../../shared/streams/registry.ts'
import { parseInboxToken } from '../../../shared/streams/token.ts'
import { route, type SyncDeps } from '../deps.ts'
import { mayHaveMoved, reconciled, tellPresence, timeoutMaxMs } from '../get-sync.ts'
import { acknowledge } from '../inboxes.ts'
import type { LiveUser } from '../live-user.ts'
import { newsFor } from '../wait.ts'
import { type Answer, type Call, ending, look, streamedAnswer, wholeAnswer } from './answer-connection.ts'
import { nothingSent } from './connection-state.ts'
import { listFacts } from './list-facts.ts'
import { connectionOwner, parsePosition, unknownPosition } from './position.ts'
import { SlidingBody, SlidingQuery, slidingRequest } from './request.ts'

export const postSlidingSync = route({
  method: 'POST',
  path: '/_matrix/client/unstable/org.matrix.simplified_msc3575/sync',
  spec: 'client-server-api/#syncing',
  auth: 'guest',
  sticky: 'user',
  query: SlidingQuery,
  body: SlidingBody,
  emptyBody: true,
  async handle({ query, body, user: requester, request: info }, deps) {
    const request = slidingRequest(body, query, requester.user_id)
    const owner = { requester, owner: connectionOwner(requester, request.connection) }
    const from = request.pos === undefined ? undefined : parsePosition(owner.owner, request.pos)
    const toDevice = request.extensions.to_device
    const asked =
      toDevice?.enabled && toDevice.since ? parseInboxToken(toDevice.since, 'extensions.to_device.since') : undefined
    // Another handler may have read ahead in the database of what was published.
    const ahead = deps.replication.reach?.({ ...from?.at, to_device: laterOf(from?.at.to_device, asked) })
    if (ahead) await ahead
    // Of a database that is no more: then the client has nothing of what is here.
    const inboxFrom = asked !== undefined && asked > deps.replication.positions().to_device ? undefined : asked
    const state = from ? await deps.connections.load(owner, from.state) : nothingSent
    if (!state) throw unknownPosition()
    const call: Call = { owner, requester, request, before: state, inboxFrom }
    for (;;) {
      const user = deps.live.peek(requester.user_id) ?? (await deps.live.user(requester.user_id))
      user.uses++
      try {
        tellPresence(deps, user, request.presence)
        // While this is under way, what is new is waited for and read.
        const acknowledged = inboxFrom && acknowledge(deps, user, requester.device_id, inboxFrom)
        const reply = await slidingSync(deps, user, { call, from: from?.at, info, requester })
        // Who begins anew after this answer must not meet again what it acknowledged.
        if (acknowledged) await acknowledged
        if (reply) return reply
      } finally {
        user.uses--
      }
    }
  },
})

function laterOf(a: StreamPosition | undefined, b: StreamPosition | undefined): StreamPosition {
  return Math.max(a ?? 0, b ?? 0) as StreamPosition
}

interface Connection {
  readonly call: Call
  /** Undefined: the connection begins. */
  readonly from: StreamPositions | undefined
  readonly info: RequestInfo
  readonly requester: Requester
}

/** Undefined if the user's entry was forgotten before anything could be told: then ask with another one. */
async function slidingSync(deps: SyncDeps, user: LiveUser, connection: Connection): Promise<RawJson | undefined> {
  const { clock, replication, sql } = deps
  const { call, from, info, requester } = connection
  const begun = replication.positions().invalidations
  let state = call.before
  let since = from && reconciled(from, replication.positions())
  // Of a database that is no more.
  if (from && !since) throw unknownPosition()
  const deadline = clock.now() + (since ? Math.min(call.request.timeoutMs, timeoutMaxMs) : 0)
  let last: { readonly answer: Answer; readonly upTo: StreamPositions } | undefined
  const quiet = async () =>
    last && new RawJson(last.answer.json + (await ending({ deps, call, upTo: last.upTo }, state)))
  for (;;) {
    const facts = listFacts(sql, user, call.request, replication.positions())
    if (facts instanceof Promise) {
      await facts
      continue
    }
    // An entry that is no longer kept up knows less than the streams.
    if (user.forgotten) return quiet()
    const upTo = { ...replication.positions() }
    const seen = look(deps, user, call, { state, facts, span: { since, upTo } })
    if (!since) return new RawJson(streamedAnswer(seen))
    const answer = await wholeAnswer(seen)
    if (answer.news) return new RawJson(answer.json + (await ending(seen, answer.next)))
    state = answer.next
    // Nothing up to here concerns this client, so it need not be looked at again.
    since = upTo
    last = { answer, upTo }
    const waitMs = deadline - clock.now()
    if (waitMs <= 0 || info.signal.aborted) return quiet()
    // What was published while this one was reading woke nobody here.
    if (mayHaveMoved(deps, user, upTo, replication.positions())) continue
    await newsFor({
      user,
      timeoutMs: waitMs,
      signal: info.signal,
      clock,
      alsoFor: (wake) => deps.endedTokens.onEnd(requester, wake),
    })
    if (user.forgotten || deps.endedTokens.endedAfter(requester, begun)) return quiet()
  }
}
