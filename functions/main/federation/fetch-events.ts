/** Events asked of other servers: what they answer is parsed, checked (format, signatures, hashes) and of the room asked
 *  about, or it is not there. https://spec.matrix.org/v1.19/server-server-api/#retrieving-events */
import * as v from 'valibot'
import type { RoomRules } from '../../../shared/core/room-versions.ts'
import { type CheckedPdu, checkPdus } from '../../../shared/federation/check-pdus.ts'
import type { Federation } from '../../../shared/federation/federation.ts'
import { RemoteError } from '../../../shared/federation/federation-client.ts'
import type { StoredEvent } from '../../../shared/matrix/event-format.ts'
import { EventId, type RoomId, type ServerName } from '../../../shared/matrix/ids.ts'
import type { JsonObject, JsonValue } from '../../../shared/matrix/json-value.ts'

export interface FetchedRoom {
  readonly room_id: RoomId
  readonly rules: RoomRules
}

export interface StateIds {
  readonly pdu_ids: readonly EventId[]
  readonly auth_chain_ids: readonly EventId[]
}

/** All throw RemoteError where the server gives no answer, or one that is not what it should be. */
export interface EventFetcher {
  /** Events between what is here and `latest`, oldest first. */
  missing(server: ServerName, room: FetchedRoom, question: MissingEventsQuestion): Promise<StoredEvent[]>
  /** The events and those before them, newest first. */
  backfill(server: ServerName, room: FetchedRoom, question: BackfillQuestion): Promise<StoredEvent[]>
  /** The state before the event, and its auth chain. */
  stateIds(server: ServerName, room: FetchedRoom, event_id: EventId): Promise<StateIds>
  /** The same with the events themselves, those that are sound. */
  state(
    server: ServerName,
    room: FetchedRoom,
    event_id: EventId,
  ): Promise<StateIds & { readonly events: readonly StoredEvent[] }>
  /** The auth chain of an event. */
  authChain(server: ServerName, room: FetchedRoom, event_id: EventId): Promise<StoredEvent[]>
  /** Those that the server gives, in no order. */
  events(server: ServerName, room: FetchedRoom, ids: readonly EventId[]): Promise<StoredEvent[]>
}

export interface BackfillQuestion {
  readonly from: readonly EventId[]
  readonly limit: number
}

export interface MissingEventsQuestion {
  readonly earliest: readonly EventId[]
  readonly latest: readonly EventId[]
  readonly min_depth: number
}

/** Events in one answer to /get_missing_events. */
export const missingEventsMax = 20
/** Events in one answer to /backfill. */
const backfillMax = 100
/** Events of a state or an auth chain. */
const stateMax = 200_000
const answerBytesMax = {
  missing: 4 * 1024 * 1024,
  backfill: 16 * 1024 * 1024,
  ids: 32 * 1024 * 1024,
  state: 256 * 1024 * 1024,
} as const
/** /event requests to one server at a time. */
const sideBySide = 8
const stateTotalMs = 120_000
const backfillTotalMs = 10_000

const Wires = v.array(v.unknown())
const Ids = v.pipe(v.array(EventId), v.maxLength(stateMax))
const missingAnswer = v.object({ events: v.optional(v.pipe(Wires, v.maxLength(missingEventsMax * 5)), []) })
const stateIdsAnswer = v.object({ pdu_ids: Ids, auth_chain_ids: Ids })
const stateAnswer = v.object({
  pdus: v.pipe(Wires, v.maxLength(stateMax)),
  auth_chain: v.pipe(Wires, v.maxLength(stateMax)),
})
const backfillAnswer = v.object({ pdus: v.pipe(Wires, v.maxLength(backfillMax * 5)) })
const authAnswer = v.object({ auth_chain: v.pipe(Wires, v.maxLength(stateMax)) })
const eventAnswer = v.object({ pdus: v.pipe(Wires, v.length(1)) })

