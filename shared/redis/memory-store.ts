/** The data of the Redis in memory: values by key, with their expiry by a given clock. */
import type { Clock } from '../clock.ts'
import { RedisReplyError } from './errors.ts'

export interface ScoredMember {
  readonly member: string
  readonly score: number
}

/** Members by score, then by bytes of their name, as Redis orders them. */
export class SortedSet {
  readonly #scores = new Map<string, number>()
  readonly #ordered: ScoredMember[] = []

  get size(): number {
    return this.#scores.size
  }

  score(member: string): number | undefined {
    return this.#scores.get(member)
  }

  /** Lowest first. */
  get members(): readonly ScoredMember[] {
    return this.#ordered
  }

  set(member: string, score: number): void {
    this.delete(member)
    this.#scores.set(member, score)
    this.#ordered.splice(this.#place(member, score), 0, { member, score })
  }

  delete(member: string): boolean {
    const score = this.#scores.get(member)
    if (score === undefined) return false
    this.#ordered.splice(this.#place(member, score), 1)
    this.#scores.delete(member)
    return true
  }

  /** Where it is, or where it would be. */
  #place(member: string, score: number): number {
    let low = 0
    let high = this.#ordered.length
    while (low < high) {
      const middle = (low + high) >>> 1
      const at = this.#ordered[middle]!
      if (at.score < score || (at.score === score && compareBytes(at.member, member) < 0)) low = middle + 1
      else high = middle
    }
    return low
  }
}

/** By UTF-8 bytes, which is by code points and not by UTF-16 units. */
function compareBytes(a: string, b: string): number {
  return a === b ? 0 : Buffer.compare(Buffer.from(a), Buffer.from(b))
}

interface ValueOf {
  string: { readonly type: 'string'; readonly value: string }
  hash: { readonly type: 'hash'; readonly value: Map<string, string> }
  set: { readonly type: 'set'; readonly value: Set<string> }
  zset: { readonly type: 'zset'; readonly value: SortedSet }
  list: { readonly type: 'list'; readonly value: string[] }
}
export type ValueType = keyof ValueOf
type Value = ValueOf[ValueType]

/** So many writes between two looks for what has expired and is never read again. */
const writesBetweenSweeps = 512

export class MemoryStore {
  readonly clock: Pick<Clock, 'now'>
  readonly #values = new Map<string, Value>()
  readonly #expiresAt = new Map<string, number>()
  #writes = 0

  constructor(clock: Pick<Clock, 'now'>) {
    this.clock = clock
  }

  type(key: string): ValueType | undefined {
    this.#expire(key)
    return this.#values.get(key)?.type
  }

  has(key: string): boolean {
    return this.type(key) !== undefined
  }

  /** Throws the error reply of a value of another type. */
  get<T extends ValueType>(key: string, type: T): ValueOf[T]['value'] | undefined {
    this.#expire(key)
    const found = this.#values.get(key)
    if (!found) return undefined
    if (found.type !== type) {
      throw new RedisReplyError('WRONGTYPE Operation against a key holding the wrong kind of value')
    }
    return found.value
  }

  /** The value that is there, or a new empty one, kept only if it is filled: call `settle` after. */
  open<T extends 'hash' | 'set' | 'zset' | 'list'>(key: string, type: T): ValueOf[T]['value'] {
    const found = this.get(key, type)
    if (found !== undefined) return found
    const value = emptyOf[type]()
    this.#values.set(key, { type, value } as Value)
    this.#wrote()
    return value as ValueOf[T]['value']
  }

  /** A collection that became empty is gone, as Redis has it. */
  settle(key: string): void {
    const found = this.#values.get(key)
    if (!found || found.type === 'string') return
    const size = Array.isArray(found.value) ? found.value.length : found.value.size
    if (size === 0) this.delete(key)
  }

  setString(key: string, value: string): void {
    this.#values.set(key, { type: 'string', value })
    this.#wrote()
  }

  delete(key: string): boolean {
    this.#expire(key)
    this.#expiresAt.delete(key)
    return this.#values.delete(key)
  }

  expiry(key: string): number | undefined {
    this.#expire(key)
    return this.#expiresAt.get(key)
  }

  setExpiry(key: string, atMs: number | undefined): void {
    if (atMs === undefined) this.#expiresAt.delete(key)
    else this.#expiresAt.set(key, atMs)
  }

  keys(): string[] {
    return [...this.#values.keys()].filter((key) => this.has(key))
  }

  clear(): void {
    this.#values.clear()
    this.#expiresAt.clear()
  }

  #expire(key: string): void {
    const at = this.#expiresAt.get(key)
    if (at === undefined || at > this.clock.now()) return
    this.#expiresAt.delete(key)
    this.#values.delete(key)
  }

  #wrote(): void {
    if (++this.#writes % writesBetweenSweeps !== 0) return
    for (const key of [...this.#expiresAt.keys()]) this.#expire(key)
  }
}

const emptyOf: { [T in 'hash' | 'set' | 'zset' | 'list']: () => ValueOf[T]['value'] } = {
  hash: () => new Map(),
  set: () => new Set(),
  zset: () => new SortedSet(),
  list: () => [],
}
