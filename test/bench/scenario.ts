/** A scenario measures one kind of work and checks that every result is right. */
import type { Bench, User } from './environment.ts'
import { type Accounts, drive, percentile, type Sample } from './measure.ts'

export interface Row {
  readonly scenario: string
  readonly count: number
  readonly rate?: number
  readonly p50Ms: number
  readonly p99Ms: number
  /** CPU milliseconds per unit of work. */
  readonly serverCpuMs?: number
  readonly postgresCpuMs?: number
  /** Transactions that Postgres counted per unit of work. */
  readonly transactions?: number
  /** The same of Redis, where there is one; with the processes' heartbeats. */
  readonly redisCpuMs?: number
  readonly redisCommands?: number
  readonly note?: string
}

export type Scenario = (bench: Bench) => Promise<Row[]>

/** Postgres tells its counters with up to a second's delay, those of connections that fell idle with ten. */
const counterDelayMs = 1_200
const idleCounterDelayMs = 10_500

export async function measured(
  bench: Bench,
  scenario: string,
  run: () => Promise<Sample & { units?: number }>,
  /** Waits until every transaction is counted: where the claim is that there are none. */
  exact = false,
): Promise<Row> {
  const delayMs = exact ? idleCounterDelayMs : counterDelayMs
  await pause(delayMs)
  const before = await bench.accountant.read()
  const sample = await run()
  const after0 = await bench.accountant.read()
  await pause(delayMs)
  const after: Accounts = { ...after0, transactions: (await bench.accountant.read()).transactions }
  const units = sample.units ?? sample.latenciesMs.length
  const each = [...after.serverMs].map(([name, ms]) => ({ name, ms: (ms - (before.serverMs.get(name) ?? 0)) / units }))
  return {
    scenario,
    count: units,
    rate: (units * 1000) / sample.elapsedMs,
    p50Ms: percentile(sample.latenciesMs, 50),
    p99Ms: percentile(sample.latenciesMs, 99),
    serverCpuMs: each.reduce((sum, { ms }) => sum + ms, 0),
    ...(each.length > 1 ? { note: each.map(({ name, ms }) => `${name} ${ms.toFixed(3)}`).join(', ') } : undefined),
    postgresCpuMs: (after.postgresMs - before.postgresMs) / units,
    // Two of them are this measurement's own readings.
    transactions: Math.max(0, after.transactions - before.transactions - 2) / units,
    ...(after.redisMs === undefined || before.redisMs === undefined
      ? undefined
      : { redisCpuMs: (after.redisMs - before.redisMs) / units }),
    ...(after0.redisCommands === undefined || before.redisCommands === undefined
      ? undefined
      : { redisCommands: (after0.redisCommands - before.redisCommands) / units }),
  }
}

export const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

export async function registerMany(bench: Bench, prefix: string, count: number): Promise<User[]> {
  const users: User[] = []
  await drive(count, 8, async (i) => {
    users[i] = await bench.register(`${prefix}${i}`)
  })
  return users
}

export async function createRoom(bench: Bench, owner: User, options: object = {}): Promise<string> {
  const body = { preset: 'public_chat', ...options }
  return (await bench.http.json<{ room_id: string }>('POST', '/_matrix/client/v3/createRoom', owner.token, body))
    .room_id
}

export async function join(bench: Bench, user: User, roomId: string): Promise<void> {
  await bench.http.json('POST', `/_matrix/client/v3/join/${encodeURIComponent(roomId)}`, user.token, {})
}

let transaction = 0
export async function send(bench: Bench, user: User, roomId: string, body: string): Promise<string> {
  const path = `/_matrix/client/v3/rooms/${encodeURIComponent(roomId)}/send/m.room.message/b${transaction++}`
  const sent = await bench.http.json<{ event_id: string }>('PUT', path, user.token, { msgtype: 'm.text', body })
  return sent.event_id
}

export interface SyncAnswer {
  readonly next_batch: string
  readonly rooms?: { join?: Record<string, { timeline?: { events?: { event_id: string; type: string }[] } }> }
}

export function sync(bench: Bench, user: User, query: Record<string, string>): Promise<SyncAnswer> {
  return bench.http.json<SyncAnswer>('GET', `/_matrix/client/v3/sync?${new URLSearchParams(query)}`, user.token)
}

export function check(condition: boolean, what: string): void {
  if (!condition) throw new Error(`wrong result: ${what}`)
}
