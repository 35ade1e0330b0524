/** Latencies, rates, and CPU time from the operating system's accounts. */
import { readdir, readFile } from 'node:fs/promises'
import type { ReadSql } from '../../shared/storage/sql.ts'

/** Linux counts CPU time in hundredths of a second for user space, whatever the kernel's own tick is. */
const tickMs = 10

interface Process {
  readonly pid: number
  readonly parent: number
  /** Own time and that of children it has waited for, user and system. */
  readonly cpuMs: number
}

async function readProcess(pid: number): Promise<Process | undefined> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    const [utime, stime, cutime, cstime] = fields.slice(11, 15).map(Number)
    return {
      pid,
      parent: Number(fields[1]),
      cpuMs: ((utime ?? 0) + (stime ?? 0) + (cutime ?? 0) + (cstime ?? 0)) * tickMs,
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT' || (error as NodeJS.ErrnoException).code === 'ESRCH')
      return undefined
    throw error
  }
}

export async function processCpuMs(pid: number): Promise<number> {
  return (await readProcess(pid))?.cpuMs ?? Number.NaN
}

/** CPU milliseconds of a process and all below it, ended children included. */
async function treeCpuMs(root: number): Promise<number> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number)
  const all = (await Promise.all(pids.map(readProcess))).filter((process) => process !== undefined)
  const tree = new Set([root])
  // Parents have smaller positions in no particular order: repeat until nothing is added.
  for (let size = 0; size !== tree.size; ) {
    size = tree.size
    for (const process of all) if (tree.has(process.parent)) tree.add(process.pid)
  }
  return all.filter((process) => tree.has(process.pid)).reduce((sum, process) => sum + process.cpuMs, 0)
}

export async function residentMb(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8')
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1024
}

export interface Accounts {
  readonly serverMs: number
  readonly postgresMs: number
  /** Transactions that Postgres has counted, with this reading's own. */
  readonly transactions: number
}

export interface Accountant {
  read(): Promise<Accounts>
}

export function createAccountant(pids: { server: number; postgres: number }, sql: ReadSql): Accountant {
  return {
    async read() {
      const [row] = await sql<{ transactions: number }[]>`
        select (xact_commit + xact_rollback)::bigint as transactions from pg_stat_database where datname = current_database()`
      return {
        serverMs: await processCpuMs(pids.server),
        postgresMs: await treeCpuMs(pids.postgres),
        transactions: row?.transactions ?? Number.NaN,
      }
    },
  }
}

export interface Sample {
  readonly latenciesMs: number[]
  readonly elapsedMs: number
}

/** Runs `task(0)` … `task(count - 1)`, at most `width` at once. */
export async function drive(count: number, width: number, task: (i: number) => Promise<void>): Promise<Sample> {
  const latenciesMs: number[] = []
  let next = 0
  const startMs = performance.now()
  const lane = async () => {
    while (next < count) {
      const i = next++
      const beganMs = performance.now()
      await task(i)
      latenciesMs.push(performance.now() - beganMs)
    }
  }
  await Promise.all(Array.from({ length: width }, lane))
  return { latenciesMs, elapsedMs: performance.now() - startMs }
}

export function percentile(values: readonly number[], p: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor((sorted.length * p) / 100))] ?? Number.NaN
}
