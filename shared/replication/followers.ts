/** All streams as this process follows them: one follower each, who listens, and who waits for a position. */
import type { StreamPosition, StreamUpdate } from '../streams/define.ts'
import { type RowOf, type StreamName, type StreamPositions, streamNames, streams } from '../streams/registry.ts'
import type { AnyUpdate } from './messages.ts'
import type { Replication } from './replication.ts'
import { type Offered, StreamFollower } from './stream-follower.ts'

type AnyRow = RowOf<StreamName>
type Listener = (update: StreamUpdate<never>) => void
type Mutable<T> = { -readonly [K in keyof T]: T[K] }

export class Followers {
  /** Where each stream is; one object for ever, so that reading it costs nothing. */
  readonly positions: StreamPositions
  readonly subscribe: Replication['subscribe']
  private readonly followers: ReadonlyMap<StreamName, StreamFollower<AnyRow>>
  private readonly listeners: ReadonlyMap<StreamName, Set<Listener>>
  /** Of streams whose rows end: keys whose last row says that there is something. */
  private readonly active = new Map<StreamName, Set<string>>()
  private waiting: { stream: StreamName; position: number; resolve: () => void }[] = []
  private readonly onGap: (stream: StreamName) => void
  private readonly onBroken: (error: Error) => void

  /** `onGap` is called when something of the stream turns out to be missing; `onBroken` when a listener failed, which has
   *  missed rows then that nobody will tell it again. */
  constructor(positions: Partial<StreamPositions>, on: { gap(stream: StreamName): void; broken(error: Error): void }) {
    const mutable = Object.fromEntries(
      streamNames.map((name) => [name, positions[name] ?? 0]),
    ) as Mutable<StreamPositions>
    this.positions = mutable
    this.onGap = on.gap
    this.onBroken = on.broken
    this.listeners = new Map(streamNames.map((name) => [name, new Set<Listener>()]))
    this.followers = new Map(
      streamNames.map((name) => [
        name,
        new StreamFollower<AnyRow>(mutable[name], (update) => {
          mutable[name] = update.position
          this.deliver(name, update)
        }),
      ]),
    )
    this.subscribe = (stream, listener) => {
      const set = this.listeners.get(stream)
      set?.add(listener as Listener)
      return () => set?.delete(listener as Listener)
    }
  }

  of(stream: StreamName): StreamFollower<AnyRow> {
    const follower = this.followers.get(stream)
    if (!follower) throw new Error(`stream ${stream} is not followed`)
    return follower
  }

  offer(update: AnyUpdate): Offered {
    const offered = this.of(update.stream).offer(update)
    if (offered === 'early') this.onGap(update.stream)
    return offered
  }

  /** The stream has got this far, whatever of it is here. */
  hear(stream: StreamName, position: StreamPosition): void {
    const follower = this.of(stream)
    follower.hear(position)
    if (follower.gap()) this.onGap(stream)
  }

  /** Resolves with true when the stream is there, with false after `timeoutMs`. */
  async reached(stream: StreamName, position: number, timeoutMs: number): Promise<boolean> {
    if (this.positions[stream] >= position) return true
    const { promise, resolve } = Promise.withResolvers<void>()
    const waiter = { stream, position, resolve }
    this.waiting.push(waiter)
    const timer = setTimeout(resolve, timeoutMs)
    await promise
    clearTimeout(timer)
    this.waiting = this.waiting.filter((other) => other !== waiter)
    return this.positions[stream] >= position
  }

  /** Keys whose last row has not ended. */
  activeKeys(stream: StreamName): ReadonlySet<string> {
    return this.active.get(stream) ?? noKeys
  }

  private deliver(stream: StreamName, update: StreamUpdate<AnyRow>): void {
    this.trackEnds(stream, update.rows)
    for (const listener of this.listeners.get(stream) ?? []) {
      try {
        listener(update as StreamUpdate<never>)
      } catch (error) {
        this.onBroken(error instanceof Error ? error : new Error(String(error)))
      }
    }
    if (this.waiting.length === 0) return
    for (const waiter of this.waiting) {
      if (waiter.stream === stream && waiter.position <= update.position) waiter.resolve()
    }
  }

  private trackEnds(stream: StreamName, rows: readonly AnyRow[]): void {
    const definition = streams[stream]
    if (definition.kept !== 'memory' || !definition.ended) return
    const keys = this.active.get(stream) ?? new Set()
    this.active.set(stream, keys)
    const { keyOf, ended } = definition as unknown as {
      keyOf(row: AnyRow): string
      ended: { is(row: AnyRow): boolean }
    }
    for (const row of rows) {
      if (ended.is(row)) keys.delete(keyOf(row))
      else keys.add(keyOf(row))
    }
  }
}

const noKeys: ReadonlySet<string> = new Set()
