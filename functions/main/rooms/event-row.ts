/** What is stored and told of an event beside its texts, as far as it says that itself. */
import * as v from 'valibot'
import { EventId } from '../../../shared/matrix/ids.ts'
import { isJsonObject, type JsonObject } from '../../../shared/matrix/json-value.ts'
import type { Pdu } from '../../../shared/matrix/pdu.ts'
import type { MainSql } from '../../../shared/storage/sql.ts'
import type { EventRow } from '../../../shared/streams/events.ts'
import type { EventWrite, Unplaced } from '../persist/writes.ts'
import { type Room, rememberThread } from './room.ts'

export type MutableRow = { -readonly [K in keyof Unplaced<EventRow>]: Unplaced<EventRow>[K] }

/** The event as readers get it, without what its place in the room adds. */
export function rowOf(
  room: Pick<Room, 'room_nid' | 'room_id'>,
  event: {
    readonly event_nid: number
    readonly pdu: Pdu
    readonly content: string
    readonly relation: Relation | undefined
    readonly thread_root: EventId | undefined
  },
): MutableRow {
  const { event_nid, pdu, content, relation, thread_root } = event
  const row: MutableRow = {
    event_nid,
    event_id: pdu.event_id,
    room_nid: room.room_nid,
    room_id: room.room_id,
    type: pdu.type,
    sender: pdu.sender,
    origin_server_ts: pdu.origin_server_ts,
    content,
    push: 0,
  }
  if (pdu.state_key !== undefined) row.state_key = pdu.state_key
  if (pdu.redacts !== undefined) row.redacts = pdu.redacts
  if (relation) {
    row.relates_to = relation.event_id
    row.rel_type = relation.rel_type
  }
  if (thread_root) row.thread_root = thread_root
  return row
}

export function membershipIn(pdu: Pdu): string {
  const { membership } = pdu.content
  return typeof membership === 'string' ? membership : 'leave'
}

export function profileIn(pdu: Pdu): NonNullable<EventWrite['member_profile']> {
  const { displayname, avatar_url } = pdu.content
  return {
    display_name: typeof displayname === 'string' ? displayname : undefined,
    avatar_url: typeof avatar_url === 'string' ? avatar_url : undefined,
  }
}

export interface Relation {
  readonly event_id: EventId
  readonly rel_type: string
  readonly key?: string
}

/** The longest relation type that is looked at: others are no relation, and need no place in an index. */
const relTypeMax = 255

/** `m.relates_to` where it is a relation of events; a plain reply is none. */
export function relationOf(content: JsonObject): Relation | undefined {
  const relates = content['m.relates_to']
  if (!isJsonObject(relates)) return undefined
  const { event_id, rel_type, key } = relates
  if (!v.is(EventId, event_id) || typeof rel_type !== 'string' || rel_type.length > relTypeMax) return undefined
  return { event_id: event_id as EventId, rel_type, ...(typeof key === 'string' ? { key } : undefined) }
}

/** What relates to an event in a thread belongs to that thread.
 *  https://spec.matrix.org/v1.19/client-server-api/#threaded-read-receipts */
export async function threadRootOf(sql: MainSql, room: Room, relation: Relation): Promise<EventId | undefined> {
  if (relation.rel_type === 'm.thread') return relation.event_id
  const known = room.threads.get(relation.event_id)
  if (known !== undefined) return known || undefined
  const [target] = await sql<{ thread_root: EventId | null }[]>`
    select thread_root from events where event_id = ${relation.event_id} and room_nid = ${room.room_nid}`
  rememberThread(room, relation.event_id, target?.thread_root ?? '')
  return target?.thread_root ?? undefined
}
