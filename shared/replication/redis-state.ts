/** The part of Redis that replication reads: positions, beats, logs, the rows of ephemeral streams. All of it in one place,
 *  with its schema, so that whoever writes it and whoever reads it agree. */
import * as v from 'valibot'
import type { RedisConnection } from '../redis/connection.ts'
import type { Keyspace } from '../redis/keys.ts'
import { StreamPosition } from '../streams/define.ts'
import { type StreamName, type StreamPositions, streamNames } from '../streams/registry.ts'
import { type AnyUpdate, parseLogEntry } from './messages.ts'

/** A beat older than this tells nothing any more, nor do the positions with it. */
export const beatFreshMs = 2_000
/** Beats are stamped with Redis's time as their main knows it, a little early; one from the future is no beat. */
const beatAheadMs = 500

export function replicationKeys(keys: Keyspace) {
  return {
    /** Sorted set: stream → position; scores only rise. */
    positions: keys.key('positions'),
    /** Sorted set: main → Redis's time in ms. */
    beats: keys.key('beats'),
    /** The name under which shared caches are valid now. */
    epoch: keys.key('epoch'),
    /** Sorted set: JSON of an update → its position. */
    log: (stream: StreamName) => keys.key('log', stream),
    /** Of an ephemeral stream, hash: key → JSON of its last row without the position. */
    rows: (stream: StreamName) => keys.key('rows', stream),
    /** Of an ephemeral stream, sorted set: key → position of its last row. */
    latest: (stream: StreamName) => keys.key('latest', stream),
    /** Of the ephemeral streams: who put the rows there. */
    keeper: keys.key('keeper'),
    channel: keys.channel('streams'),
  }
}
export type ReplicationKeys = ReturnType<typeof replicationKeys>

const score = v.pipe(v.union([v.number(), v.string()]), v.transform(Number), v.finite())
const text = v.union([v.string(), v.pipe(v.number(), v.transform(String))])
const flat = v.array(v.union([v.string(), v.number()]))
const timeReply = v.tuple([score, score])

/** `[member, score, …]`; undefined for what is no such reply. */
export function parseScores(reply: unknown): Map<string, number> {
  const list = v.parse(flat, reply)
  const found = new Map<string, number>()
  for (let i = 0; i + 1 < list.length; i += 2) found.set(v.parse(text, list[i]), v.parse(score, list[i + 1]))
  return found
}

/** Reply of TIME, in milliseconds. */
export function parseTime(reply: unknown): number {
  const [seconds, micros] = v.parse(timeReply, reply)
  return seconds * 1000 + Math.floor(micros / 1000)
}

export function parsePositions(reply: unknown): Partial<StreamPositions> {
  const scores = parseScores(reply)
  const positions: Partial<Record<StreamName, StreamPosition>> = {}
  for (const name of streamNames) {
    const position = scores.get(name)
    if (position !== undefined) positions[name] = v.parse(StreamPosition, position)
  }
  return positions
}

export interface RedisView {
  readonly positions: Partial<StreamPositions>
  readonly beats: ReadonlyMap<string, number>
  /** Redis's clock, in ms. */
  readonly time: number
  /** Undefined where nobody has set one since Redis was emptied: then no cache is valid. */
  readonly epoch: string | undefined
}

const epochReply = v.nullable(text)

/** Gives what reads the view, in one round trip. Positions are read first, so that a beat that is fresh vouches for what was
 *  before it. */
export function viewReader({ client }: RedisConnection, keys: ReplicationKeys): () => Promise<RedisView> {
  // Nearly every request asks, and what the SDK makes for each pipeline costs more than the commands: it is made once.
  const pipeline = client
    .pipeline()
    .zrange(keys.positions, 0, -1, { withScores: true })
    .zrange(keys.beats, 0, -1, { withScores: true })
    .time()
    .get(keys.epoch)
  return async () => {
    const reply: unknown[] = await pipeline.exec()
    return {
      positions: parsePositions(reply[0]),
      beats: parseScores(reply[1]),
      time: parseTime(reply[2]),
      epoch: v.parse(epochReply, reply[3]) ?? undefined,
    }
  }
}

/** In place of a time: this main has ended in good order, and nothing of it is to come. */
export const farewell = 9e15

export function isFreshBeat(beat: number, time: number): boolean {
  return time - beat <= beatFreshMs && beat - time <= beatAheadMs
}

/** Whether the positions hold everything that was acknowledged: every main vouches for them, and none is missing. */
export function isTrustworthy({ beats, time, positions }: RedisView): boolean {
  let fresh = 0
  for (const beat of beats.values()) {
    if (isFreshBeat(beat, time)) fresh++
    else if (beat !== farewell) return false
  }
  if (fresh === 0) return false
  for (const name of streamNames) if (positions[name] === undefined) return false
  return true
}

const entries = v.array(v.string())
const logPage = 32

/** Updates of the stream's log that end after this position, oldest first; not necessarily all. */
export async function readLog(
  { client }: RedisConnection,
  keys: ReplicationKeys,
  stream: StreamName,
  after: number,
): Promise<AnyUpdate[]> {
  const reply: unknown = await client.zrange(keys.log(stream), `(${after}`, '+inf', {
    byScore: true,
    offset: 0,
    count: logPage,
  })
  return v.parse(entries, reply).flatMap((entry) => parseLogEntry(entry) ?? [])
}
