/** Replication inside one process: main publishes, the roles beside it hear at once. */
import type { Clock } from '../clock.ts'
import type { StreamPosition, StreamUpdate } from '../streams/define.ts'
import { type RowOf, type StreamName, type StreamPositions, streamNames, streams } from '../streams/registry.ts'
import type { Publisher, Replication } from './replication.ts'

type Listener = (update: StreamUpdate<never>) => void

/** `stored` are the positions read from Postgres at start. */
export function createInProcessReplication(stored: Partial<StreamPositions>, clock: Clock): Replication & Publisher {
  const positions = Object.fromEntries(
    streamNames.map((name) => [name, stored[name] ?? (streams[name].kept === 'memory' ? clock.now() : 0)]),
  ) as { [S in StreamName]: StreamPosition }
  const listeners = new Map<StreamName, Set<Listener>>(streamNames.map((name) => [name, new Set()]))

  function publish<S extends StreamName>(stream: S, update: StreamUpdate<RowOf<S>>): void {
    if (update.prev !== positions[stream]) {
      throw new Error(
        `stream ${stream}: published after ${update.prev}, but the last position was ${positions[stream]}`,
      )
    }
    positions[stream] = update.position
    for (const listener of listeners.get(stream) ?? []) listener(update as StreamUpdate<never>)
  }

  return {
    positions: () => positions,
    subscribe(stream, listener) {
      const set = listeners.get(stream)
      const untyped = listener as Listener
      set?.add(untyped)
      return () => set?.delete(untyped)
    },
    publish,
    publishEphemeral(stream, rows) {
      const prev = positions[stream]
      // Clock-based, so that a token handed out before a restart is never ahead of what comes after it.
      const first = Math.max(prev + 1, clock.now())
      const position = (first + Math.max(rows.length, 1) - 1) as StreamPosition
      const placed = rows.map((row, i) => ({ ...row, position: first + i })) as unknown as RowOf<typeof stream>[]
      publish(stream, { prev, position, rows: placed })
      return position
    },
  }
}
