/** What the commands of the Redis in memory are made of: their table's shape, and how their arguments are read. */
import type { Reply } from './commander.ts'
import { RedisReplyError } from './errors.ts'
import type { MemoryStore } from './memory-store.ts'

export interface MemoryCommand {
  /** Fewest and most arguments, the name not counted. */
  readonly least: number
  readonly most: number
  run(store: MemoryStore, args: readonly string[]): Reply
}

export type MemoryCommands = Readonly<Record<string, MemoryCommand>>

export function command(
  least: number,
  most: number,
  run: (store: MemoryStore, args: readonly string[]) => Reply,
): MemoryCommand {
  return { least, most, run }
}

export function integer(text: string | undefined): number {
  const value = Number(text)
  if (text === undefined || !/^-?\d+$/.test(text) || !Number.isSafeInteger(value)) {
    throw new RedisReplyError('ERR value is not an integer or out of range')
  }
  return value
}

export function float(text: string | undefined): number {
  const value = floatOf(text)
  if (value === undefined) throw new RedisReplyError('ERR value is not a valid float')
  return value
}

export function floatOf(text: string | undefined): number | undefined {
  if (text === undefined || text === '') return undefined
  if (/^\+?inf(?:inity)?$/i.test(text)) return Number.POSITIVE_INFINITY
  if (/^-inf(?:inity)?$/i.test(text)) return Number.NEGATIVE_INFINITY
  const value = Number(text)
  return Number.isNaN(value) || /\s/.test(text) ? undefined : value
}

export function formatFloat(value: number): string {
  if (value === Number.POSITIVE_INFINITY) return 'inf'
  return value === Number.NEGATIVE_INFINITY ? '-inf' : String(value)
}

export function syntaxError(): RedisReplyError {
  return new RedisReplyError('ERR syntax error')
}

/** `[from, to)` of a range of indices as Redis takes them: inclusive, negative ones from the end. */
export function indexRange(start: string | undefined, stop: string | undefined, length: number): [number, number] {
  const absolute = (index: number) => (index < 0 ? Math.max(length + index, index < -length ? -1 : 0) : index)
  const from = Math.max(0, absolute(integer(start)))
  const to = Math.min(length - 1, absolute(integer(stop)))
  return [from, Math.max(from, to + 1)]
}

/** A glob of Redis: `*`, `?`, `[…]`, `\`. */
export function globPattern(glob: string): RegExp {
  const source = glob.replace(/\\(.)|\[(\^?)([^\]]*)\]|([*?])|([^*?[\\]+)|(.)/gs, (...m: (string | undefined)[]) => {
    const [, escaped, negated, set, wild, plain, other] = m
    if (wild !== undefined) return wild === '*' ? '[^]*' : '[^]'
    if (set !== undefined) return `[${negated ?? ''}${set.replace(/[\\\]^]/g, '\\$&')}]`
    return (escaped ?? plain ?? other ?? '').replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&')
  })
  return new RegExp(`^${source}$`)
}
