/** The committer's own connection: it fences earlier ones, sends a batch in one flight, and after a lost connection finds
 *  out whether the batch in flight was committed. */
import assert from 'node:assert/strict'
import postgres from 'postgres'
import type { MainSql, WriteTx } from '../../../shared/storage/sql.ts'
import type { EncodedBatch } from './commit-batch.ts'
import { commitOutbound } from './commit-outbound.ts'
import { commitThreadSubscriptions, threadSubscriptionsPlace } from './commit-thread-subscriptions.ts'
import { commitToDevice, toDevicePlace } from './commit-to-device.ts'
import type { Writes } from './writes.ts'

/** The streams' positions in the order of `committedStreams`. */
export type Positions = readonly number[]

/** Another process took over this writer's name: nothing can be written here any more. */
export class FencedError extends Error {
  constructor() {
    super('another process has taken over as the writer')
    this.name = 'FencedError'
  }
}

/** Whether the row is there already that this unique constraint allows one of. */
export function isUniqueViolation(error: unknown, constraint: string): boolean {
  return error instanceof Error && 'constraint_name' in error && error.constraint_name === constraint
}

/** True where Postgres refused the statement and so rolled the batch back; false where its fate is unknown. */
export function isRefused(error: unknown): error is postgres.PostgresError {
  return (
    error instanceof postgres.PostgresError &&
    error.severity_local !== 'FATAL' &&
    error.severity_local !== 'PANIC' &&
    !/^(?:57P|08)/.test(error.code)
  )
}

export interface CommitConnection {
  /** The last batch that this writer committed, under whichever connection, and the positions after it. */
  readonly lastBatch: number
  readonly lastPositions: Positions
  send(batchNumber: number, encoded: EncodedBatch, batch: readonly Writes[]): Promise<Positions>
  /** Gives up on an answer: what was sent is then as uncertain as after a lost connection. */
  abandon(): void
  release(): void
}

interface CommitterRow {
  epoch: number
  batch: number
  positions: string
}

/** Raises the writer's epoch. That waits for a commit of an earlier connection that is still under way, and makes one
 *  that arrives later fail; so what is read after it stays true. The first connection of an owner takes over from whom it
 *  finds; a later one (`again`) throws FencedError when the owner was replaced meanwhile. */
export async function openCommitConnection(
  sql: MainSql,
  { writer, owner, again }: { writer: string; owner: string; again: boolean },
): Promise<CommitConnection> {
  // A client of its own: of a pool's, postgres.js leaves queries of a reserved connection unanswered when that is lost.
  let lose: (error: Error) => void = () => {}
  const lost = new Promise<never>((_, reject) => {
    lose = reject
  })
  lost.catch(() => undefined)
  let closed = false
  const abandon = () => {
    closed = true
    lose(Object.assign(new Error('the connection was lost'), { code: 'CONNECTION_CLOSED' }))
  }
  const own = postgres({
    ...(sql.options as unknown as postgres.Options<Record<string, postgres.PostgresType>>),
    max: 1,
    idle_timeout: 0,
    max_lifetime: null,
    connect_timeout: 5,
    onclose: abandon,
  })
  const release = () => void own.end({ timeout: 0 })
  async function setUp() {
    // Without fetch_types, postgres.js never answers a reserve that has to connect first.
    await own`select 1`
    const reserved = (await own.reserve()) as unknown as postgres.ReservedSql<{ bigint: number }>
    return { reserved, ...(await open(reserved, { writer, owner, again })) }
  }
  try {
    const { reserved, epoch, found } = await Promise.race([setUp(), lost])
    return {
      ...found,
      send(batchNumber, encoded, batch) {
        // What is given to a closed connection, postgres.js writes to a socket that is not there, and throws at nobody.
        if (closed) return lost
        const sent = send(reserved as unknown as WriteTx, [writer, epoch, batchNumber], encoded, batch)
        return Promise.race([sent, lost])
      },
      abandon,
      release,
    }
  } catch (error) {
    release()
    throw error
  }
}

