/** What a process says of itself on the status page. Where roles run apart, each says it in Redis every two seconds; who
 *  stopped saying so is gone. */
import { randomBytes } from 'node:crypto'
import { hostname } from 'node:os'
import { type EventLoopUtilization, performance } from 'node:perf_hooks'
import * as v from 'valibot'
import type { Clock } from '../clock.ts'
import type { Logger } from '../logging.ts'
import type { RedisConnection } from '../redis/connection.ts'
import type { Keyspace } from '../redis/keys.ts'
import type { StreamPositions } from '../streams/registry.ts'
import { version } from '../version.ts'
import { allCaches, allNumbers, tallies } from './tallies.ts'

const count = v.pipe(v.number(), v.minValue(0))

export const ProcessStatus = v.object({
  id: v.string(),
  /** `edge`, `sync`, `client`, `federation`, `media`, `main`, or `monolith` for all in one. */
  role: v.string(),
  version: v.string(),
  host: v.string(),
  pid: count,
  /** Where it listens, if it told. */
  url: v.optional(v.string()),
  uptime_ms: count,
  memory_bytes: count,
  /** Share of the time since it last said so in which its event loop had work. */
  busy: v.number(),
  /** Largest of the last 15 to 30 seconds, in milliseconds. */
  lag_ms: count,
  redis_ms: count,
  /** Clients in a long poll. */
  waiting: count,
  positions: v.record(v.string(), v.number()),
  /** Metrics by name, such as depths of queues. */
  numbers: v.record(v.string(), v.number()),
  caches: v.record(v.string(), v.object({ hits: count, misses: count, size: v.optional(count) })),
})
export type ProcessStatus = v.InferOutput<typeof ProcessStatus>

export interface OwnStatus {
  /** This process now. */
  read(): ProcessStatus
}

export function ownStatus(process_: {
  readonly role: string
  /** Default: the role and some letters. */
  readonly id?: string | undefined
  readonly url?: string | undefined
  readonly positions?: (() => Partial<StreamPositions>) | undefined
}): OwnStatus {
  const { role, url, positions, id = `${role}-${randomBytes(4).toString('hex')}` } = process_
  let before: EventLoopUtilization | undefined
  return {
    read() {
      const loop = performance.eventLoopUtilization()
      const busy = before ? performance.eventLoopUtilization(loop, before).utilization : loop.utilization
      before = loop
      return {
        id,
        role,
        version,
        host: hostname(),
        pid: process.pid,
        ...(url === undefined ? {} : { url }),
        uptime_ms: Math.round(performance.now()),
        memory_bytes: process.memoryUsage.rss(),
        busy,
        lag_ms: tallies.lag.read(),
        redis_ms: tallies.redisRoundTrip.read(),
        waiting: tallies.waiting,
        positions: { ...positions?.() },
        numbers: Object.fromEntries([...allNumbers()].map(([name, number]) => [name, number.read()])),
        caches: Object.fromEntries(
          [...allCaches()].map(([name, { hits, misses, size }]) => [
            name,
            { hits, misses, ...(size ? { size: size() } : {}) },
          ]),
        ),
      }
    },
  }
}

const reportEveryMs = 2_000
const keptMs = 10_000
/** Ids of processes that are gone are swept by the others, so often. */
const reportsPerSweep = 100

export interface StatusStore {
  readonly redis: Pick<RedisConnection, 'client'>
  readonly keys: Keyspace
}

/** Keeps the process's status in Redis until the returned function is called. Where Redis is away, it is tried again. */
export function reportStatus(
  status: OwnStatus,
  { redis, keys, clock, log }: StatusStore & { readonly clock: Clock; readonly log: Pick<Logger, 'warn'> },
): () => Promise<void> {
  const index = keys.key('processes')
  let reports = 0
  let failing = false
  let cancel = () => {}
  let ended = false
  let last: string | undefined

  async function report(): Promise<void> {
    try {
      const now = status.read()
      last = now.id
      await redis.client
        .pipeline()
        .sadd(index, now.id)
        .set(keys.key('process', now.id), JSON.stringify(now), { px: keptMs })
        .exec()
      if (reports++ % reportsPerSweep === 0) await statusesIn({ redis, keys })
      failing = false
    } catch (err) {
      if (!failing) log.warn({ err }, 'Redis does not take the status of this process; it is tried again')
      failing = true
    }
    if (!ended) cancel = clock.after(reportEveryMs, () => void report())
  }
  const first = report()

  return async () => {
    ended = true
    cancel()
    await first
    if (last === undefined) return
    const gone = redis.client.pipeline().srem(index, last).del(keys.key('process', last)).exec()
    // It is forgotten by itself after a few seconds.
    await gone.catch((err: unknown) => log.warn({ err }, 'could not take back the status of this process'))
  }
}

const Ids = v.array(v.string())
const Texts = v.array(v.nullable(v.string()))

/** Every process that said something of itself lately. What cannot be read as a status is left out. */
export async function statusesIn({ redis, keys }: StatusStore): Promise<ProcessStatus[]> {
  const index = keys.key('processes')
  const ids = v.parse(Ids, await redis.client.smembers(index))
  if (ids.length === 0) return []
  const texts = v.parse(Texts, await redis.client.mget(...ids.map((id) => keys.key('process', id))))
  const gone = ids.filter((_, i) => typeof texts[i] !== 'string')
  const [one, ...more] = gone
  if (one !== undefined) await redis.client.srem(index, one, ...more)
  return texts.flatMap((text) => {
    const parsed = typeof text === 'string' ? parseStatus(text) : undefined
    return parsed ? [parsed] : []
  })
}

function parseStatus(text: string): ProcessStatus | undefined {
  try {
    const parsed = v.safeParse(ProcessStatus, JSON.parse(text))
    return parsed.success ? parsed.output : undefined
  } catch (error) {
    if (error instanceof SyntaxError) return undefined
    throw error
  }
}
