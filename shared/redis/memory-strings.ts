/** Keys, strings and their expiry in the Redis in memory. */
import { RedisReplyError } from './errors.ts'
import {
  command,
  float,
  formatFloat,
  globPattern,
  integer,
  type MemoryCommands,
  syntaxError,
} from './memory-command.ts'
import type { MemoryStore } from './memory-store.ts'

const many = Number.POSITIVE_INFINITY

export const keyCommands: MemoryCommands = {
  PING: command(0, 1, (_, [text]) => text ?? 'PONG'),
  ECHO: command(1, 1, (_, [text = '']) => text),
  TIME: command(0, 0, (store) => {
    const now = store.clock.now()
    return [String(Math.floor(now / 1000)), String(Math.floor((now % 1000) * 1000))]
  }),
  DBSIZE: command(0, 0, (store) => store.keys().length),
  FLUSHALL: command(0, 1, clear),
  FLUSHDB: command(0, 1, clear),
  DEL: command(1, many, remove),
  UNLINK: command(1, many, remove),
  EXISTS: command(1, many, (store, keys) => keys.filter((key) => store.has(key)).length),
  TYPE: command(1, 1, (store, [key = '']) => store.type(key) ?? 'none'),
  KEYS: command(1, 1, (store, [glob = '']) => matching(store, glob)),
  // All in one go: nobody keeps so much in memory that a cursor would pay.
  SCAN: command(1, many, (store, [, ...options]) => {
    let glob = '*'
    for (let i = 0; i < options.length; i += 2) {
      const name = options[i]?.toUpperCase()
      if (name === 'MATCH') glob = options[i + 1] ?? '*'
      else if (name !== 'COUNT') throw syntaxError()
    }
    return ['0', matching(store, glob)]
  }),
  EXPIRE: command(2, 3, (store, [key = '', after, when]) =>
    expire(store, { key, atMs: store.clock.now() + integer(after) * 1000, when }),
  ),
  PEXPIRE: command(2, 3, (store, [key = '', after, when]) =>
    expire(store, { key, atMs: store.clock.now() + integer(after), when }),
  ),
  EXPIREAT: command(2, 3, (store, [key = '', at, when]) => expire(store, { key, atMs: integer(at) * 1000, when })),
  PEXPIREAT: command(2, 3, (store, [key = '', at, when]) => expire(store, { key, atMs: integer(at), when })),
  PERSIST: command(1, 1, (store, [key = '']) => {
    if (store.expiry(key) === undefined) return 0
    store.setExpiry(key, undefined)
    return 1
  }),
  TTL: command(1, 1, (store, [key = '']) => remaining(store, key, 1000)),
  PTTL: command(1, 1, (store, [key = '']) => remaining(store, key, 1)),
}

export const stringCommands: MemoryCommands = {
  GET: command(1, 1, (store, [key = '']) => store.get(key, 'string') ?? null),
  SET: command(2, many, set),
  SETNX: command(2, 2, (store, [key = '', value = '']) => {
    if (store.has(key)) return 0
    store.setString(key, value)
    return 1
  }),
  SETEX: command(3, 3, (store, [key = '', after = '', value = '']) => set(store, [key, value, 'EX', after])),
  PSETEX: command(3, 3, (store, [key = '', after = '', value = '']) => set(store, [key, value, 'PX', after])),
  GETDEL: command(1, 1, (store, [key = '']) => {
    const value = store.get(key, 'string') ?? null
    store.delete(key)
    return value
  }),
  MGET: command(1, many, (store, keys) =>
    keys.map((key) => (store.type(key) === 'string' ? (store.get(key, 'string') ?? null) : null)),
  ),
  MSET: command(2, many, (store, pairs) => {
    if (pairs.length % 2 !== 0) throw new RedisReplyError("ERR wrong number of arguments for 'mset' command")
    for (let i = 0; i < pairs.length; i += 2) {
      store.delete(pairs[i]!)
      store.setString(pairs[i]!, pairs[i + 1]!)
    }
    return 'OK'
  }),
  STRLEN: command(1, 1, (store, [key = '']) => Buffer.byteLength(store.get(key, 'string') ?? '')),
  APPEND: command(2, 2, (store, [key = '', text = '']) => {
    const value = (store.get(key, 'string') ?? '') + text
    store.setString(key, value)
    return Buffer.byteLength(value)
  }),
  INCR: command(1, 1, (store, [key = '']) => add(store, key, 1)),
  DECR: command(1, 1, (store, [key = '']) => add(store, key, -1)),
  INCRBY: command(2, 2, (store, [key = '', by]) => add(store, key, integer(by))),
  DECRBY: command(2, 2, (store, [key = '', by]) => add(store, key, -integer(by))),
  INCRBYFLOAT: command(2, 2, (store, [key = '', by]) => {
    const value = formatFloat(float(store.get(key, 'string') ?? '0') + float(by))
    store.setString(key, value)
    return value
  }),
}