async function open(
  reserved: postgres.ReservedSql<{ bigint: number }>,
  { writer, owner, again }: { writer: string; owner: string; again: boolean },
) {
  // A connection that broke on the way may live on in the server, with a commit half done and its locks held.
  await reserved`
    select pg_terminate_backend(a.pid) from committers c
    join pg_stat_activity a on a.pid = c.backend_pid and a.backend_start = c.backend_start
    where c.name = ${writer} and (c.owner = ${owner} or ${!again}::boolean)`
  const [row] = again
    ? await reserved<CommitterRow[]>`
        update committers set epoch = epoch + 1, backend_pid = a.pid, backend_start = a.backend_start
        from pg_stat_activity a where a.pid = pg_backend_pid() and name = ${writer} and owner = ${owner}
        returning epoch, batch, positions::text as positions`
    : await reserved<CommitterRow[]>`
        insert into committers as c (name, owner, backend_pid, backend_start)
        select ${writer}, ${owner}, pid, backend_start from pg_stat_activity where pid = pg_backend_pid()
        on conflict (name) do update set epoch = c.epoch + 1, owner = excluded.owner,
          backend_pid = excluded.backend_pid, backend_start = excluded.backend_start
        returning epoch, batch, positions::text as positions`
  if (!row) throw new FencedError()
  return {
    epoch: row.epoch,
    found: { lastBatch: row.batch, lastPositions: parsePositions(row.positions) },
  }
}

function parsePositions(literal: string | null): number[] {
  return (literal ?? '').slice(1, -1).split(',').map(Number)
}

/** Types of the parameters of `commit_batch`. They are sent as text, which spares the driver a look at each array. */
const parameterTypes = [
  'text, bigint, bigint, bigint[]',
  'bigint[], text[], bigint[], integer[], bigint[], text[], text[], text[], bigint[], text, text, bigint[], bigint[]',
  'text[], text[], text[], text[], smallint[], smallint[], text[], text[]',
  'bigint[], text[], bigint[], bigint[]',
  'text[], text[], text, bigint, jsonb',
]
  .join(', ')
  .split(', ')
const commitBatchText = `select commit_batch(${parameterTypes
  .map((type, i) => `$${i + 1}::text::${type}`)
  .join(', ')})::text as positions`

const commitKeysText =
  'select commit_keys($1::text, $2::text::bigint, $3::text::bigint, $4::text::jsonb)::text as positions'

async function send(
  tx: WriteTx,
  [writer, epoch, batchNumber]: [string, number, number],
  { counts, parameters: p, keys }: EncodedBatch,
  batch: readonly Writes[],
): Promise<Positions> {
  const commitBatch = tx.unsafe<{ positions: string }[]>(
    commitBatchText,
    [writer, epoch, batchNumber, `{${counts.join(',')}}`, ...p],
    { prepare: true },
  )
  const further = [
    ...commitOutbound(tx, batch),
    ...batch.flatMap((writes) => (writes.also ? [...writes.also(tx)] : [])),
  ]
  const toDevice = commitToDevice(tx, writer, batch)
  const subscriptions = commitThreadSubscriptions(tx, writer, batch)
  if (further.length === 0 && !keys && toDevice.length + subscriptions.length === 0) {
    const [row] = await commitBatch
    assert(row, 'commit_batch returns the positions')
    return parsePositions(row.positions)
  }
  const commitKeys = keys
    ? [tx.unsafe<{ positions: string }[]>(commitKeysText, [writer, ...keys.counts, keys.rest], { prepare: true })]
    : []
  // Sent without waiting in between. After an error in one of them, Postgres refuses the rest and `commit` rolls back.
  const results = await Promise.allSettled([
    tx.unsafe('begin'),
    commitBatch,
    ...commitKeys,
    ...toDevice,
    ...subscriptions,
    ...further,
    tx.unsafe('commit'),
  ])
  const failed = results.filter((result) => result.status === 'rejected').map((result) => result.reason as unknown)
  // A lost connection weighs more than what was refused before it: the batch's fate is then to be looked up.
  if (failed.length > 0) throw failed.find((error) => !isRefused(error)) ?? failed[0]
  const [row] = await commitBatch
  assert(row, 'commit_batch returns the positions')
  const [keyRow] = (await commitKeys[0]) ?? []
  const [toDeviceRow] = (await toDevice[0]) ?? []
  const [subscriptionsRow] = (await subscriptions[0]) ?? []
  const positions = [...parsePositions(row.positions), ...(keyRow ? parsePositions(keyRow.positions) : [])]
  if (toDeviceRow) positions[toDevicePlace] = toDeviceRow.position
  if (subscriptionsRow) positions[threadSubscriptionsPlace] = subscriptionsRow.position
  return positions
}
