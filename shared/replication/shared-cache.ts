/** What handlers share of what they read from Postgres, so that one that was just started need not ask for all of it again.
 *  Every entry expires. It is valid only under the epoch it was written in, which changes whenever an invalidation may not
 *  have reached Redis; and what was invalidated is marked for longer than an entry lives, so that who read it before can't
 *  put it back. */
import * as v from 'valibot'
import { userTag } from '../auth/tokens.ts'
import type { UserId } from '../matrix/ids.ts'
import type { RedisConnection } from '../redis/connection.ts'
import type { Keyspace } from '../redis/keys.ts'
import type { InvalidationRow } from '../streams/invalidations.ts'
import type { Multi } from './redis-publisher.ts'
import type { RedisView } from './redis-state.ts'

const entryLivesS = 600
/** Longer by what a reader may take between its query and its entry. */
const markLivesS = entryLivesS + 120

/** What an entry can be invalidated by; its names are those of the invalidations, a user's by the tag in its tokens. */
export type Mark = `token:${string}` | `user:${string}` | `profile:${string}`

const replyText = v.array(v.nullable(v.string()))

export interface SharedCache {
  /** Undefined where Redis can't be trusted. */
  look(name: string, marks: readonly Mark[]): Promise<CacheSlot> | undefined
}

export interface CacheSlot {
  /** The entry's text; undefined where there is none, or one of its marks is set. */
  readonly value: string | undefined
  /** Keeps what was read since `look` began. Not awaited and never fails the caller: at worst the next one asks Postgres. */
  put(value: string): void
}

/** What took longer to read is not kept. */
const readMaxMs = 60_000

const markKey = (keys: Keyspace, mark: Mark) => keys.key('gone', mark)
const entryKey = (keys: Keyspace, epoch: string, name: string) => keys.key('cache', epoch, name)

export function createSharedCache(deps: {
  readonly redis: RedisConnection
  readonly keys: Keyspace
  /** What Redis said when it was last asked for freshness. */
  readonly view: () => RedisView | undefined
}): SharedCache {
  const { redis, keys, view } = deps
  return {
    look(name, marks) {
      const epoch = view()?.epoch
      if (epoch === undefined) return undefined
      return slot(entryKey(keys, epoch, name), marks)
    },
  }

  async function slot(key: string, marks: readonly Mark[]): Promise<CacheSlot> {
    const beganMs = performance.now()
    const put = (value: string) => {
      if (performance.now() - beganMs > readMaxMs) return
      redis.client.set(key, value, { ex: entryLivesS }).catch(() => undefined)
    }
    try {
      const reply: unknown = await redis.client.mget(key, ...marks.map((mark) => markKey(keys, mark)))
      const [entry, ...set] = v.parse(replyText, reply)
      return { value: set.every((mark) => mark === null) ? (entry ?? undefined) : undefined, put }
    } catch {
      // Redis is away: Postgres knows as well.
      return { value: undefined, put() {} }
    }
  }
}

/** Adds the marks of what these rows invalidate. */
export function forgetShared(keys: Keyspace, multi: Multi, rows: readonly InvalidationRow[]): void {
  for (const { cache, key } of rows) {
    const mark = markOf(cache, key)
    if (mark) multi.set(markKey(keys, mark), '1', { ex: markLivesS })
  }
}

function markOf(cache: InvalidationRow['cache'], key: string): Mark | undefined {
  switch (cache) {
    case 'access_token':
      return `token:${key}`
    case 'user_tokens':
      return `user:${userTag(key as UserId)}`
    case 'profile':
      return `profile:${key}`
    default:
      return undefined
  }
}
