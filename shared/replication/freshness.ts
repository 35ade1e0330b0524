/** Knows everything that was acknowledged before a request came. One round trip to Redis serves all who wait; where Redis
 *  can't vouch for its positions, Postgres is asked. */

import type { Clock } from '../clock.ts'
import { tallies } from '../metrics/tallies.ts'
import type { RedisConnection } from '../redis/connection.ts'
import { type StreamName, type StreamPositions, streamNames } from '../streams/registry.ts'
import type { Followers } from './followers.ts'
import type { GapFiller } from './gap-filler.ts'
import { nextRound } from './next-round.ts'
import { isTrustworthy, type RedisView, type ReplicationKeys, viewReader } from './redis-state.ts'

/** Redis answers within a millisecond; who waits longer is served by Postgres. */
const answerMs = 300
const probeMs = 250
/** Before all others: who reads a row must not meet it with a cache from before it. */
const order: readonly StreamName[] = ['invalidations', ...streamNames.filter((name) => name !== 'invalidations')]

export interface FreshnessDeps {
  readonly redis: RedisConnection
  readonly keys: ReplicationKeys
  readonly followers: Followers
  readonly gaps: GapFiller
  readonly clock: Clock
}

export interface Freshness {
  /** Resolves when this process is where the streams were when it was called. */
  fresh(): Promise<void>
  /** What Redis said last, if every main vouched for it: shared caches are valid under its epoch. */
  view(): RedisView | undefined
  /** When that was, by `performance.now()`. */
  viewedAt(): number
  /** Whether Redis answered when it was last asked. */
  answers(): boolean
  close(): void
}

export function createFreshness({ redis, keys, followers, gaps, clock }: FreshnessDeps): Freshness {
  const readView = viewReader(redis, keys)
  let answering = true
  let trusted: RedisView | undefined
  let trustedAt = 0
  let closed = false
  let cancelProbe = () => {}

  function lost(): void {
    answering = false
    trusted = undefined
    if (!closed) cancelProbe = clock.after(probeMs, probe)
  }
  /** One at a time: a Redis that hangs is asked again when it has answered, or its client has given up. */
  function probe(): void {
    readView().then(() => {
      answering = true
    }, lost)
  }

  /** Undefined where Redis can't say. */
  async function viewOfRedis(): Promise<RedisView | undefined> {
    const askedAt = performance.now()
    const asked = readView()
    try {
      const view = await within(asked, answerMs)
      tallies.redisRoundTrip.note(performance.now() - askedAt)
      trusted = isTrustworthy(view) ? view : undefined
      trustedAt = performance.now()
      return trusted
    } catch {
      // Redis is away or slow; the probe tells when that is over.
      lost()
      return undefined
    }
  }

  const target = nextRound(async (): Promise<Partial<StreamPositions>> => {
    const view = answering ? await viewOfRedis() : undefined
    if (!view) return gaps.stored()
    // A position behind ours is one that a fail-over lost, or a database that went back: Postgres tells which.
    for (const name of streamNames) {
      if (name === 'typing' || name === 'presence') continue
      if ((view.positions[name] ?? 0) < followers.positions[name]) return gaps.stored()
    }
    return view.positions
  })

  return {
    async fresh() {
      const positions = await target()
      const filling: Promise<void>[] = []
      for (const name of order) {
        const filled = gaps.fill(name, positions[name] ?? 0)
        if (!filled) continue
        if (name === 'invalidations') await filled
        else filling.push(filled)
      }
      if (filling.length > 0) await Promise.all(filling)
    },
    view: () => trusted,
    viewedAt: () => trustedAt,
    answers: () => answering,
    close() {
      closed = true
      cancelProbe()
    },
  }
}

/** Rejects after `ms`; then nobody hears of the promise any more. */
async function within<T>(promise: Promise<T>, ms: number): Promise<T> {
  const late = Promise.withResolvers<never>()
  const timer = setTimeout(() => late.reject(new Error(`no answer within ${ms} ms`)), ms)
  try {
    return await Promise.race([promise, late.promise])
  } finally {
    clearTimeout(timer)
  }
}
