/** One server that is sent to, as the main that owns it knows it: what waits, what is on its way, and when it is tried. */
import type { ServerName } from '../../../../shared/matrix/ids.ts'
import { type DestinationRow, type DueEvent, pdusMax } from './destinations-table.ts'

/** An EDU that matters now or never: it is not stored, and not kept for a server that does not answer. */
export interface PassingEdu {
  /** Told apart by it: one goes to many. */
  readonly id: number
  /** In canonical JSON. */
  readonly text: string
}

const passingMax = 300

export class Destination {
  readonly server_name: ServerName
  /** What is known of it was read from its row. */
  known = false
  /** Being read, prepared, sent or written of. */
  busy = false
  /** Another main's from now on. */
  gone = false
  cursor = 0
  attempts = 0
  /** Not before. */
  retryTs = 0
  /** What was begun, and is sent until it arrives. Without a body it is the table's. */
  transaction: { readonly id: string; readonly upto: number; body?: string | undefined } | undefined
  /** Waiting events, all at positions above `gapUpTo`. */
  events: DueEvent[] = []
  /** Up to here there may be events that only the tables know. */
  gapUpTo: number | undefined
  /** What was taken for a transaction goes up to here. */
  takenUpTo = 0
  hasEdus = false
  /** By what they replace. */
  passing = new Map<string, PassingEdu>()
  cancelTimer: (() => void) | undefined

  constructor(server_name: ServerName) {
    this.server_name = server_name
  }

  get hasWork(): boolean {
    const { transaction, events, gapUpTo, hasEdus, passing } = this
    return transaction !== undefined || events.length > 0 || gapUpTo !== undefined || hasEdus || passing.size > 0
  }

  /** Takes over what its row says. */
  read(row: DestinationRow): void {
    this.known = true
    this.cursor = row.cursor
    this.attempts = row.attempts
    this.retryTs = row.retry_ts ?? 0
    this.hasEdus = row.has_edus
    this.transaction =
      row.transaction_id === null ? undefined : { id: row.transaction_id, upto: row.transaction_upto ?? row.cursor }
    this.takenUpTo = this.transaction?.upto ?? 0
    const had = Math.max(this.cursor, this.takenUpTo)
    this.events = this.events.filter((event) => event.position > had)
    if (this.attempts > 0) this.passing.clear()
  }

  addEvent(event: DueEvent): void {
    // Who comes to own a server reads what waits for it, and hears of the newest events by the stream as well.
    if (event.position <= Math.max(this.gapUpTo ?? 0, this.takenUpTo, this.cursor)) return
    this.events.push(event)
    if (this.attempts > 0 || this.events.length > pdusMax) this.forgetEvents()
  }

  /** The tables know them. */
  forgetEvents(): void {
    const last = this.events.at(-1)
    if (last) this.gapUpTo = last.position
    this.events = []
  }

  mayMiss(upTo: number): void {
    this.gapUpTo = Math.max(this.gapUpTo ?? 0, upTo)
    this.events = this.events.filter((event) => event.position > upTo)
  }

  pass(key: string, edu: PassingEdu): void {
    if (this.attempts > 0) return
    this.passing.delete(key)
    this.passing.set(key, edu)
    if (this.passing.size > passingMax) {
      for (const oldest of this.passing.keys()) {
        this.passing.delete(oldest)
        break
      }
    }
  }
}
