/** An event as readers hold it: the columns a client can see, with `content` as JSON text that is never parsed on the way. */
import type { EventRow } from '../streams/events.ts'

/** `EventRow` from a stream or from table `events`; rows read from the database know if they were redacted. */
export interface TimelineEvent extends EventRow {
  /** The redaction's client JSON without `room_id` and `unsigned`, for `unsigned.redacted_because`. */
  readonly redacted_because?: string
  /** The room's state after this event; known of rows read from the database. */
  readonly state_root?: number
  /** Whether it has children that could be bundled with it; known of pages of timelines. */
  readonly has_children?: boolean
}
