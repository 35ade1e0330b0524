/** Deletes what has outlived the retention that its table's comment names. */
import type { Clock } from '../../../shared/clock.ts'
import type { MainSql } from '../../../shared/storage/sql.ts'

const hourMs = 60 * 60 * 1000
const dayMs = 24 * hourMs

const retention = {
  idempotencyMs: dayMs,
  uiaSessionsMs: dayMs,
  /** A client that was told of its token's expiry late can still be told apart from one with a made-up token. */
  expiredTokensMs: dayMs,
  /** Of events that were sent or cancelled. */
  delayedEventsMs: 7 * dayMs,
  pushDeviationsMs: 90 * dayMs,
  /** Readers that miss more than this start anew. */
  invalidations: 100_000,
} as const

/** Short statements: none holds locks for long, whatever there is to delete. */
const rowsPerStatement = 5_000

export interface Pruned {
  readonly idempotency: number
  readonly uia_sessions: number
  readonly access_tokens: number
  readonly refresh_tokens: number
  readonly login_tokens: number
  readonly openid_tokens: number
  readonly url_previews: number
  readonly delayed_events: number
  readonly registration_token_holds: number
  readonly push_deviations: number
  readonly invalidations: number
}

/** Runs every job once and says how many rows went. Rejects with the signal's reason between two statements. */
export async function prune(sql: MainSql, now: number, signal?: AbortSignal): Promise<Pruned> {
  const repeat = (statement: () => Promise<{ readonly count: number }>) => untilFew(statement, signal)
  const expired = now - retention.expiredTokensMs
  return {
    idempotency: await repeat(
      () => sql`delete from idempotency where (scope, key) in (
        select scope, key from idempotency where created_ts < ${now - retention.idempotencyMs}
        order by created_ts limit ${rowsPerStatement})`,
    ),
    uia_sessions: await repeat(
      () => sql`delete from uia_sessions where session_id in (
        select session_id from uia_sessions where created_ts < ${now - retention.uiaSessionsMs}
        limit ${rowsPerStatement})`,
    ),
    access_tokens: await repeat(
      () => sql`delete from access_tokens where token_hash in (
        select token_hash from access_tokens where expires_ts < ${expired} limit ${rowsPerStatement})`,
    ),
    refresh_tokens: await repeat(
      () => sql`delete from refresh_tokens where token_hash in (
        select token_hash from refresh_tokens where expires_ts < ${expired} limit ${rowsPerStatement})`,
    ),
    login_tokens: await repeat(
      () => sql`delete from login_tokens where token_hash in (
        select token_hash from login_tokens where expires_ts < ${now} limit ${rowsPerStatement})`,
    ),
    openid_tokens: await repeat(
      () => sql`delete from openid_tokens where token_hash in (
        select token_hash from openid_tokens where expires_ts < ${now} limit ${rowsPerStatement})`,
    ),
    url_previews: await repeat(
      () => sql`delete from url_previews where key in (
        select key from url_previews where expires_ts < ${now} limit ${rowsPerStatement})`,
    ),
    delayed_events: await repeat(
      () => sql`delete from delayed_events where delay_id in (
        select delay_id from delayed_events where finalised_ts < ${now - retention.delayedEventsMs}
        limit ${rowsPerStatement})`,
    ),
    registration_token_holds: await repeat(
      () => sql`delete from registration_token_holds where session_id in (
        select session_id from registration_token_holds where expires_ts < ${now} limit ${rowsPerStatement})`,
    ),
    push_deviations: await prunePushDeviations(sql, now, signal),
    invalidations: await repeat(
      () => sql`delete from invalidations where position in (
        select i.position from invalidations i, streams s
        where s.name = 'invalidations' and i.position <= s.position - ${retention.invalidations}::bigint
        order by i.position limit ${rowsPerStatement})`,
    ),
  }
}

async function untilFew(statement: () => Promise<{ readonly count: number }>, signal?: AbortSignal): Promise<number> {
  let total = 0
  for (;;) {
    signal?.throwIfAborted()
    const { count } = await statement()
    total += count
    if (count < rowsPerStatement) return total
  }
}

async function prunePushDeviations(sql: MainSql, now: number, signal?: AbortSignal): Promise<number> {
  const upTo = await positionAt(sql, now - retention.pushDeviationsMs)
  if (upTo === 0) return 0
  // Room by room, along the primary key.
  const rooms = await sql<{ room_nid: number }[]>`select room_nid from rooms`
  let total = 0
  for (let i = 0; i < rooms.length; i += 500) {
    signal?.throwIfAborted()
    const part = rooms.slice(i, i + 500).map((row) => row.room_nid)
    const { count } = await sql`
      delete from push_deviations where room_nid = any(${sql.array(part, 20)}::bigint[]) and position <= ${upTo}`
    total += count
  }
  return total
}

/** The last position whose event is older than `ts`, by bisection along the stream's index; 0 where there is none.
 *  Events' times are their servers' word, so this is roughly true, which is enough here. */
async function positionAt(sql: MainSql, ts: number): Promise<number> {
  const [end] = await sql<{ position: number }[]>`select position from streams where name = 'events'`
  let low = 0
  let high = end?.position ?? 0
  while (low < high) {
    const middle = Math.ceil((low + high) / 2)
    const [event] = await sql<{ position: number; origin_server_ts: number }[]>`
      select position, origin_server_ts from events where position <= ${middle} and position is not null
      order by position desc limit 1`
    if (!event || event.position <= low) low = middle
    else if (event.origin_server_ts < ts) low = middle
    else high = event.position - 1
  }
  return low
}

/** Prunes a minute after the start and then every hour; the returned function ends that and waits for the statement under
 *  way. */
export function startPruning(deps: {
  readonly sql: MainSql
  readonly clock: Clock
  readonly onError: (error: unknown) => void
}): () => Promise<void> {
  const { sql, clock, onError } = deps
  const stopped = new AbortController()
  let running: Promise<void> | undefined
  let cancel = clock.after(60_000, run)
  function run(): void {
    running = prune(sql, clock.now(), stopped.signal)
      .then(
        () => undefined,
        (error: unknown) => {
          if (!stopped.signal.aborted) onError(error)
        },
      )
      .then(() => {
        running = undefined
        if (!stopped.signal.aborted) cancel = clock.after(hourMs, run)
      })
  }
  return async () => {
    stopped.abort()
    cancel()
    await running
  }
}
