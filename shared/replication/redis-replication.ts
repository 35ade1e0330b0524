/** Replication where roles run apart: streams by way of Redis, with Postgres behind it for what Redis can't tell. */
import type { Clock } from '../clock.ts'
import type { Logger } from '../logging.ts'
import { liveNumber, tallies } from '../metrics/tallies.ts'
import type { RedisConnection } from '../redis/connection.ts'
import type { Keyspace } from '../redis/keys.ts'
import type { ReadSql } from '../storage/sql.ts'
import { storedStreamPositions } from '../storage/stream-gaps.ts'
import { type StreamName, type StreamPositions, streamNames, streams } from '../streams/registry.ts'
import { Followers } from './followers.ts'
import { createFreshness } from './freshness.ts'
import { createGapFiller, DatabaseWentBackError } from './gap-filler.ts'
import { createMainBeat } from './main-beat.ts'
import { type Message, messageStart, parseMessage } from './messages.ts'
import { createRedisPublisher } from './redis-publisher.ts'
import { type RedisView, replicationKeys } from './redis-state.ts'
import type { Publisher, Replication } from './replication.ts'
import { createSharedCache, forgetShared, type SharedCache } from './shared-cache.ts'

/** Mains beat twice a second: with less, the subscription is not to be trusted. */
const silenceMs = 1_200
const watchEveryMs = 500
/** Then it is made anew, whatever its connection says. */
const deafMs = 4_000
const retryMs = 500
/** How often a row that was known already makes this process look whether the database went back. */
const suspicionMs = 5_000

export interface RedisReplicationOptions {
  readonly redis: RedisConnection
  readonly keys: Keyspace
  readonly sql: ReadSql
  readonly clock: Clock
  readonly log: Pick<Logger, 'warn' | 'info'>
  /** Nothing that this process remembers can be trusted any more: the database went back, or too much was missed. Left out,
   *  the process ends with the error. */
  readonly onFatal?: (error: Error) => void
}

export interface RedisReader extends Replication {
  fresh(): Promise<void>
  reach(positions: Partial<StreamPositions>): Promise<boolean> | undefined
  readonly cache: SharedCache
  /** What Redis said last, where every main vouched for it. */
  view(): RedisView | undefined
  close(): Promise<void>
}

export interface RedisWriter extends RedisReader, Required<Publisher> {
  /** Called whenever Redis is back, and once at the start: what is kept there may be gone. Returns what ends that. */
  onUp(listener: () => void): () => void
}

