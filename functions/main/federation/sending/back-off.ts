/** When a server that failed is tried again: soon at first, then less and less often, and never later than this. */
const firstMs = 1_000
const mostMs = 3_600_000

/** `attempts` failed in a row, at least one; `random` in [0, 1) keeps those that failed together apart. */
export function backOffMs(attempts: number, random: number): number {
  const ms = Math.min(firstMs * 2 ** Math.min(attempts - 1, 30), mostMs)
  return Math.round(ms * (0.8 + 0.2 * random))
}
