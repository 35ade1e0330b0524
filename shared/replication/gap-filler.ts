/** Brings a stream to a position: by what is about to arrive, from its log in Redis, from Postgres; an ephemeral stream from
 *  the rows that Redis keeps. Whoever waits for the same stream shares the work. */
import { tallies } from '../metrics/tallies.ts'
import type { RedisConnection } from '../redis/connection.ts'
import type { ReadSql } from '../storage/sql.ts'
import { GapTooOldError, storedStreamPositions } from '../storage/stream-gaps.ts'
import type { StreamPosition } from '../streams/define.ts'
import { type StreamName, type StreamPositions, streamNames, streams } from '../streams/registry.ts'
import { readLatest } from './ephemeral-rows.ts'
import type { Followers } from './followers.ts'
import type { AnyUpdate } from './messages.ts'
import { nextRound } from './next-round.ts'
import { type ReplicationKeys, readLog } from './redis-state.ts'

/** What was published just now is on its way: waiting for it is cheaper than asking. */
const arrivalMs = 30
const rowsPerRead = 500
/** A replica of the database may be this much behind what was published. */
const replicaLagMs = 2_000
const replicaPollMs = 25

export interface GapFillerDeps {
  readonly redis: RedisConnection
  readonly keys: ReplicationKeys
  readonly sql: ReadSql
  readonly followers: Followers
  /** Whether asking Redis is worth while. */
  readonly redisAnswers: () => boolean
  /** Whether messages come by themselves. */
  readonly arriving: () => boolean
  /** Nothing that this process remembers can be trusted any more. */
  readonly onFatal: (error: Error) => void
}

export interface GapFiller {
  /** Undefined if the stream is there. Resolves also when there is no such position: it was never committed, or the database
   *  went back behind it. Rejects when neither Redis nor Postgres answers. */
  fill(stream: StreamName, position: number): Promise<void> | undefined
  /** Where Postgres is now; those who ask together share a query. Undefined for streams that it does not keep. */
  stored(): Promise<Partial<StreamPositions>>
}

/** The database knows less than this process was told of: it was restored from a backup. */
export class DatabaseWentBackError extends Error {
  constructor(stream: string, here: number, stored: number) {
    super(
      `stream ${stream} is at ${stored} in the database, and was at ${here}: it was restored from a backup, and this process begins anew`,
    )
    this.name = 'DatabaseWentBackError'
  }
}

export function createGapFiller(deps: GapFillerDeps): GapFiller {
  const { redis, keys, sql, followers } = deps
  const filling = new Map<StreamName, Promise<void>>()

  const stored = nextRound(async () => {
    const here = { ...followers.positions }
    const found = await storedStreamPositions(sql)
    const positions: Partial<Record<StreamName, StreamPosition>> = {}
    for (const name of streamNames) {
      const at = found.positions[name]
      if (at === undefined || streams[name].kept !== 'postgres') continue
      positions[name] = at
      if (at < here[name] && !found.replica) deps.onFatal(new DatabaseWentBackError(name, here[name], at))
    }
    return { positions, replica: found.replica }
  })

  async function fromLog(stream: StreamName): Promise<boolean> {
    const before = followers.positions[stream]
    for (const update of await readLog(redis, keys, stream, before)) followers.offer(update)
    return followers.positions[stream] > before
  }

  /** Tells whether the database follows another with a delay. */
  async function fromPostgres(stream: StreamName): Promise<boolean> {
    const definition = streams[stream]
    if (definition.kept !== 'postgres') return false
    const { positions, replica } = await stored()
    const after = followers.positions[stream]
    const end = Math.min(positions[stream] ?? 0, followers.of(stream).gap()?.upTo ?? 0)
    if (end <= after) return replica
    const rows = await definition.missed(sql, { after, upTo: end }, rowsPerRead)
    const position = rows.length < rowsPerRead ? end : (rows.at(-1)?.position ?? end)
    followers.offer({ stream, prev: after, position: position as StreamPosition, rows } as unknown as AnyUpdate)
    return replica
  }

  async function fromRows(stream: 'typing' | 'presence'): Promise<void> {
    const after = followers.positions[stream]
    const latest = await readLatest(redis, keys, stream, { after, active: followers.activeKeys(stream) })
    if (latest && latest.position > after) followers.offer({ stream, prev: after, ...latest } as AnyUpdate)
  }

  async function run(stream: StreamName): Promise<void> {
    const follower = followers.of(stream)
    try {
      // Who follows an ephemeral stream from its beginning takes what is there now.
      const anew = follower.position === 0 && streams[stream].kept === 'memory'
      if (!anew && deps.arriving()) await followers.reached(stream, follower.heardOf, arrivalMs)
      const beganMs = performance.now()
      let askLog = !anew && deps.redisAnswers()
      if (follower.gap() && !anew) tallies.streams[stream].caughtUp++
      while (follower.gap()) {
        const before = follower.position
        if (askLog) {
          // Where Redis fails, Postgres is asked; what the log does not hold now it will not hold later.
          askLog = await fromLog(stream).catch(() => false)
          if (askLog) continue
        }
        let replica = false
        // These live in Redis alone: without it nobody knows more than this process.
        if (stream === 'typing' || stream === 'presence') await fromRows(stream).catch(() => undefined)
        else replica = await fromPostgres(stream)
        if (follower.position > before) continue
        if (replica && performance.now() - beganMs < replicaLagMs) {
          await followers.reached(stream, before + 1, replicaPollMs)
        } else follower.unhear()
      }
    } catch (error) {
      if (error instanceof GapTooOldError) deps.onFatal(error)
      throw error
    } finally {
      // In the same turn as the last look at the gap: who hears of more afterwards begins anew.
      filling.delete(stream)
    }
  }

  return {
    async stored() {
      return (await stored()).positions
    },
    fill(stream, position) {
      const follower = followers.of(stream)
      if (follower.position >= position) return undefined
      follower.hear(position as StreamPosition)
      const underway = filling.get(stream)
      if (underway) return underway
      const started = run(stream)
      filling.set(stream, started)
      return started
    },
  }
}
