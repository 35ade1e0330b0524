/** Who serves a role now. Each handler says so in Redis every second; who stopped saying so is gone. No name and no list of
 *  them is configured anywhere. */
import * as v from 'valibot'
import type { Clock } from '../clock.ts'
import type { Role } from '../http/route.ts'
import type { Logger } from '../logging.ts'
import type { RedisConnection } from '../redis/connection.ts'
import type { Keyspace } from '../redis/keys.ts'
import { defineScript } from '../redis/script.ts'
import { serverTime } from './server-time.ts'

const announceEveryMs = 1_000
/** Several announcements may be late on a busy machine before a handler counts as gone. */
const goneAfterMs = 5_000
const knownForMs = 1_000

/** Keeps one URL on the list, and those off it that have been silent too long. Times are those of Redis's server: the
 *  clocks of handlers need not agree. Arguments: the URL, the silence in ms. */
const announce = defineScript({
  name: 'announce-handler',
  lua: `
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
return now`,
  memory(call, [key = ''], [url = '', silence]) {
    const now = serverTime(call('TIME'))
    call('ZADD', key, now, url)
    call('ZREMRANGEBYSCORE', key, '-inf', now - Number(silence))
    return now
  },
})
/** Those that have been heard of within so many ms. */
const listHandlers = defineScript({
  name: 'list-handlers',
  lua: `
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
return redis.call('ZRANGEBYSCORE', KEYS[1], now - ARGV[1], '+inf')`,
  memory: (call, [key = ''], [silence]) =>
    call('ZRANGEBYSCORE', key, serverTime(call('TIME')) - Number(silence), '+inf'),
})

const Urls = v.array(v.pipe(v.string(), v.url()))

export interface Announcement {
  /** Takes the handler off the list, for those who look from now on. */
  end(): Promise<void>
}

/** Announces `url` as a handler of `role` until it is ended. Where Redis is away it is tried again each second. */
export function announceHandler(options: {
  readonly redis: Pick<RedisConnection, 'client'>
  readonly keys: Keyspace
  readonly role: Role
  readonly url: string
  readonly clock: Clock
  readonly log: Pick<Logger, 'warn'>
}): Announcement {
  const { redis, role, url, clock, log } = options
  const key = options.keys.key('handlers', role)
  let ended = false
  let failing = false
  let cancel = () => {}
  let beat: Promise<void> = Promise.resolve()

  async function sayOnce(): Promise<void> {
    try {
      await announce.run(redis.client, [key], [url, goneAfterMs])
      failing = false
    } catch (err) {
      if (!failing) log.warn({ err }, 'Redis does not take the announcement of this handler; it is tried again')
      failing = true
    }
  }
  function next(): void {
    beat = sayOnce()
    void beat.then(() => {
      if (!ended) cancel = clock.after(announceEveryMs, next)
    })
  }
  next()

  return {
    async end() {
      ended = true
      cancel()
      await beat
      // It fades from the list by itself where this fails.
      await redis.client.zrem(key, url).catch((err: unknown) => log.warn({ err }, 'could not sign off in Redis'))
    },
  }
}

export interface HandlerDirectory {
  /** URLs of the role's handlers, as of a second ago at most; where Redis is away, those known last. */
  of(role: Role): Promise<readonly string[]>
}

export function handlerDirectory(options: {
  readonly redis: Pick<RedisConnection, 'client'>
  readonly keys: Keyspace
  readonly clock: Clock
}): HandlerDirectory {
  const { redis, keys, clock } = options
  const known = new Map<Role, { readAt: number; urls: readonly string[]; reading: Promise<void> | undefined }>()

  async function read(role: Role): Promise<void> {
    const entry = entryOf(role)
    try {
      const urls = v.parse(Urls, await listHandlers.run(redis.client, [keys.key('handlers', role)], [goneAfterMs]))
      // An emptied Redis is full again after a second.
      if (urls.length > 0 || clock.now() - entry.readAt > goneAfterMs) {
        entry.urls = urls
        entry.readAt = clock.now()
      }
    } catch (error) {
      if (entry.urls.length === 0) throw error
    } finally {
      entry.reading = undefined
    }
  }

  function entryOf(role: Role) {
    let entry = known.get(role)
    if (!entry) {
      entry = { readAt: 0, urls: [], reading: undefined }
      known.set(role, entry)
    }
    return entry
  }

  return {
    async of(role) {
      const entry = entryOf(role)
      if (clock.now() - entry.readAt > knownForMs || entry.urls.length === 0) {
        entry.reading ??= read(role)
        await entry.reading
      }
      return entry.urls
    },
  }
}
