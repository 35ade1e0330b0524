/** What handlers share of what they read from Postgres, so that one that was just started need not ask for all of it again.
 *  Every entry expires. It is valid only under the epoch it was written in, which changes whenever an invalidation may not
 *  have reached Redis; and what was invalidated is marked for longer than an entry lives, so that who read it before can't
 *  put it back. */
import * as v from 'valibot'
import { userTag } from '../auth/tokens.ts'
import type { UserId } from '../matrix/ids.ts'
import { cacheTally } from '../metrics/tallies.ts'
import type { RedisConnection } from '../redis/connection.ts'
import type { Keyspace } from '../redis/keys.ts'
import type { EventRow } from '../streams/events.ts'
import type { InvalidationRow } from '../streams/invalidations.ts'
import type { Multi } from './redis-publisher.ts'
import type { RedisView } from './redis-state.ts'

const entryLivesS = 600
/** Longer by what a reader may take between its query and its entry. */
const markLivesS = entryLivesS + 120

/** What an entry can be invalidated by: a session, all sessions of a user (by the tag in its tokens), a profile, the member
 *  event of a user in a room, and whatever changes a room without an event. */
export type Mark =
  | `token:${string}`
  | `user:${string}`
  | `profile:${string}`
  | `member:${string} ${string}`
  | `room:${string}`

const replyText = v.array(v.nullable(v.string()))

export interface CacheEntry {
  readonly name: string
  readonly marks: readonly Mark[]
}

export interface SharedCache {
  /** Undefined where Redis can't be trusted. */
  look(entry: CacheEntry): Promise<CacheSlot> | undefined
  /** The same for several, in their order, by one round trip. */
  lookAll(entries: readonly CacheEntry[]): Promise<CacheSlot[]> | undefined
}

export interface CacheSlot {
  readonly name: string
  /** The entry's text; undefined where there is none, or one of its marks is set. */
  readonly value: string | undefined
  /** Keeps what was read since `look` began. Not awaited and never fails the caller: at worst the next one asks Postgres. */
  put(value: string): void
}

/** Larger entries are not worth their place. */
const charactersMax = 512 * 1024
/** What took longer to read is not kept. */
const readMaxMs = 60_000

/** The slot's value, if it is what the schema says: Redis is not trusted to hold what was put there. */
export function cachedValue<T>(slot: CacheSlot | undefined, schema: v.GenericSchema<unknown, T>): T | undefined {
  if (slot?.value === undefined) return undefined
  let value: unknown
  try {
    value = JSON.parse(slot.value)
  } catch {
    return undefined
  }
  const parsed = v.safeParse(schema, value)
  return parsed.success ? parsed.output : undefined
}

const markKey = (keys: Keyspace, mark: Mark) => keys.key('gone', mark)
const entryKey = (keys: Keyspace, epoch: string, name: string) => keys.key('cache', epoch, name)

export function createSharedCache(deps: {
  readonly redis: RedisConnection
  readonly keys: Keyspace
  /** What Redis said when it was last asked for freshness. */
  readonly view: () => RedisView | undefined
}): SharedCache {
  const { redis, keys, view } = deps
  const tally = cacheTally('shared')

  async function slots(epoch: string, entries: readonly CacheEntry[]): Promise<CacheSlot[]> {
    const beganMs = performance.now()
    const names = entries.map(({ name, marks }) => [
      entryKey(keys, epoch, name),
      ...marks.map((mark) => markKey(keys, mark)),
    ])
    try {
      const reply = v.parse(replyText, await redis.client.mget(...names.flat()))
      let at = 0
      return names.map(([key = '', ...marks], i) => {
        const entry = reply[at] ?? undefined
        const marked = marks.some((_, j) => reply[at + 1 + j] !== null)
        at += 1 + marks.length
        const value = marked ? undefined : entry
        if (value === undefined) tally.misses++
        else tally.hits++
        return { name: entries[i]?.name ?? '', value, put: (text) => put(key, text, beganMs) }
      })
    } catch {
      // Redis is away: Postgres knows as well.
      return entries.map(() => noSlot)
    }
  }

  function put(key: string, text: string, beganMs: number): void {
    if (text.length > charactersMax || performance.now() - beganMs > readMaxMs) return
    redis.client.set(key, text, { ex: entryLivesS }).catch(ignored)
  }

  function lookAll(entries: readonly CacheEntry[]): Promise<CacheSlot[]> | undefined {
    const epoch = view()?.epoch
    return epoch === undefined ? undefined : slots(epoch, entries)
  }

  return {
    lookAll,
    look: (entry) => lookAll([entry])?.then(([slot]) => slot ?? noSlot),
  }
}

const noSlot: CacheSlot = { name: '', value: undefined, put: ignored }
/** What could not be kept is read again. */
function ignored(): void {}

/** Adds the marks of what these rows change. */
export function forgetShared(
  keys: Keyspace,
  multi: Multi,
  rows: { readonly invalidations: readonly InvalidationRow[]; readonly events: readonly EventRow[] },
): void {
  const marks = new Set<Mark>()
  for (const { cache, key } of rows.invalidations) {
    const mark = markOf(cache, key)
    if (mark) marks.add(mark)
  }
  for (const { type, state_key, room_id } of rows.events) {
    if (type === 'm.room.member' && state_key !== undefined) marks.add(`member:${room_id} ${state_key}`)
  }
  for (const mark of marks) multi.set(markKey(keys, mark), '1', { ex: markLivesS })
}

function markOf(cache: InvalidationRow['cache'], key: string): Mark | undefined {
  switch (cache) {
    case 'access_token':
      return `token:${key}`
    case 'user_tokens':
      return `user:${userTag(key as UserId)}`
    case 'profile':
      return `profile:${key}`
    case 'room':
      return `room:${key}`
    default:
      return undefined
  }
}
