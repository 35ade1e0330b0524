/** Group commit. While one commit is in flight the next batch gathers, so a busy server makes fewer, larger commits and a
 *  quiet one answers in one round trip. After the commit its rows are published in order, then the callers go on. */
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises'
import type postgres from 'postgres'
import type { Clock } from '../../../shared/clock.ts'
import { liveNumber, tallies } from '../../../shared/metrics/tallies.ts'
import type { Publisher } from '../../../shared/replication/replication.ts'
import { outsideRequests } from '../../../shared/request-context.ts'
import type { MainSql } from '../../../shared/storage/sql.ts'
import type { StreamPosition } from '../../../shared/streams/define.ts'
import type { RowOf, StreamPositions } from '../../../shared/streams/registry.ts'
import { outageGraceMs, unavailable } from '../outage-guard.ts'
import { type CommittedStream, committedStreams, type EncodedBatch, encodeBatch } from './commit-batch.ts'
import {
  type CommitConnection,
  FencedError,
  isRefused,
  openCommitConnection,
  type Positions,
} from './commit-connection.ts'
import { threadSubscriptionsPlace } from './commit-thread-subscriptions.ts'
import { toDevicePlace } from './commit-to-device.ts'
import type { Committer, Unplaced, Writes } from './writes.ts'

export interface CommitterOptions {
  readonly sql: MainSql
  readonly publisher: Publisher
  readonly clock: Clock
  /** Called once when nothing can be written any more: another process took over, or a published row would be lost. */
  readonly onFatal?: (error: Error) => void
  /** Called again and again while the database is away. */
  readonly onAway?: () => void
  /** Two processes with one name exclude each other: the later one wins. */
  readonly writer?: string
  /** Where the writer's row was claimed beforehand: by whom. Who has replaced that one since can't be taken over from. */
  readonly owner?: string
}

const limits = {
  writesPerBatch: 256,
  /** A batch of large events ends earlier. */
  bytesPerBatch: 4 * 1024 * 1024,
  queuedWrites: 20_000,
  reconnectDelayMs: 100,
  /** Without an answer for this long, the connection counts as lost. */
  answerMs: 30_000,
  /** A batch that took the connection with it this often is taken apart. */
  sendsPerBatch: 3,
} as const

interface Queued {
  readonly writes: Writes
  readonly queuedTs: number
  resolve(): void
  reject(error: unknown): void
}

/** For `createInProcessReplication`: where the streams stand in the database. */
export async function storedPositions(sql: MainSql): Promise<Partial<StreamPositions>> {
  const rows = await sql<{ name: CommittedStream; position: StreamPosition }[]>`select name, position from streams`
  const committed = new Set<string>(committedStreams)
  return Object.fromEntries(rows.filter((row) => committed.has(row.name)).map((row) => [row.name, row.position]))
}

/** The request's key was recorded before: its effect is there already. */
export function isRepeatedKey(error: unknown): error is postgres.PostgresError {
  return isRefused(error) && error.code === '23505' && error.constraint_name === 'idempotency_pkey'
}