export function createEventFetcher({ client, keyRing }: Pick<Federation, 'client' | 'keyRing'>): EventFetcher {
  async function ask<Schema extends v.GenericSchema>(
    server: ServerName,
    request: { readonly uri: string; readonly body?: JsonObject; readonly bytesMax: number; readonly totalMs?: number },
    schema: Schema,
  ): Promise<v.InferOutput<Schema>> {
    const { uri, body, bytesMax, totalMs } = request
    const answer = await client.json(server, {
      method: body ? 'POST' : 'GET',
      uri,
      ...(body ? { body } : {}),
      limits: { bytesMax, ...(totalMs === undefined ? {} : { totalMs, firstByteMs: totalMs }) },
    })
    const parsed = v.safeParse(schema, answer)
    if (!parsed.success) {
      throw new RemoteError('bad_answer', `${server} answered ${uri.slice(0, 80)} with something else`)
    }
    return parsed.output
  }

  async function sound({ room_id, rules }: FetchedRoom, wires: readonly JsonValue[]): Promise<StoredEvent[]> {
    const checked = await checkPdus(keyRing, rules, wires)
    return checked.flatMap((one) => ('event' in one && one.event.pdu.room_id === room_id ? [one.event] : []))
  }

  return {
    async missing(server, room, { earliest, latest, min_depth }) {
      const { events } = await ask(
        server,
        {
          uri: `/_matrix/federation/v1/get_missing_events/${encodeURIComponent(room.room_id)}`,
          body: { earliest_events: [...earliest], latest_events: [...latest], limit: missingEventsMax, min_depth },
          bytesMax: answerBytesMax.missing,
        },
        missingAnswer,
      )
      return inOrder(await sound(room, events as JsonValue[]))
    },
    async backfill(server, room, { from, limit }) {
      const query = new URLSearchParams(from.map((id) => ['v', id]))
      query.set('limit', String(Math.min(limit, backfillMax)))
      const { pdus } = await ask(
        server,
        {
          uri: `/_matrix/federation/v1/backfill/${encodeURIComponent(room.room_id)}?${query}`,
          bytesMax: answerBytesMax.backfill,
          totalMs: backfillTotalMs,
        },
        backfillAnswer,
      )
      return sound(room, pdus as JsonValue[])
    },
    async stateIds(server, { room_id }, event_id) {
      const uri = `/_matrix/federation/v1/state_ids/${encodeURIComponent(room_id)}?event_id=${encodeURIComponent(event_id)}`
      return ask(server, { uri, bytesMax: answerBytesMax.ids, totalMs: stateTotalMs }, stateIdsAnswer)
    },
    async state(server, room, event_id) {
      const uri = `/_matrix/federation/v1/state/${encodeURIComponent(room.room_id)}?event_id=${encodeURIComponent(event_id)}`
      const answer = await ask(server, { uri, bytesMax: answerBytesMax.state, totalMs: stateTotalMs }, stateAnswer)
      const checked = await checkPdus(keyRing, room.rules, [...answer.pdus, ...answer.auth_chain] as JsonValue[])
      const ids = (part: readonly CheckedPdu[]) =>
        part.flatMap((one) =>
          'event' in one && one.event.pdu.room_id === room.room_id ? [one.event.pdu.event_id] : [],
        )
      return {
        pdu_ids: ids(checked.slice(0, answer.pdus.length)),
        auth_chain_ids: ids(checked.slice(answer.pdus.length)),
        events: checked.flatMap((one) => ('event' in one && one.event.pdu.room_id === room.room_id ? [one.event] : [])),
      }
    },
    async authChain(server, room, event_id) {
      const uri = `/_matrix/federation/v1/event_auth/${encodeURIComponent(room.room_id)}/${encodeURIComponent(event_id)}`
      const { auth_chain } = await ask(server, { uri, bytesMax: answerBytesMax.state }, authAnswer)
      return sound(room, auth_chain as JsonValue[])
    },
    async events(server, room, ids) {
      const wires: JsonValue[] = []
      const waiting = [...ids].reverse()
      const asking = async () => {
        for (let id = waiting.pop(); id !== undefined; id = waiting.pop()) {
          const uri = `/_matrix/federation/v1/event/${encodeURIComponent(id)}`
          try {
            const { pdus } = await ask(server, { uri, bytesMax: answerBytesMax.missing }, eventAnswer)
            wires.push(...(pdus as JsonValue[]))
          } catch (error) {
            if (!(error instanceof RemoteError)) throw error
            // One that it will not give says nothing of the others; a server that is away does.
            if (error.reason === 'unreachable' || error.reason === 'denied') waiting.length = 0
          }
        }
      }
      await Promise.all(Array.from({ length: Math.min(sideBySide, waiting.length) }, asking))
      const wanted = new Set(ids)
      return (await sound(room, wires)).filter((event) => wanted.has(event.pdu.event_id))
    },
  }
}

/** Previous events before those that follow them. */
export function inOrder(events: readonly StoredEvent[]): StoredEvent[] {
  return [...events].sort((a, b) => a.pdu.depth - b.pdu.depth)
}
