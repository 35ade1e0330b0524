/** Tells handlers and other mains through Redis who owns which shard. What it says is a hint: the database is right. */
import type { Clock } from '../../../shared/clock.ts'
import type { Logger } from '../../../shared/logging.ts'
import type { RedisConnection } from '../../../shared/redis/connection.ts'
import type { Keyspace } from '../../../shared/redis/keys.ts'
import { controlChannel, ownersKey } from '../../../shared/replication/shard-directory.ts'
import type { Announcer } from './leases.ts'

export interface AnnouncerOptions {
  readonly redis: Pick<RedisConnection, 'client' | 'subscribe'>
  readonly keys: Keyspace
  readonly main: { readonly id: string; readonly url: string }
  readonly clock: Clock
  readonly log: Pick<Logger, 'warn'>
}

/** While Redis is away, one line in so many ms says so. */
const warnEveryMs = 30_000

export function createAnnouncer({ redis, keys, main, clock, log }: AnnouncerOptions): Announcer {
  const key = keys.key(ownersKey)
  const channel = keys.channel(controlChannel)
  let warnedTs = Number.NEGATIVE_INFINITY

  function warn(err: unknown): void {
    if (clock.now() - warnedTs < warnEveryMs) return
    warnedTs = clock.now()
    log.warn({ err }, 'Redis does not take the announcement of shards; the database tells who asks')
  }

  return {
    owned(shards) {
      const fields: Record<string, string> = {}
      for (const { shard, epoch } of shards) fields[shard] = JSON.stringify({ ...main, epoch })
      redis.client.hset(key, fields).catch(warn)
    },
    async moved() {
      await redis.client.publish(channel, JSON.stringify({ moved: main.id })).catch(warn)
    },
    onMoved: (look) => redis.subscribe(channel, { message: look, up: look, down: () => undefined }),
  }
}