export function createCommitter(options: CommitterOptions): Committer {
  const { sql, publisher, clock, writer = 'main' } = options
  let queue: Queued[] = []
  let pumping: Promise<void> | undefined
  const owner = options.owner ?? randomUUID()
  let connection: CommitConnection | undefined
  let connectedBefore = options.owner !== undefined
  let batchNumber = 0
  let fatal: Error | undefined
  let closed = false
  const forgetDepth = liveNumber('ganglion_commit_queue_depth', 'Writes that wait for their commit', () => queue.length)
  /** When the database went away; undefined while it is there. */
  let awaySince: number | undefined

  function die(error: Error): void {
    if (fatal) return
    fatal = error
    for (const { reject } of queue.splice(0)) reject(unavailable())
    options.onFatal?.(error)
  }

  async function connect(): Promise<CommitConnection> {
    while (!connection) {
      if (fatal) throw fatal
      try {
        connection = await openCommitConnection(sql, { writer, owner, again: connectedBefore })
        connectedBefore = true
        batchNumber = Math.max(batchNumber, connection.lastBatch)
        awaySince = undefined
      } catch (error) {
        if (error instanceof FencedError || isRefused(error)) throw error
        if (closed) throw unavailable()
        awaySince ??= clock.now()
        rejectStale()
        options.onAway?.()
        await sleep(limits.reconnectDelayMs)
      }
    }
    return connection
  }

  /** Tells those who have waited long enough; none of them was sent. What was made on top of them for the same room goes
   *  with them, however short its wait. */
  function rejectStale(): void {
    const oldest = clock.now() - outageGraceMs
    const rooms = new Set<number>()
    queue = queue.filter((queued) => {
      const heads = queued.writes.heads ?? []
      const stale = queued.queuedTs <= oldest || heads.some((head) => rooms.has(head.room_nid))
      if (stale) {
        for (const head of heads) rooms.add(head.room_nid)
        queued.reject(unavailable())
      }
      return !stale
    })
  }

  /** Sends the batch until its fate is known. Rejects with what Postgres refused it for; then nothing of it is stored. */
  async function store(encoded: EncodedBatch, batch: readonly Queued[]): Promise<Positions> {
    const writes = batch.map((queued) => queued.writes)
    for (let sends = 1; ; sends++) {
      const current = await connect()
      const number = ++batchNumber
      const onTime = clock.after(limits.answerMs, () => current.abandon())
      try {
        return await current.send(number, encoded, writes)
      } catch (error) {
        if (isRefused(error)) throw error.code === 'GN001' ? new FencedError() : error
        if (!isConnectionLost(error)) throw error
        current.release()
        connection = undefined
        awaySince ??= clock.now()
        const next = await connect()
        if (next.lastBatch === number) return next.lastPositions
        if (sends === limits.sendsPerBatch) throw error
      } finally {
        onTime()
      }
    }
  }

  function publish<S extends CommittedStream>(
    stream: S,
    index: number,
    after: Positions,
    unplaced: readonly Unplaced<RowOf<S>>[],
  ): void {
    // Others may have written between this batch and the last one of this process.
    const position = after[index] ?? 0
    const prev = position - unplaced.length
    const rows = unplaced.map((row, i) => ({ ...row, position: prev + 1 + i }) as unknown as RowOf<S>)
    publisher.publish(stream, { prev: prev as StreamPosition, position: position as StreamPosition, rows })
  }

  function publishBatch(batch: readonly Queued[], after: Positions): void {
    const all = <T>(of: (writes: Writes) => readonly T[] | undefined): T[] =>
      batch.flatMap((queued) => of(queued.writes) ?? [])
    const events = all((writes) => writes.events?.filter((event) => event.visible).map((event) => event.row))
    const receipts = all((writes) => writes.receipts)
    const accountData = all((writes) => writes.account_data)
    const invalidations = all((writes) => writes.invalidations)
    const deviceLists = all((writes) => writes.device_lists)
    const keyCounts = all((writes) => writes.key_counts)
    const toDevice = all((writes) => writes.to_device?.map(({ user_id, device_id }) => ({ user_id, device_id })))
    const subscriptions = all((writes) => writes.thread_subscriptions?.map(({ unsubscribed_at: _, ...row }) => row))
    // Invalidations first: who reads an event's row must not meet it with a cache from before it.
    if (invalidations.length > 0) publish('invalidations', 3, after, invalidations)
    if (events.length > 0) publish('events', 0, after, events)
    tallies.commits++
    tallies.writes += batch.length
    for (const { writes } of batch) tallies.eventsPersisted += writes.events?.length ?? 0
    if (receipts.length > 0) publish('receipts', 1, after, receipts)
    if (accountData.length > 0) publish('account_data', 2, after, accountData)
    if (deviceLists.length > 0) publish('device_lists', 4, after, deviceLists)
    if (keyCounts.length > 0) publish('key_counts', 5, after, keyCounts)
    if (toDevice.length > 0) publish('to_device', toDevicePlace, after, toDevice)
    if (subscriptions.length > 0) publish('thread_subscriptions', threadSubscriptionsPlace, after, subscriptions)
  }

  async function flush(batch: readonly Queued[]): Promise<void> {
    let after: Positions
    try {
      after = await store(
        encodeBatch(
          batch.map((queued) => queued.writes),
          clock.now(),
        ),
        batch,
      )
    } catch (error) {
      if (error instanceof FencedError || fatal) {
        die(error as Error)
        for (const queued of batch) queued.reject(unavailable())
      } else if (batch.length === 1) fail(batch[0]!, error)
      else await flushOneByOne(batch)
      return
    }
    try {
      publishBatch(batch, after)
    } catch (error) {
      // Stored, but readers would miss it: only a restart, with positions read anew, puts that right.
      die(error as Error)
    }
    const answer = () => {
      for (const queued of batch) queued.resolve()
    }
    const acknowledged = publisher.acknowledged?.()
    if (acknowledged === undefined) answer()
    // The next batch does not wait for it.
    else void acknowledged.then(answer, die)
  }

  /** A poison write fails alone. */
  async function flushOneByOne(batch: readonly Queued[]): Promise<void> {
    const failedRooms = new Map<number, unknown>()
    for (const queued of batch) {
      const heads = queued.writes.heads ?? []
      const doomed = heads.find((head) => failedRooms.has(head.room_nid))
      if (doomed) {
        queued.reject(failedRooms.get(doomed.room_nid))
        continue
      }
      const { reject } = queued
      await flush([
        {
          ...queued,
          reject(error) {
            for (const head of heads) failedRooms.set(head.room_nid, error)
            reject(error)
          },
        },
      ])
    }
  }

  /** Those queued behind it for the same room were made on top of it. */
  function fail(queued: Queued, error: unknown): void {
    queued.reject(isConnectionLost(error) ? unavailable() : error)
    const rooms = new Set((queued.writes.heads ?? []).map((head) => head.room_nid))
    if (rooms.size === 0) return
    queue = queue.filter((other) => {
      const doomed = other.writes.heads?.some((head) => rooms.has(head.room_nid)) ?? false
      if (doomed) other.reject(error)
      return !doomed
    })
  }

  function nextBatch(): Queued[] {
    let bytes = 0
    let count = 0
    while (count < queue.length && count < limits.writesPerBatch && bytes < limits.bytesPerBatch) {
      const { events, to_device } = queue[count]!.writes
      for (const event of events ?? []) bytes += event.row.content.length + event.envelope.length
      for (const message of to_device ?? []) bytes += message.content.length
      count++
    }
    return queue.splice(0, count)
  }

  async function pump(): Promise<void> {
    try {
      while (queue.length > 0) {
        // What waits for a connection stays in the queue, where it can be told that it waits in vain.
        await connect()
        // Two turns of the event loop, so that what has arrived by now shares the batch. With ten senders at a time that
        // saves a quarter of the commits, 28 % of Postgres's CPU time and 15 % of ours; a lone sender notices nothing.
        await turn()
        await turn()
        if (queue.length > 0) await flush(nextBatch())
      }
    } catch (error) {
      if (closed) for (const { reject } of queue.splice(0)) reject(unavailable())
      else die(error as Error)
    } finally {
      pumping = undefined
    }
  }

  return {
    commit(writes) {
      const now = clock.now()
      if (closed || fatal || queue.length >= limits.queuedWrites) return Promise.reject(unavailable())
      if (awaySince !== undefined && now - awaySince > outageGraceMs) return Promise.reject(unavailable())
      return new Promise((resolve, reject) => {
        queue.push({ writes, queuedTs: now, resolve, reject })
        // It works for all who wait, not for the request that found it idle.
        pumping ??= outsideRequests(pump)
      })
    },
    async close() {
      closed = true
      forgetDepth()
      await pumping
      connection?.release()
      connection = undefined
    },
  }
}

function isConnectionLost(error: unknown): boolean {
  if (!(error instanceof Error) || !('code' in error) || isRefused(error)) return false
  return /^(?:CONNECTION_|CONNECT_TIMEOUT|E[A-Z]+$|57P|08)/.test(String(error.code))
}
