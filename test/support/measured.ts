/** What a hostile input costs: time, and memory above what there was. */
import { readFileSync } from 'node:fs'

export interface Cost {
  readonly name: string
  readonly wallMs: number
  /** Of this process, the highest while it ran less that before. */
  readonly grownMiB: number
}

const sampleMs = 10

export async function measured<Result>(
  name: string,
  costs: Cost[],
  run: () => Promise<Result>,
  /** Processes beside this one whose memory counts too. */
  others: () => readonly number[] = () => [],
): Promise<Result> {
  const memory = () => rssMiB('self') + others().reduce((sum, pid) => sum + rssMiB(pid), 0)
  const before = memory()
  let highest = before
  const sampler = setInterval(() => {
    highest = Math.max(highest, memory())
  }, sampleMs)
  const startedAt = performance.now()
  try {
    return await run()
  } finally {
    clearInterval(sampler)
    highest = Math.max(highest, memory())
    costs.push({ name, wallMs: performance.now() - startedAt, grownMiB: highest - before })
  }
}

export function rssMiB(pid: number | 'self'): number {
  try {
    const [, kib] = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? []
    return Number(kib ?? 0) / 1024
  } catch {
    return 0
  }
}

export function costTable(costs: readonly Cost[]): string {
  return costs
    .map(
      ({ name, wallMs, grownMiB }) =>
        `${name.padEnd(64)} ${wallMs.toFixed(0).padStart(6)} ms ${grownMiB.toFixed(1).padStart(7)} MiB`,
    )
    .join('\n')
}
