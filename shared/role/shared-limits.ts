/** Rate limits whose buckets are in Redis: the same limit for a user whether one handler answers or twenty. */
import * as v from 'valibot'
import type { Clock } from '../clock.ts'
import type { Config } from '../config/schema.ts'
import { createLimiter, type Limiter, limitExceeded, neverRefilledMs } from '../http/rate-limit.ts'
import type { RateLimit } from '../http/route.ts'
import type { Logger } from '../logging.ts'
import type { RedisConnection } from '../redis/connection.ts'
import type { Keyspace } from '../redis/keys.ts'
import { defineScript } from '../redis/script.ts'
import { serverTime } from './server-time.ts'

/** Takes one token. Arguments: tokens a millisecond, size of the bucket, what to say where it never refills. Gives 0, or the
 *  milliseconds until there is one. A full bucket needs no key, so keys are gone by themselves. */
const takeToken = defineScript({
  name: 'take-token',
  lua: `
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local rate, burst, never = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local bucket = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens = math.min(burst, (tonumber(bucket[1]) or burst) + math.max(0, now - (tonumber(bucket[2]) or now)) * rate)
if tokens < 1 then
  if rate > 0 then return math.ceil((1 - tokens) / rate) end
  return never
end
redis.call('HSET', KEYS[1], 'tokens', tokens - 1, 'at', now)
local full = never
if rate > 0 then full = math.ceil((burst - tokens + 1) / rate) end
redis.call('PEXPIRE', KEYS[1], math.max(full, 1))
return 0`,
  memory(call, [key = ''], args) {
    const now = serverTime(call('TIME'))
    const [rate = 0, burst = 0, never = 0] = args.map(Number)
    const [left, at] = v.parse(Bucket, call('HMGET', key, 'tokens', 'at'))
    const tokens = Math.min(burst, Number(left ?? burst) + Math.max(0, now - Number(at ?? now)) * rate)
    if (tokens < 1) return rate > 0 ? Math.ceil((1 - tokens) / rate) : never
    call('HSET', key, 'tokens', tokens - 1, 'at', now)
    call('PEXPIRE', key, Math.max(rate > 0 ? Math.ceil((burst - tokens + 1) / rate) : never, 1))
    return 0
  },
})

const Field = v.nullable(v.string())
const Bucket = v.tuple([Field, Field])
const Wait = v.pipe(v.number(), v.integer(), v.minValue(0))

/** While Redis is away each handler limits by itself: looser by the number of handlers, never without limits. */
export function createSharedLimiter(options: {
  readonly limits: Config['rate_limits']
  readonly redis: Pick<RedisConnection, 'client'>
  readonly keys: Keyspace
  readonly clock: Clock
  readonly log: Pick<Logger, 'warn'>
}): Limiter {
  const { limits, redis, keys, clock, log } = options
  const alone = createLimiter(limits, clock)
  let failing = false

  async function take(limit: RateLimit, key: string): Promise<void> {
    const { per_second, burst } = limits[limit]
    let wait: number
    try {
      const bucket = keys.key('limit', limit, key)
      wait = v.parse(Wait, await takeToken.run(redis.client, [bucket], [per_second / 1000, burst, neverRefilledMs]))
      failing = false
    } catch (err) {
      if (!failing) log.warn({ err }, 'rate limits are not shared with other handlers while Redis is away')
      failing = true
      await alone.take(limit, key)
      return
    }
    if (wait > 0) throw limitExceeded(wait)
  }
  return {
    take: (limit, key) => (limits.enabled ? take(limit, key) : undefined),
  }
}
