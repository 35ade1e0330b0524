/** Events that resolution works on, brought in as it asks for them. The algorithm is written as a generator that yields
 *  the ids it lacks: a caller with all events in memory answers at once, another one asks its database. */
import type { EventId, RoomId } from '../../matrix/ids.ts'
import type { Pdu } from '../../matrix/pdu.ts'
import type { RoomRules } from '../room-versions.ts'

/** Yields ids to be brought in; resumes when they are. */
export type Work<Result> = Generator<readonly EventId[], Result, void>

export class MissingEventError extends Error {
  readonly event_id: EventId
  constructor(event_id: EventId) {
    super(`event ${event_id} is missing`)
    this.name = 'MissingEventError'
    this.event_id = event_id
  }
}

export class EventStore {
  readonly rules: RoomRules
  readonly #events = new Map<EventId, Pdu>()

  constructor(rules: RoomRules) {
    this.rules = rules
  }

  add(id: EventId, pdu: Pdu): void {
    this.#events.set(id, pdu)
  }

  /** An event that was asked for before. */
  get(id: EventId): Pdu {
    const pdu = this.#events.get(id)
    if (!pdu) throw new MissingEventError(id)
    return pdu
  }

  *need(ids: Iterable<EventId>): Work<void> {
    let missing: Set<EventId> | undefined
    for (const id of ids) {
      if (this.#events.has(id)) continue
      missing ??= new Set()
      missing.add(id)
    }
    if (missing) yield [...missing]
  }

  *needAuthEventsOf(ids: Iterable<EventId>): Work<void> {
    const wanted: EventId[] = []
    for (const id of ids) wanted.push(...this.get(id).auth_events)
    yield* this.need(wanted)
  }

  /** What the event rests on. Where the version leaves the create event out of `auth_events`, deployed servers follow the
   *  auth chain to it all the same, which shows where a state set lacks it. */
  authEventIds(pdu: Pdu): readonly EventId[] {
    if (!this.rules.roomIdIsCreateHash || pdu.type === 'm.room.create') return pdu.auth_events
    return [...pdu.auth_events, createEventId(pdu.room_id)]
  }

  /** The first event of that key among the auth events of `pdu`. Where the version leaves the create event out of them,
   *  it is the one that the room id names. */
  authEvent(pdu: Pdu, type: string, state_key: string): Pdu | undefined {
    for (const id of pdu.auth_events) {
      const event = this.get(id)
      if (event.type === type && event.state_key === state_key) return event
    }
    if (type !== 'm.room.create' || pdu.type === 'm.room.create' || !this.rules.roomIdIsCreateHash) return undefined
    return this.get(createEventId(pdu.room_id))
  }

  *needCreateOf(ids: Iterable<EventId>): Work<void> {
    if (!this.rules.roomIdIsCreateHash) return
    for (const id of ids) {
      const pdu = this.get(id)
      if (pdu.type !== 'm.room.create') {
        yield* this.need([createEventId(pdu.room_id)])
        return
      }
    }
  }
}

/** From version 12 on: the create event that a room id stands for. */
function createEventId(room_id: RoomId): EventId {
  return `$${room_id.slice(1)}` as EventId
}
