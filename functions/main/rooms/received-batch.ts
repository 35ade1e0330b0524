/** What is known of the events that come together, and of those that they name: read once for all of them. */
import { authEventKeys } from '../../../shared/core/auth-selection.ts'
import { pduFromStored, type StoredEvent } from '../../../shared/matrix/event-format.ts'
import type { EventId } from '../../../shared/matrix/ids.ts'
import type { Pdu } from '../../../shared/matrix/pdu.ts'
import type { MainSql } from '../../../shared/storage/sql.ts'
import { stateMapKey } from '../persist/state-types.ts'
import { ensureLoaded } from './load-room.ts'
import { impliedCreate } from './receive-checks.ts'
import { outlierFlag, rejectedFlag } from './resolve-room.ts'
import type { Extremity, Room, StateEntry, StateKey } from './room.ts'

export interface KnownEvent extends Extremity {
  readonly flags: number
}

interface NamedPdu {
  readonly pdu: Pdu
  readonly event_nid: number
}

export class ReceivedBatch {
  /** Stored events that those of the batch are or name. */
  readonly known = new Map<EventId, KnownEvent>()
  /** Written by this task, and perhaps not stored yet. */
  readonly fresh = new Map<EventId, NamedPdu & KnownEvent>()
  readonly #sql: MainSql
  readonly #room: Room
  readonly #authPdus = new Map<EventId, NamedPdu>()

  constructor(sql: MainSql, room: Room) {
    this.#sql = sql
    this.#room = room
  }

  /** Everything that the room has written must be stored. */
  async read(events: readonly StoredEvent[]): Promise<void> {
    const own = new Set(events.map(({ pdu }) => pdu.event_id))
    const named = new Set(own)
    const auth = new Set<EventId>()
    for (const { pdu } of events) {
      for (const id of pdu.prev_events) if (!own.has(id)) named.add(id)
      for (const id of pdu.auth_events) if (!own.has(id) && !this.#currentAuth(pdu).has(id)) auth.add(id)
    }
    const rows = this.#sql<KnownEvent[]>`
      select event_nid, event_id, depth, state_root, flags from events
      where event_id = any(${this.#sql.array([...named], 25)}::text[]) and room_nid = ${this.#room.room_nid}`
    const [known] = await Promise.all([rows, this.#loadAuth([...auth])])
    for (const row of known) this.known.set(row.event_id, row)
  }

  /** As a previous event: with the state after it. */
  previous(id: EventId): KnownEvent | undefined {
    const { room } = { room: this.#room }
    const extremity = room.extremities.find((one) => one.event_id === id)
    if (extremity) return { ...extremity, flags: 0 }
    const event = this.fresh.get(id) ?? this.known.get(id)
    // Of an outlier it is known once somebody asked for it.
    return event && (event.flags & outlierFlag) !== 0 && event.state_root === 0 ? undefined : event
  }

  /** Its auth events, with the one that is implied; undefined for the missing ones' place. */
  async authEvents(pdu: Pdu): Promise<{ readonly found: readonly NamedPdu[]; readonly missing: readonly EventId[] }> {
    const current = this.#currentAuth(pdu)
    const implied = impliedCreate(this.#room.rules, this.#room.room_id)
    const ids = implied === undefined ? pdu.auth_events : [...pdu.auth_events, implied]
    const wanted: StateKey[] = []
    for (const id of ids) {
      const key = current.get(id)
      if (key) wanted.push(key)
    }
    const loading = ensureLoaded(this.#sql, this.#room, wanted)
    if (loading) await loading
    const unread = ids.filter((id) => !current.has(id) && !this.fresh.has(id) && !this.#authPdus.has(id))
    if (unread.length > 0) await this.#loadAuth(unread)
    const found: NamedPdu[] = []
    const missing: EventId[] = []
    for (const id of ids) {
      const entry = this.#entry(current.get(id))
      const one =
        this.fresh.get(id) ??
        (entry?.loaded ? { pdu: entry.loaded.pdu, event_nid: entry.event_nid } : this.#authPdus.get(id))
      if (one) found.push(one)
      else missing.push(id)
    }
    return { found, missing }
  }

  #entry(key: StateKey | undefined): StateEntry | undefined {
    return key && this.#room.state.get(stateMapKey(...key))
  }

  /** Nearly every event names what is the current state. */
  #currentAuth(pdu: Pdu): Map<EventId, StateKey> {
    const keys: StateKey[] = [...authEventKeys(this.#room.rules, pdu), ['m.room.create', '']]
    const found = new Map<EventId, StateKey>()
    for (const key of keys) {
      const entry = this.#entry(key)
      if (entry) found.set(entry.event_id, key)
    }
    return found
  }

  async #loadAuth(ids: readonly EventId[]): Promise<void> {
    if (ids.length === 0) return
    const { room_id, room_nid, rules } = this.#room
    const rows = await this.#sql<
      { event_nid: number; event_id: EventId; envelope: string; content: string; flags: number }[]
    >`
      select event_nid, event_id, envelope, content, flags from events
      where event_id = any(${this.#sql.array([...ids], 25)}::text[]) and room_nid = ${room_nid}`
    for (const row of rows) {
      const pdu = pduFromStored(rules, row.event_id, room_id, row.envelope, row.content)
      const { event_nid } = row
      this.#authPdus.set(row.event_id, {
        event_nid,
        pdu: row.flags & rejectedFlag ? { ...pdu, rejected: true } : pdu,
      })
    }
  }
}
