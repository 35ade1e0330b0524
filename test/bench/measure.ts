/** Latencies, rates, and CPU time from the operating system's accounts. */
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
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

/** Of all these processes together. */
export async function residentMb(pids: readonly number[]): Promise<number> {
  const each = await Promise.all(
    pids.map(async (pid) => {
      const status = await readFile(`/proc/${pid}/status`, 'utf8')
      return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1024
    }),
  )
  return each.reduce((sum, mb) => sum + mb, 0)
}

/** Begins to count a process's largest memory anew; returns what it has now, in MB. */
export async function startPeak(pid: number): Promise<number> {
  await writeFile(`/proc/${pid}/clear_refs`, '5')
  return residentMb([pid])
}

/** The most that it had since `startPeak`, in MB. */
export async function peakMb(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8')
  return Number(/VmHWM:\s+(\d+)/.exec(status)?.[1]) / 1024
}

/** How many commands the server has run since it started. */
async function redisCommands(url: string): Promise<number> {
  const { hostname, port } = new URL(url)
  const socket = connect(Number(port), hostname)
  socket.write('INFO stats\r\nQUIT\r\n')
  let text = ''
  for await (const chunk of socket) text += String(chunk)
  return Number(/total_commands_processed:(\d+)/.exec(text)?.[1])
}

export interface Accounts {
  /** By the process's name. */
  readonly serverMs: ReadonlyMap<string, number>
  readonly postgresMs: number
  /** Transactions that Postgres has counted, with this reading's own. */
  readonly transactions: number
  /** Where there is a Redis: its CPU time, and the commands that it has counted. */
  readonly redisMs?: number
  readonly redisCommands?: number
}

export interface Accountant {
  read(): Promise<Accounts>
}

export interface Accounted {
  readonly servers: readonly { readonly name: string; readonly pid: number }[]
  readonly postgres: number
  readonly redis: { readonly url: string; readonly pid: number } | undefined
}

export function createAccountant({ servers, postgres, redis }: Accounted, sql: ReadSql): Accountant {
  return {
    async read() {
      const [row] = await sql<{ transactions: number }[]>`
        select (xact_commit + xact_rollback)::bigint as transactions from pg_stat_database where datname = current_database()`
      return {
        serverMs: new Map(
          await Promise.all(servers.map(async ({ name, pid }) => [name, await processCpuMs(pid)] as const)),
        ),
        postgresMs: await treeCpuMs(postgres),
        transactions: row?.transactions ?? Number.NaN,
        ...(redis
          ? { redisMs: await processCpuMs(redis.pid), redisCommands: await redisCommands(redis.url) }
          : undefined),
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
