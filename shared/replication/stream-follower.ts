/** Puts the updates of one stream in order, whatever order they come in: by subscription, from this process's own commits,
 *  from catching up. Each row is delivered once. Pure: it asks nobody; where something is missing it says what. */
import type { StreamPosition, StreamUpdate } from '../streams/define.ts'

/** Of updates that came too early; the ones beyond this are read again when the gap before them is filled. */
const earlyMax = 256

export interface Gap {
  /** Everything at positions in (after, upTo] is missing; later updates are here already. */
  readonly after: StreamPosition
  readonly upTo: StreamPosition
}

export type Offered =
  /** The update, and what had waited for it, was delivered. */
  | 'delivered'
  /** Something before it is missing. */
  | 'early'
  /** All of it was known. */
  | 'known'

interface Placed {
  readonly position: StreamPosition
}

export class StreamFollower<Row extends Placed> {
  private current: StreamPosition
  private readonly deliver: (update: StreamUpdate<Row>) => void
  /** Sorted by `prev`; each begins after `current`. */
  private early: StreamUpdate<Row>[] = []
  private newest: StreamPosition
  private delivering = false

  /** `deliver` gets updates whose `prev` is the position before them. */
  constructor(position: StreamPosition, deliver: (update: StreamUpdate<Row>) => void) {
    this.current = position
    this.newest = position
    this.deliver = deliver
  }

  /** Everything up to here was delivered. */
  get position(): StreamPosition {
    return this.current
  }

  /** The newest position that was heard of. */
  get heardOf(): StreamPosition {
    return this.newest
  }

  /** Notes that the stream has got this far. */
  hear(position: StreamPosition): void {
    if (position > this.newest) this.newest = position
  }

  /** What was heard of does not exist: forgets all of it that is not delivered. */
  unhear(): void {
    this.newest = this.current
    this.early = []
  }

  /** What is known to be missing, up to the first thing that is here. */
  gap(): Gap | undefined {
    if (this.newest <= this.current) return undefined
    return { after: this.current, upTo: this.early[0]?.prev ?? this.newest }
  }

  offer(update: StreamUpdate<Row>): Offered {
    this.hear(update.position)
    if (update.position <= this.current) return 'known'
    if (update.prev > this.current) {
      this.keep(update)
      return 'early'
    }
    // A listener that offers again is heard when the rows before are with everybody.
    if (this.delivering) {
      this.keep(update)
      return 'early'
    }
    this.pass(update)
    this.drain()
    return 'delivered'
  }

  private drain(): void {
    for (let next = this.early[0]; next && next.prev <= this.current; next = this.early[0]) {
      this.early.shift()
      if (next.position > this.current) this.pass(next)
    }
  }

  /** Delivers the part of the update that is new. */
  private pass(update: StreamUpdate<Row>): void {
    const prev = this.current
    const rows = update.prev === prev ? update.rows : update.rows.filter((row) => row.position > prev)
    this.current = update.position
    this.delivering = true
    try {
      this.deliver({ prev, position: update.position, rows })
    } finally {
      this.delivering = false
    }
  }

  private keep(update: StreamUpdate<Row>): void {
    let at = this.early.length
    while (at > 0 && this.early[at - 1]!.prev > update.prev) at--
    const before = this.early[at - 1]
    if (before && before.prev === update.prev && before.position >= update.position) return
    this.early.splice(at, 0, update)
    // The farthest are dropped: the gap that is left behind the others is found when they have been delivered.
    if (this.early.length > earlyMax) this.early.pop()
  }
}
