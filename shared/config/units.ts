/** Building blocks of the configuration schema: durations and sizes with units, secrets, rate limits. */
import { isIP } from 'node:net'
import * as v from 'valibot'

const unitMs = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000, y: 31_536_000_000 } as const
const unitBytes = { '': 1, K: 1024, M: 1024 ** 2, G: 1024 ** 3, T: 1024 ** 4 } as const

/** `500ms`, `30s`, `5m`, `12h`, `7d`, `2w`, `1y`, or a number of milliseconds → milliseconds. */
export function duration(description: string) {
  return v.pipe(
    v.union([v.string(), v.number()]),
    v.check(
      (value) =>
        typeof value === 'number' ? Number.isSafeInteger(value) && value >= 0 : /^\d+(ms|s|m|h|d|w|y)$/.test(value),
      'expected a duration such as 30s, 5m or 7d',
    ),
    v.transform((value) => {
      if (typeof value === 'number') return value
      const [, count, unit] = /^(\d+)(.*)$/.exec(value) ?? []
      return Number(count) * unitMs[unit as keyof typeof unitMs]
    }),
    v.metadata({ unit: 'duration' }),
    v.description(description),
  )
}

/** `512K`, `50M`, `2G`, or a number of bytes → bytes. */
export function bytes(description: string) {
  return v.pipe(
    v.union([v.string(), v.number()]),
    v.check(
      (value) => (typeof value === 'number' ? Number.isSafeInteger(value) && value >= 0 : /^\d+[KMGT]?$/.test(value)),
      'expected a size such as 512K or 50M',
    ),
    v.transform((value) => {
      if (typeof value === 'number') return value
      const [, count, unit] = /^(\d+)(.*)$/.exec(value) ?? []
      return Number(count) * unitBytes[unit as keyof typeof unitBytes]
    }),
    v.metadata({ unit: 'size' }),
    v.description(description),
  )
}

/** An address, or a range of them in CIDR form. */
export function addressRange() {
  return v.pipe(
    v.string(),
    v.check((value) => {
      const [address = '', prefix = '0', ...more] = value.split('/')
      const family = isIP(address)
      const bits = family === 6 ? 128 : 32
      return (
        family !== 0 &&
        !address.includes('%') &&
        more.length === 0 &&
        /^\d{1,3}$/.test(prefix) &&
        Number(prefix) <= bits
      )
    }, 'expected an address or a CIDR range such as 10.0.0.0/8'),
  )
}

/** A secret: never logged, and readable from a file by the key's `_path` variant. */
export function secret(description: string) {
  return v.pipe(v.string(), v.minLength(1), v.metadata({ secret: true }), v.description(description))
}

/** A token bucket: `burst` at once, refilled by `per_second`. */
export function limit(description: string, defaults: { per_second: number; burst: number }) {
  const positive = (what: string) => v.pipe(v.number(), v.minValue(0), v.description(`${description}: ${what}`))
  return v.optional(
    v.object({
      per_second: v.optional(positive('how many a second in the long run.'), defaults.per_second),
      burst: v.optional(positive('how many at once.'), defaults.burst),
    }),
    {},
  )
}
