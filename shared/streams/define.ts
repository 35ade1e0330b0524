/** A stream is declared once: writer, reader, sync token, metrics and tests follow from the declaration. */
import * as v from 'valibot'

/** A place between two rows of one stream: N means "everything up to and including row N". */
export const StreamPosition = v.pipe(v.number(), v.safeInteger(), v.minValue(0), v.brand('StreamPosition'))
export type StreamPosition = v.InferOutput<typeof StreamPosition>

export interface StreamDefinition<Name extends string, Row> {
  readonly name: Name
  /** Parses a row that came over the wire. */
  readonly row: v.GenericSchema<unknown, Row>
  /** `postgres`: rows and position are in the database. `memory`: rows live as long as the processes, and positions
   *  are clock-based so that they rise across restarts. */
  readonly kept: 'postgres' | 'memory'
  /** Whom a row wakes: ids of rooms (all who are joined), of users, or both. */
  wakes(row: Row): readonly string[]
  /** Anchor in the specification. */
  readonly spec: string
}

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
