/** Publishes what was committed: to the listeners of this process at once, and with one transaction a batch to Redis: the
 *  message, the positions, the logs, the rows of ephemeral streams, and what shared caches have to forget. */
import type { Clock } from '../clock.ts'
import { tallies } from '../metrics/tallies.ts'
import type { RedisConnection } from '../redis/connection.ts'
import type { StreamPosition, StreamUpdate } from '../streams/define.ts'
import type { EventRow } from '../streams/events.ts'
import type { InvalidationRow } from '../streams/invalidations.ts'
import { type RowOf, type StreamName, type StreamPositions, streamNames, streams } from '../streams/registry.ts'
import { type EphemeralName, type EphemeralRow, hasEnded, keyOf, rowText } from './ephemeral-rows.ts'
import type { Followers } from './followers.ts'
import type { MainBeat } from './main-beat.ts'
import { type AnyUpdate, type EncodedUpdate, encodeUpdate, updateMessages } from './messages.ts'
import type { ReplicationKeys } from './redis-state.ts'
import type { Publisher } from './replication.ts'

/** A stream's log keeps this many updates, or fewer where they are large. */
const logEntriesMax = 2_000
const logCharactersMax = 16 * 1024 * 1024
/** Trimming each time would cost one more command a stream. */
const trimEvery = 64

export type Multi = ReturnType<RedisConnection['client']['multi']>

export interface PublisherDeps {
  readonly redis: RedisConnection
  readonly keys: ReplicationKeys
  readonly followers: Followers
  readonly beat: MainBeat
  readonly mainId: string
  readonly clock: Clock
  /** Adds what makes shared caches forget. */
  readonly forget: (multi: Multi, batch: Pick<Batch, 'invalidations' | 'events'>) => void
}

export interface RedisPublisher extends Required<Publisher> {
  /** Everything that this process has committed or heard of. */
  positions(): StreamPositions
  /** Resolves when what was published is in Redis, or Redis is given up on. */
  flushed(): Promise<void>
}

interface Batch {
  readonly updates: EncodedUpdate[]
  readonly rows: { readonly stream: EphemeralName; readonly rows: readonly EphemeralRow[] }[]
  readonly invalidations: InvalidationRow[]
  readonly events: EventRow[]
}

export function createRedisPublisher(deps: PublisherDeps): RedisPublisher {
  const { redis, keys, followers, beat, clock } = deps
  const committed = Object.fromEntries(streamNames.map((name) => [name, 0])) as Record<StreamName, StreamPosition>
  const logs = new Map(streamNames.map((name) => [name, { entries: 0, characters: 0, untrimmed: 0 }]))
  let batch: Batch | undefined
  let flushing: Promise<void> | undefined

  function publish<S extends StreamName>(stream: S, update: StreamUpdate<RowOf<S>>): void {
    committed[stream] = Math.max(committed[stream], update.position) as StreamPosition
    tallies.streams[stream].published += update.rows.length
    followers.offer({ stream, ...update } as unknown as AnyUpdate)
    // While Redis is away its positions are held back with the acknowledgements; readers then find the rows in Postgres.
    if (!beat.up()) return
    if (!batch) {
      batch = { updates: [], rows: [], invalidations: [], events: [] }
      queueMicrotask(flush)
    }
    batch.updates.push(...encodeUpdate(stream, update))
    if (stream === 'invalidations') batch.invalidations.push(...(update.rows as unknown as readonly InvalidationRow[]))
    if (stream === 'events') batch.events.push(...(update.rows as unknown as readonly EventRow[]))
    if (stream === 'typing' || stream === 'presence') {
      batch.rows.push({ stream, rows: update.rows as unknown as readonly EphemeralRow[] })
    }
  }

  /** All that was published in one turn goes together. */
  function flush(): void {
    const sending = batch
    if (!sending) return
    batch = undefined
    const sentAt = performance.now()
    const sent = send(sending).then(
      () => tallies.redisRoundTrip.note(performance.now() - sentAt),
      (error: unknown) => {
        beat.lost(error)
        return beat.heldBack()
      },
    )
    // What is acknowledged later waits for what was published earlier, whatever order the answers come in.
    const before = flushing
    const mine: Promise<void> = (before ? Promise.all([before, sent]) : sent).then(() => {
      if (flushing === mine) flushing = undefined
    })
    flushing = mine
  }

  function send({ updates, rows, invalidations, events }: Batch): Promise<unknown> {
    const multi = redis.client.multi()
    deps.forget(multi, { invalidations, events })
    for (const { stream, position, text } of updates) {
      multi.zadd(keys.log(stream), { score: position, member: text })
      trim(multi, stream, text.length)
    }
    for (const { stream, rows: placed } of rows) keepRows(multi, stream, placed)
    const ends = new Map(updates.map(({ stream, position }) => [stream, position]))
    for (const [member, score] of ends) multi.zadd(keys.positions, { gt: true }, { score, member })
    for (const message of updateMessages(deps.mainId, beat.redisTime(), updates)) multi.publish(keys.channel, message)
    return multi.exec()
  }

  function keepRows(multi: Multi, stream: EphemeralName, rows: readonly EphemeralRow[]): void {
    for (const row of rows) {
      const key = keyOf(stream, row)
      if (hasEnded(stream, row)) multi.hdel(keys.rows(stream), key).zrem(keys.latest(stream), key)
      else {
        multi.hset(keys.rows(stream), { [key]: rowText(row) })
        multi.zadd(keys.latest(stream), { score: row.position, member: key })
      }
    }
  }

  function trim(multi: Multi, stream: StreamName, characters: number): void {
    const log = logs.get(stream)
    if (!log) return
    log.entries++
    log.characters += characters
    log.untrimmed += characters
    if (log.entries % trimEvery !== 0 && log.untrimmed < logCharactersMax / 16) return
    log.untrimmed = 0
    const average = log.characters / log.entries
    const kept = Math.max(16, Math.min(logEntriesMax, Math.floor(logCharactersMax / average)))
    multi.zremrangebyrank(keys.log(stream), 0, -(kept + 1))
    // Lets the average follow what is written now.
    if (log.entries > logEntriesMax) {
      log.characters = average * trimEvery
      log.entries = trimEvery
    }
  }

  return {
    publish,
    publishEphemeral(stream, rows) {
      if (streams[stream].kept !== 'memory') throw new Error(`stream ${stream} is kept in the database`)
      const prev = Math.max(followers.of(stream).heardOf, committed[stream]) as StreamPosition
      // Clock-based, so that a token handed out before a restart is never ahead of what comes after it.
      const first = Math.max(prev + 1, clock.now())
      const position = (first + Math.max(rows.length, 1) - 1) as StreamPosition
      const placed = rows.map((row, i) => ({ ...row, position: first + i })) as unknown as RowOf<typeof stream>[]
      publish(stream, { prev, position, rows: placed })
      return position
    },
    acknowledged() {
      flush()
      return flushing ?? beat.heldBack()
    },
    async flushed() {
      flush()
      await flushing
    },
    positions() {
      const here = { ...committed }
      for (const name of streamNames) here[name] = Math.max(here[name], followers.of(name).heardOf) as StreamPosition
      return here
    },
  }
}
