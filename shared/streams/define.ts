/** A stream is declared once: writer, reader, sync token, metrics and tests follow from the declaration. */
import * as v from 'valibot'
import type { ReadSql } from '../storage/sql.ts'

/** A place between two rows of one stream: N means "everything up to and including row N". */
export const StreamPosition = v.pipe(v.number(), v.safeInteger(), v.minValue(0), v.brand('StreamPosition'))
export type StreamPosition = v.InferOutput<typeof StreamPosition>

interface CommonDefinition<Name extends string, Row> {
  readonly name: Name
  /** Parses a row that came over the wire. */
  readonly row: v.GenericSchema<unknown, Row>
  /** Whom a row wakes: ids of rooms (all who are joined), of users, or both. */
  wakes(row: Row): readonly string[]
  /** Anchor in the specification. */
  readonly spec: string
}

/** Rows and position are in the database. */
export interface StoredStreamDefinition<Name extends string, Row> extends CommonDefinition<Name, Row> {
  readonly kept: 'postgres'
  /** What a reader missed: at most `limit` rows at positions in (after, upTo], oldest first. A row whose place a later one
   *  took is left out; what is read together with it holds for the whole range. Throws GapTooOldError where the rows are
   *  not kept any more. */
  missed(sql: ReadSql, range: { readonly after: number; readonly upTo: number }, limit: number): Promise<Row[]>
}

/** Rows live as long as the processes; beside them, Redis holds the last row of each key. Positions are clock-based, so that
 *  they rise across restarts. */
export interface EphemeralStreamDefinition<Name extends string, Row> extends CommonDefinition<Name, Row> {
  readonly kept: 'memory'
  /** Of rows with equal keys the last one alone counts. */
  keyOf(row: Row): string
  /** Rows that say that there is nothing any more: Redis holds none for such a key. Absent where every key keeps its last
   *  row. */
  readonly ended?: { is(row: Row): boolean; of(key: string, position: StreamPosition): Row }
}

export type StreamDefinition<Name extends string, Row> =
  | StoredStreamDefinition<Name, Row>
  | EphemeralStreamDefinition<Name, Row>

export function defineStream<const Name extends string, Row>(
  definition: StoredStreamDefinition<Name, Row>,
): StoredStreamDefinition<Name, Row>
export function defineStream<const Name extends string, Row>(
  definition: EphemeralStreamDefinition<Name, Row>,
): EphemeralStreamDefinition<Name, Row>
export function defineStream<const Name extends string, Row>(
  definition: StreamDefinition<Name, Row>,
): StreamDefinition<Name, Row> {
  return definition
}

/** What is published after a commit: rows at (prev, position], in order. A reader whose own position is not `prev` has
 *  missed something and reads the gap through `shared/storage`. */
export interface StreamUpdate<Row> {
  readonly prev: StreamPosition
  readonly position: StreamPosition
  readonly rows: readonly Row[]
}
