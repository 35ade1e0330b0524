/** Token buckets. What is forgotten is full: the least recently used go first, so memory is bounded. */
import { LRUCache } from 'lru-cache'
import type { Clock } from '../clock.ts'
import type { Config } from '../config/schema.ts'
import { entriesUpTo } from '../lru-bound.ts'
import { MatrixError } from '../matrix/matrix-error.ts'
import type { RateLimit } from './route.ts'

const bucketsMax = 20_000

export interface Limiter {
  /** Takes one token of `key`'s bucket; throws M_LIMIT_EXCEEDED where there is none, or rejects where the buckets are
   *  elsewhere. */
  take(limit: RateLimit, key: string): void | Promise<void>
}

interface Bucket {
  tokens: number
  at: number
}

export function createLimiter(limits: Config['rate_limits'], clock: Clock): Limiter {
  const buckets = new Map<RateLimit, LRUCache<string, Bucket>>()
  return {
    take(limit, key) {
      if (!limits.enabled) return
      const { per_second, burst } = limits[limit]
      let ofLimit = buckets.get(limit)
      if (!ofLimit) {
        ofLimit = new LRUCache({ ...entriesUpTo(bucketsMax) })
        buckets.set(limit, ofLimit)
      }
      const now = clock.now()
      let bucket = ofLimit.get(key)
      if (!bucket) {
        bucket = { tokens: burst, at: now }
        ofLimit.set(key, bucket)
      }
      bucket.tokens = Math.min(burst, bucket.tokens + (Math.max(0, now - bucket.at) / 1000) * per_second)
      bucket.at = now
      if (bucket.tokens < 1) {
        throw limitExceeded(per_second > 0 ? Math.ceil(((1 - bucket.tokens) / per_second) * 1000) : neverRefilledMs)
      }
      bucket.tokens -= 1
    },
  }
}

/** What a caller is told to wait where the bucket is never filled again. */
export const neverRefilledMs = 3_600_000

export function limitExceeded(retryAfterMs: number): MatrixError {
  return new MatrixError('M_LIMIT_EXCEEDED', 'Too many requests', { extra: { retry_after_ms: retryAfterMs } })
}