/** A process that reads; its positions are those of the database now. Rejects where that can't be asked. */
export async function createRedisReplication(
  options: RedisReplicationOptions & { readonly writer?: undefined },
): Promise<RedisReader>
/** A main: `mainId` is its name in table `mains`. Its positions hold back acknowledgements until its first beat. */
export async function createRedisReplication(
  options: RedisReplicationOptions & { readonly writer: { readonly mainId: string } },
): Promise<RedisWriter>
export async function createRedisReplication(
  options: RedisReplicationOptions & { readonly writer?: { readonly mainId: string } | undefined },
): Promise<RedisReader | RedisWriter> {
  const { redis, sql, clock, log, writer, onFatal = end } = options
  const keys = replicationKeys(options.keys)
  const { positions: stored } = await storedStreamPositions(sql)
  const start = Object.fromEntries(
    streamNames.map((name) => [name, streams[name].kept === 'postgres' ? stored[name] : 0]),
  )
  const followers = new Followers(start as Partial<StreamPositions>, { gap: (stream) => soon(stream), broken: onFatal })
  const gaps = createGapFiller({
    redis,
    keys,
    sql,
    followers,
    onFatal,
    redisAnswers: () => freshness.answers(),
    arriving: () => subscribed,
  })
  const freshness = createFreshness({ redis, keys, followers, gaps, clock })

  let closed = false
  const retries = new Map<StreamName, () => void>()
  /** Fills a gap in the background: it waits a little for what is under way first. */
  function soon(stream: StreamName): void {
    if (closed || retries.has(stream)) return
    gaps.fill(stream, followers.of(stream).heardOf)?.catch((error: unknown) => {
      log.warn({ err: error, stream }, 'a gap in a stream could not be filled; it is tried again')
      retries.set(
        stream,
        clock.after(retryMs, () => {
          retries.delete(stream)
          if (followers.of(stream).gap()) soon(stream)
        }),
      )
    })
  }

  let heardAt = performance.now()
  let suspectedAt = Number.NEGATIVE_INFINITY
  /** Rows that are known already may be a database's that was restored and goes on from before: it is asked. */
  function suspect(): void {
    if (performance.now() - suspectedAt < suspicionMs) return
    suspectedAt = performance.now()
    gaps.stored().catch((error: unknown) => log.warn({ err: error }, 'positions could not be read'))
  }

  const ownStart = writer && messageStart(writer.mainId)
  function onMessage(text: string): void {
    heardAt = performance.now()
    if (ownStart && text.startsWith(ownStart)) return
    let message: Message
    try {
      message = parseMessage(text)
    } catch (error) {
      // Whatever it was about, the positions tell that it is missing.
      log.warn({ err: error }, 'a message of the streams could not be read')
      return
    }
    switch (message.kind) {
      case 'updates':
        for (const update of message.updates) {
          const offered = followers.offer(update)
          if (offered === 'known') suspect()
          tallies.streams[update.stream].received += update.rows.length
        }
        tallies.lag.note(Math.max(0, lagOf(message.ts)))
        return
      case 'beat':
        for (const name of streamNames) followers.hear(name, message.positions[name] ?? followers.positions[name])
        return
      case 'restored':
        for (const name of streamNames) {
          const at = message.positions[name]
          if (streams[name].kept !== 'postgres' || at === undefined || at >= followers.positions[name]) continue
          onFatal(new DatabaseWentBackError(name, followers.positions[name], at))
        }
    }
  }

  /** Redis's clock less ours, as of its last answer. */
  let clockAhead = 0
  function lagOf(sentTs: number): number {
    const view = freshness.view()
    if (view) clockAhead = view.time - freshness.viewedAt()
    return performance.now() + clockAhead - sentTs
  }

  let unsubscribe = () => {}
  let subscribed = false
  function subscribe(): void {
    unsubscribe()
    unsubscribe = redis.subscribe(keys.channel, {
      message: onMessage,
      // Whatever was missed before is asked for at once.
      up() {
        subscribed = true
        look()
      },
      down() {
        subscribed = false
      },
    })
  }
  function look(): void {
    freshness.fresh().catch((error: unknown) => log.warn({ err: error }, 'positions could not be read'))
  }
  /** A subscription may be dead without knowing, and a main may have no connection to Redis: then positions are asked for. */
  let cancelWatch = () => {}
  let resubscribedAt = performance.now()
  function watch(): void {
    const now = performance.now()
    if (now - heardAt > silenceMs) look()
    if (now - heardAt > deafMs && now - resubscribedAt > deafMs && freshness.view()) {
      resubscribedAt = now
      subscribe()
    }
    cancelWatch = clock.after(watchEveryMs, watch)
  }

  async function closeReader(): Promise<void> {
    closed = true
    cancelWatch()
    unsubscribe()
    forgetNumbers()
    for (const cancel of retries.values()) cancel()
    freshness.close()
  }
  const forgetNumbers = liveNumber(
    'ganglion_replication_rows_missing',
    'Positions of all streams together that this process has heard of and not yet read',
    () => streamNames.reduce((sum, name) => sum + missingOf(name), 0),
  )
  function missingOf(name: StreamName): number {
    // Positions of the others are times.
    return streams[name].kept === 'postgres' ? followers.of(name).heardOf - followers.positions[name] : 0
  }

  /** Streams kept in Redis alone can't be behind what a client has seen. */
  function reach(wanted: Partial<StreamPositions>): Promise<boolean> | undefined {
    const ahead = streamNames.filter(
      (name) => streams[name].kept === 'postgres' && (wanted[name] ?? 0) > followers.positions[name],
    )
    return ahead.length === 0 ? undefined : reachStored(ahead, wanted)
  }
  async function reachStored(ahead: readonly StreamName[], wanted: Partial<StreamPositions>): Promise<boolean> {
    const now = await gaps.stored()
    await Promise.all(ahead.map((name) => gaps.fill(name, Math.min(wanted[name] ?? 0, now[name] ?? 0))))
    return ahead.every((name) => followers.positions[name] >= (wanted[name] ?? 0))
  }

  const reader: RedisReader = {
    positions: () => followers.positions,
    subscribe: followers.subscribe,
    fresh: freshness.fresh,
    reach,
    view: freshness.view,
    cache: createSharedCache({ redis, keys: options.keys, view: freshness.view }),
    close: closeReader,
  }
  subscribe()
  cancelWatch = clock.after(watchEveryMs, watch)
  if (!writer) return reader

  const upListeners = new Set<() => void>()
  const beat = createMainBeat({
    redis,
    keys,
    sql,
    gaps,
    mainId: writer.mainId,
    clock,
    log,
    positions: () => publisher.positions(),
    onPositions(positions) {
      for (const name of streamNames) followers.hear(name, positions[name] ?? followers.positions[name])
    },
    onUp() {
      for (const listener of upListeners) listener()
    },
  })
  const publisher = createRedisPublisher({
    redis,
    keys,
    followers,
    beat,
    mainId: writer.mainId,
    clock,
    forget: (multi, rows) => forgetShared(options.keys, multi, rows),
  })
  return {
    ...reader,
    publish: publisher.publish,
    publishEphemeral: publisher.publishEphemeral,
    acknowledged: publisher.acknowledged,
    onUp(listener) {
      upListeners.add(listener)
      return () => upListeners.delete(listener)
    },
    async close() {
      await publisher.flushed()
      await beat.close()
      await closeReader()
    },
  }
}

/** Ends the process with the reason: it is started again, with a memory that is empty. */
function end(error: Error): void {
  queueMicrotask(() => {
    throw error
  })
}
