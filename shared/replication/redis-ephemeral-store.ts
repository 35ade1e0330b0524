/** What is typed and who is online, where roles run apart: handlers read it from Redis. The main that owns these streams
 *  holds it in memory, writes changes to Redis with the rows that tell of them, and puts all of it there again when Redis
 *  was away or has been emptied. */

import { LRUCache } from 'lru-cache'
import * as v from 'valibot'
import { entriesUpTo } from '../lru-bound.ts'
import type { RoomId, UserId } from '../matrix/ids.ts'
import type { RedisConnection } from '../redis/connection.ts'
import type { Keyspace } from '../redis/keys.ts'
import type { StreamPosition } from '../streams/define.ts'
import { type EphemeralName, latestMax, parseRow, readLatest, rowText } from './ephemeral-rows.ts'
import type { EphemeralState, EphemeralStore, Presence, WritableEphemeralStore } from './ephemeral-store.ts'
import type { RedisWriter } from './redis-replication.ts'
import { replicationKeys } from './redis-state.ts'

const usersMax = 200_000
/** Times of last activity are written together. */
const writeEveryMs = 1_000
const rowsPerWrite = 1_000

const rowReply = v.nullable(v.string())
const rowReplies = v.array(rowReply)

interface Deps {
  readonly redis: RedisConnection
  readonly keys: Keyspace
}

/** Without Redis nobody is known to be online or to type. */
export function createRedisEphemeralStore(deps: Deps & { readonly publisher?: undefined }): EphemeralStore
/** For mains; `take` and `leave` follow the ownership of these streams, nothing is written to Redis before and after. */
export function createRedisEphemeralStore(
  deps: Deps & { readonly publisher: Pick<RedisWriter, 'onUp' | 'positions'> },
): Required<WritableEphemeralStore>
export function createRedisEphemeralStore(
  deps: Deps & { readonly publisher?: Pick<RedisWriter, 'onUp' | 'positions'> | undefined },
): EphemeralStore | Required<WritableEphemeralStore> {
  return deps.publisher ? ownedStore(deps, deps.publisher) : readStore(deps)
}

function readStore({ redis, keys: keyspace }: Deps): EphemeralStore {
  const keys = replicationKeys(keyspace)
  return {
    async presenceOf(users) {
      const found = new Map<UserId, Presence>()
      if (users.length === 0) return found
      const texts = await orNothing(async () =>
        v.parse(rowReplies, await redis.client.hmget(keys.rows('presence'), ...users)),
      )
      for (const text of texts ?? []) {
        if (text === null) continue
        const state = presenceIn(text)
        found.set(state.user_id, state)
      }
      return found
    },
    async typingIn(room) {
      const text = await orNothing(async () => v.parse(rowReply, await redis.client.hget(keys.rows('typing'), room)))
      if (!text) return []
      const row = parseRow('typing', text, 0)
      return 'user_ids' in row ? row.user_ids : []
    },
  }
}

/** Redis holds nothing that is known elsewhere: while it is away, nobody can tell. */
async function orNothing<T>(read: () => Promise<T>): Promise<T | undefined> {
  try {
    return await read()
  } catch {
    return undefined
  }
}

function presenceIn(text: string): Presence {
  const row = parseRow('presence', text, 0)
  if (!('presence' in row)) throw new TypeError('a row of another stream')
  const { position: _, ...state } = row
  return state
}

function ownedStore(deps: Deps, publisher: Pick<RedisWriter, 'onUp' | 'positions'>): Required<WritableEphemeralStore> {
  const { redis } = deps
  const keys = replicationKeys(deps.keys)
  const stored = readStore(deps)
  const presence = new LRUCache<UserId, Presence>({ ...entriesUpTo(usersMax) })
  const typing = new Map<RoomId, readonly UserId[]>()
  const changed = new Set<UserId>()
  let owning = false
  let writing: ReturnType<typeof setTimeout> | undefined

  function write(): void {
    writing = undefined
    const users = [...changed]
    changed.clear()
    if (!owning) return
    void orNothing(async () => {
      for (let i = 0; i < users.length; i += rowsPerWrite) {
        const rows: Record<string, string> = {}
        for (const user of users.slice(i, i + rowsPerWrite)) {
          const state = presence.get(user)
          if (state) rows[user] = rowText(state)
        }
        await redis.client.hset(keys.rows('presence'), rows)
      }
    })
  }

  /** Everything anew, at positions that are known to whoever was there before: who comes now takes all of it. */
  async function restore(): Promise<void> {
    if (!owning) return
    const at = publisher.positions()
    await rewrite(
      'typing',
      [...typing].map(([room_id, user_ids]) => [room_id, rowText({ room_id, user_ids: [...user_ids] })]),
      at.typing,
    )
    await rewrite(
      'presence',
      [...presence].map(([user, state]) => [user, rowText(state)]),
      at.presence,
    )
  }
  async function rewrite(stream: EphemeralName, rows: [string, string][], position: StreamPosition): Promise<void> {
    if (position === 0) return
    const multi = redis.client.multi().del(keys.rows(stream), keys.latest(stream))
    // All that a reader takes at its start in one transaction; the most recent come first.
    for (const [key, text] of rows.slice(0, latestMax)) {
      multi.hset(keys.rows(stream), { [key]: text })
      multi.zadd(keys.latest(stream), { gt: true }, { score: position, member: key })
    }
    await multi.exec()
    for (let i = latestMax; i < rows.length; i += rowsPerWrite) {
      await redis.client.hset(keys.rows(stream), Object.fromEntries(rows.slice(i, i + rowsPerWrite)))
    }
  }
  publisher.onUp(() => void orNothing(restore))

  return {
    async presenceOf(users) {
      if (!owning) return stored.presenceOf(users)
      const found = new Map<UserId, Presence>()
      for (const user of users) {
        const state = presence.get(user)
        if (state) found.set(user, state)
      }
      return found
    },
    async typingIn(room) {
      return owning ? (typing.get(room) ?? []) : stored.typingIn(room)
    },
    setPresence(state) {
      presence.set(state.user_id, state)
      changed.add(state.user_id)
      if (!writing) writing = setTimeout(write, writeEveryMs).unref()
    },
    setTyping(room, users) {
      if (users.length === 0) typing.delete(room)
      else typing.set(room, users)
    },
    async take(): Promise<EphemeralState> {
      const none = { after: 0, active: new Set<string>() }
      const [rooms, states] = await Promise.all([
        orNothing(() => readLatest(redis, keys, 'typing', none)),
        orNothing(() => readLatest(redis, keys, 'presence', none)),
      ])
      owning = true
      // What was told here meanwhile is newer.
      for (const row of rooms?.rows ?? []) {
        if ('user_ids' in row && !typing.has(row.room_id)) typing.set(row.room_id, row.user_ids)
      }
      for (const row of states?.rows ?? []) {
        if (!('presence' in row) || presence.has(row.user_id)) continue
        const { position: _, ...state } = row
        presence.set(state.user_id, state)
      }
      return { typing: new Map(typing), presence: [...presence.values()] }
    },
    leave() {
      owning = false
      typing.clear()
      presence.clear()
      changed.clear()
    },
  }
}
