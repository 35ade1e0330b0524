/** Rooms and users hash to a fixed number of shards; each has one owner among the mains at a time. */
import { hash } from 'node:crypto'

export const shardCount = 64

/** What a command is sent by: a room's or user's id, a shard itself, or undefined where any main will do. */
export type ShardKey = string | number | undefined

/** Typing and presence are kept in memory by one main alone: the owner of this shard. */
export const ephemeralShard = 0

/** Ids come again and again, and a look here costs a tenth of the hash. */
const known = new Map<string, number>()
const knownMax = 50_000

/** The shard of a room's or user's id, in [0, shardCount). */
export function shardOf(key: string): number {
  let shard = known.get(key)
  if (shard === undefined) {
    shard = (hash('sha256', key, 'buffer')[2] ?? 0) % shardCount
    if (known.size >= knownMax) known.clear()
    known.set(key, shard)
  }
  return shard
}

/** A token names its user by the first three bytes of the hash that the user's shard is taken from, so who holds nothing
 *  but the token finds the owner too. Undefined for text that is no token. */
export function shardOfToken(token: string): number | undefined {
  const tag = /^g[a-z]t_([0-9a-f]{6})_/.exec(token)?.[1]
  return tag === undefined ? undefined : Number.parseInt(tag.slice(4), 16) % shardCount
}

/** The shard that a key leads to; undefined: any. */
export function shardOfKey(key: ShardKey): number | undefined {
  return typeof key === 'string' ? shardOf(key) : key
}