function clear(store: MemoryStore): 'OK' {
  store.clear()
  return 'OK'
}

function remove(store: MemoryStore, keys: readonly string[]): number {
  return keys.filter((key) => store.delete(key)).length
}

function matching(store: MemoryStore, glob: string): string[] {
  const pattern = globPattern(glob)
  return store.keys().filter((key) => pattern.test(key))
}

function remaining(store: MemoryStore, key: string, unitMs: number): number {
  if (!store.has(key)) return -2
  const at = store.expiry(key)
  return at === undefined ? -1 : Math.round((at - store.clock.now()) / unitMs)
}

function expire(store: MemoryStore, { key, atMs, when }: { key: string; atMs: number; when: string | undefined }) {
  if (!store.has(key)) return 0
  const before = store.expiry(key)
  switch ((when ?? 'ALWAYS').toUpperCase()) {
    case 'ALWAYS':
      break
    case 'NX':
      if (before !== undefined) return 0
      break
    case 'XX':
      if (before === undefined) return 0
      break
    case 'GT':
      if (before === undefined || atMs <= before) return 0
      break
    case 'LT':
      if (before !== undefined && atMs >= before) return 0
      break
    default:
      throw new RedisReplyError('ERR Unsupported option')
  }
  if (atMs <= store.clock.now()) store.delete(key)
  else store.setExpiry(key, atMs)
  return 1
}

function add(store: MemoryStore, key: string, by: number): number {
  const value = integer(store.get(key, 'string') ?? '0') + by
  store.setString(key, String(value))
  return value
}

function set(store: MemoryStore, [key = '', value = '', ...options]: readonly string[]): string | null {
  let expiresAt: number | undefined
  let only: 'NX' | 'XX' | undefined
  let keepExpiry = false
  let wantsOld = false
  for (let i = 0; i < options.length; i++) {
    const option = options[i]!.toUpperCase()
    switch (option) {
      case 'NX':
      case 'XX':
        if (only !== undefined && only !== option) throw syntaxError()
        only = option
        break
      case 'GET':
        wantsOld = true
        break
      case 'KEEPTTL':
        keepExpiry = true
        break
      case 'EX':
      case 'PX':
      case 'EXAT':
      case 'PXAT': {
        const number = integer(options[++i])
        if (number <= 0) throw new RedisReplyError("ERR invalid expire time in 'set' command")
        expiresAt = number * (option.startsWith('EX') ? 1000 : 1) + (option.endsWith('AT') ? 0 : store.clock.now())
        break
      }
      default:
        throw syntaxError()
    }
  }
  const old = wantsOld ? (store.get(key, 'string') ?? null) : null
  const there = store.has(key)
  if ((only === 'NX' && there) || (only === 'XX' && !there)) return old
  store.setString(key, value)
  if (!keepExpiry) store.setExpiry(key, expiresAt)
  return wantsOld ? old : 'OK'
}
