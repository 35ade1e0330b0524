/** What a reader sees of the streams. Transports: in-process here; Redis beside it when roles run apart. */
import type { StreamPosition, StreamUpdate } from '../streams/define.ts'
import type { RowOf, StreamName, StreamPositions } from '../streams/registry.ts'
import type { SharedCache } from './shared-cache.ts'

export interface Replication {
  /** The newest positions this process knows. Reading them costs nothing. */
  positions(): StreamPositions
  /** Calls `listener` for each update, in order and without gaps; the returned function ends that. */
  subscribe<S extends StreamName>(stream: S, listener: (update: StreamUpdate<RowOf<S>>) => void): () => void
  /** Resolves when this process knows everything that was acknowledged, by whichever main, before the call; undefined if
   *  it does already. Absent in one process, where every update is heard before its acknowledgement. Rejects when neither
   *  Redis nor Postgres can tell. */
  fresh?(): Promise<void> | undefined
  /** Undefined if this process is at these positions; else resolves when it is, with false if the record has not got that
   *  far: they were given out by a database that is no more. Absent in one process. */
  reach?(positions: Partial<StreamPositions>): Promise<boolean> | undefined
  /** What handlers share of what they read. Absent in one process. */
  readonly cache?: SharedCache
}

export interface Publisher {
  /** Called by main after the commit, once an update, in the order of positions. */
  publish<S extends StreamName>(stream: S, update: StreamUpdate<RowOf<S>>): void
  /** For streams kept in memory: publishes rows at the next clock-based position. */
  publishEphemeral<S extends 'typing' | 'presence'>(
    stream: S,
    rows: readonly Omit<RowOf<S>, 'position'>[],
  ): StreamPosition
  /** Resolves when all that was published before the call may be acknowledged: every reader will find it. Undefined if
   *  so already. Absent in one process. Never rejects. */
  acknowledged?(): Promise<void> | undefined
}
