/** Hashes, sets and lists in the Redis in memory. */
import { RedisReplyError } from './errors.ts'
import { command, indexRange, integer, type MemoryCommands } from './memory-command.ts'
import type { MemoryStore } from './memory-store.ts'

const many = Number.POSITIVE_INFINITY

export const hashCommands: MemoryCommands = {
  HSET: command(3, many, (store, [key = '', ...pairs]) => hset(store, key, pairs)),
  HMSET: command(3, many, (store, [key = '', ...pairs]) => {
    hset(store, key, pairs)
    return 'OK'
  }),
  HSETNX: command(3, 3, (store, [key = '', field = '', value = '']) => {
    const hash = store.open(key, 'hash')
    if (hash.has(field)) return 0
    hash.set(field, value)
    return 1
  }),
  HGET: command(2, 2, (store, [key = '', field = '']) => store.get(key, 'hash')?.get(field) ?? null),
  HMGET: command(2, many, (store, [key = '', ...fields]) => {
    const hash = store.get(key, 'hash')
    return fields.map((field) => hash?.get(field) ?? null)
  }),
  HGETALL: command(1, 1, (store, [key = '']) => [...(store.get(key, 'hash') ?? [])].flat()),
  HKEYS: command(1, 1, (store, [key = '']) => [...(store.get(key, 'hash')?.keys() ?? [])]),
  HVALS: command(1, 1, (store, [key = '']) => [...(store.get(key, 'hash')?.values() ?? [])]),
  HLEN: command(1, 1, (store, [key = '']) => store.get(key, 'hash')?.size ?? 0),
  HEXISTS: command(2, 2, (store, [key = '', field = '']) => (store.get(key, 'hash')?.has(field) ? 1 : 0)),
  HDEL: command(2, many, (store, [key = '', ...fields]) => {
    const hash = store.get(key, 'hash')
    const removed = fields.filter((field) => hash?.delete(field)).length
    store.settle(key)
    return removed
  }),
  HINCRBY: command(3, 3, (store, [key = '', field = '', by]) => {
    const amount = integer(by)
    const before = store.get(key, 'hash')?.get(field) ?? '0'
    if (!/^-?\d+$/.test(before)) throw new RedisReplyError('ERR hash value is not an integer')
    const value = Number(before) + amount
    store.open(key, 'hash').set(field, String(value))
    return value
  }),
}

export const setCommands: MemoryCommands = {
  SADD: command(2, many, (store, [key = '', ...members]) => {
    const set = store.open(key, 'set')
    const before = set.size
    for (const member of members) set.add(member)
    return set.size - before
  }),
  SREM: command(2, many, (store, [key = '', ...members]) => {
    const set = store.get(key, 'set')
    const removed = members.filter((member) => set?.delete(member)).length
    store.settle(key)
    return removed
  }),
  SMEMBERS: command(1, 1, (store, [key = '']) => [...(store.get(key, 'set') ?? [])]),
  SISMEMBER: command(2, 2, (store, [key = '', member = '']) => (store.get(key, 'set')?.has(member) ? 1 : 0)),
  SMISMEMBER: command(2, many, (store, [key = '', ...members]) => {
    const set = store.get(key, 'set')
    return members.map((member) => (set?.has(member) ? 1 : 0))
  }),
  SCARD: command(1, 1, (store, [key = '']) => store.get(key, 'set')?.size ?? 0),
}

export const listCommands: MemoryCommands = {
  LPUSH: command(2, many, (store, [key = '', ...items]) => store.open(key, 'list').unshift(...items.toReversed())),
  RPUSH: command(2, many, (store, [key = '', ...items]) => store.open(key, 'list').push(...items)),
  LPOP: command(1, 1, (store, [key = '']) => popped(store, key, (list) => list.shift())),
  RPOP: command(1, 1, (store, [key = '']) => popped(store, key, (list) => list.pop())),
  LLEN: command(1, 1, (store, [key = '']) => store.get(key, 'list')?.length ?? 0),
  LRANGE: command(3, 3, (store, [key = '', start, stop]) => {
    const list = store.get(key, 'list') ?? []
    return list.slice(...indexRange(start, stop, list.length))
  }),
  LTRIM: command(3, 3, (store, [key = '', start, stop]) => {
    const list = store.get(key, 'list')
    const [from, to] = indexRange(start, stop, list?.length ?? 0)
    list?.splice(to)
    list?.splice(0, from)
    store.settle(key)
    return 'OK'
  }),
}

function hset(store: MemoryStore, key: string, pairs: readonly string[]): number {
  if (pairs.length % 2 !== 0) throw new RedisReplyError("ERR wrong number of arguments for 'hset' command")
  const hash = store.open(key, 'hash')
  const before = hash.size
  for (let i = 0; i < pairs.length; i += 2) hash.set(pairs[i]!, pairs[i + 1]!)
  return hash.size - before
}

function popped(store: MemoryStore, key: string, pop: (list: string[]) => string | undefined): string | null {
  const list = store.get(key, 'list')
  const item = list && pop(list)
  store.settle(key)
  return item ?? null
}
