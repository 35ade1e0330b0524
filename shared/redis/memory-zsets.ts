/** Sorted sets in the Redis in memory. */
import type { Reply } from './commander.ts'
import { RedisReplyError } from './errors.ts'
import {
  command,
  floatOf,
  formatFloat,
  indexRange,
  integer,
  type MemoryCommands,
  syntaxError,
} from './memory-command.ts'
import type { MemoryStore, ScoredMember } from './memory-store.ts'

const many = Number.POSITIVE_INFINITY

export const zsetCommands: MemoryCommands = {
  ZADD: command(3, many, zadd),
  ZREM: command(2, many, (store, [key = '', ...members]) => {
    const zset = store.get(key, 'zset')
    const removed = members.filter((member) => zset?.delete(member)).length
    store.settle(key)
    return removed
  }),
  ZINCRBY: command(3, 3, (store, [key = '', by = '', member = '']) => zadd(store, [key, 'INCR', by, member])),
  ZCARD: command(1, 1, (store, [key = '']) => store.get(key, 'zset')?.size ?? 0),
  ZSCORE: command(2, 2, (store, [key = '', member = '']) => formatScore(store.get(key, 'zset')?.score(member))),
  ZMSCORE: command(2, many, (store, [key = '', ...members]) => {
    const zset = store.get(key, 'zset')
    return members.map((member) => formatScore(zset?.score(member)))
  }),
  ZRANK: command(2, 2, (store, [key = '', member = '']) => {
    const rank = members(store, key).findIndex((item) => item.member === member)
    return rank === -1 ? null : rank
  }),
  ZCOUNT: command(3, 3, (store, [key = '', low, high]) => byScore(store, key, low, high).length),
  ZRANGE: command(3, many, (store, args) => zrange(store, args)),
  ZREVRANGE: command(3, 4, (store, [key = '', start = '', stop = '', ...rest]) =>
    zrange(store, [key, start, stop, 'REV', ...rest]),
  ),
  ZRANGEBYSCORE: command(3, many, (store, [key = '', low = '', high = '', ...rest]) =>
    zrange(store, [key, low, high, 'BYSCORE', ...rest]),
  ),
  ZREVRANGEBYSCORE: command(3, many, (store, [key = '', high = '', low = '', ...rest]) =>
    zrange(store, [key, high, low, 'BYSCORE', 'REV', ...rest]),
  ),
  ZREMRANGEBYSCORE: command(3, 3, (store, [key = '', low, high]) =>
    removed(store, key, byScore(store, key, low, high)),
  ),
  ZREMRANGEBYRANK: command(3, 3, (store, [key = '', start, stop]) => {
    const all = members(store, key)
    return removed(store, key, all.slice(...indexRange(start, stop, all.length)))
  }),
  ZPOPMIN: command(1, 2, (store, [key = '', count = '1']) => {
    const first = members(store, key).slice(0, integer(count))
    removed(store, key, first)
    return withScores(first)
  }),
}

function formatScore(score: number | undefined): string | null {
  return score === undefined ? null : formatFloat(score)
}

function members(store: MemoryStore, key: string): readonly ScoredMember[] {
  return store.get(key, 'zset')?.members ?? []
}

function removed(store: MemoryStore, key: string, items: readonly ScoredMember[]): number {
  const zset = store.get(key, 'zset')
  for (const { member } of [...items]) zset?.delete(member)
  store.settle(key)
  return items.length
}

function withScores(items: readonly ScoredMember[]): string[] {
  return items.flatMap(({ member, score }) => [member, formatFloat(score)])
}

interface Bound {
  readonly score: number
  readonly exclusive: boolean
}

function bound(text: string | undefined): Bound {
  const exclusive = text?.startsWith('(') ?? false
  const score = floatOf(exclusive ? text?.slice(1) : text)
  if (score === undefined) throw new RedisReplyError('ERR min or max is not a float')
  return { score, exclusive }
}

function byScore(
  store: MemoryStore,
  key: string,
  lowText: string | undefined,
  highText: string | undefined,
): readonly ScoredMember[] {
  const low = bound(lowText)
  const high = bound(highText)
  return members(store, key).filter(
    ({ score }) =>
      (low.exclusive ? score > low.score : score >= low.score) &&
      (high.exclusive ? score < high.score : score <= high.score),
  )
}

function zrange(store: MemoryStore, [key = '', start = '', stop = '', ...options]: readonly string[]): Reply {
  let scored = false
  let reversed = false
  let scores = false
  let limit: [offset: number, count: number] | undefined
  for (let i = 0; i < options.length; i++) {
    switch (options[i]!.toUpperCase()) {
      case 'BYSCORE':
        scored = true
        break
      case 'REV':
        reversed = true
        break
      case 'WITHSCORES':
        scores = true
        break
      case 'LIMIT':
        limit = [integer(options[i + 1]), integer(options[i + 2])]
        i += 2
        break
      default:
        throw syntaxError()
    }
  }
  let items: readonly ScoredMember[]
  if (scored) {
    const found = reversed ? byScore(store, key, stop, start).toReversed() : byScore(store, key, start, stop)
    const [offset, count] = limit ?? [0, -1]
    items = offset < 0 ? [] : found.slice(offset, count < 0 ? undefined : offset + count)
  } else {
    if (limit) {
      throw new RedisReplyError('ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX')
    }
    const all = reversed ? members(store, key).toReversed() : members(store, key)
    items = all.slice(...indexRange(start, stop, all.length))
  }
  return scores ? withScores(items) : items.map(({ member }) => member)
}

function zadd(store: MemoryStore, [key = '', ...rest]: readonly string[]): Reply {
  const flags = new Set<string>()
  let at = 0
  for (; /^(?:NX|XX|GT|LT|CH|INCR)$/i.test(rest[at] ?? ''); at++) flags.add(rest[at]!.toUpperCase())
  const pairs = rest.slice(at)
  const [nx, xx, gt, lt] = ['NX', 'XX', 'GT', 'LT'].map((flag) => flags.has(flag))
  if (nx && xx) throw new RedisReplyError('ERR XX and NX options at the same time are not compatible')
  if ((nx && (gt || lt)) || (gt && lt)) {
    throw new RedisReplyError('ERR GT, LT, and/or NX options at the same time are not compatible')
  }
  if (pairs.length === 0 || pairs.length % 2 !== 0) throw syntaxError()
  const increments = flags.has('INCR')
  if (increments && pairs.length > 2) {
    throw new RedisReplyError('ERR INCR option supports a single increment-element pair')
  }
  // All scores are read before the first is set: a malformed one changes nothing.
  const updates: { member: string; score: number }[] = []
  for (let i = 0; i < pairs.length; i += 2) {
    const score = floatOf(pairs[i])
    if (score === undefined) throw new RedisReplyError('ERR value is not a valid float')
    updates.push({ member: pairs[i + 1]!, score })
  }
  const zset = store.open(key, 'zset')
  let added = 0
  let changed = 0
  let incremented: number | undefined
  for (const { member, score } of updates) {
    const before = zset.score(member)
    const next = increments ? (before ?? 0) + score : score
    if (before === undefined ? xx : nx || (gt && next <= before) || (lt && next >= before)) continue
    incremented = next
    if (before === undefined) added++
    else if (before !== next) changed++
    if (before !== next) zset.set(member, next)
  }
  store.settle(key)
  if (increments) return formatScore(incremented)
  return flags.has('CH') ? added + changed : added
}
