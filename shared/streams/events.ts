import * as v from 'valibot'
import { EventId, RoomId, UserId } from '../matrix/ids.ts'
import { missedEvents } from '../storage/stream-gaps.ts'
import { defineStream, StreamPosition } from './define.ts'

const nid = v.pipe(v.number(), v.safeInteger())

/** `push` bits: 1 notify, 2 highlight. Deviations name a user, or with user_id '' a class of users with equal rulesets. */
export const PushDeviation = v.object({ user_id: v.string(), class_id: v.number(), push: v.number() })
export type PushDeviation = v.InferOutput<typeof PushDeviation>

/** An event in a room's timeline, with all that a sync handler needs to show it: no reader has to ask the database.
 *  Columns of table `events` keep their names; `content` is JSON text, ready to be sent. */
export const EventRow = v.object({
  position: StreamPosition,
  event_nid: nid,
  event_id: EventId,
  room_nid: nid,
  room_id: RoomId,
  type: v.string(),
  state_key: v.optional(v.string()),
  sender: UserId,
  origin_server_ts: v.number(),
  content: v.string(),
  /** The state event that this one replaced. */
  replaces: v.optional(v.object({ event_id: EventId, sender: UserId, content: v.string() })),
  redacts: v.optional(EventId),
  relates_to: v.optional(v.string()),
  rel_type: v.optional(v.string()),
  thread_root: v.optional(v.string()),
  device_id: v.optional(v.string()),
  txn_id: v.optional(v.string()),
  /** Of the delayed event that it was. */
  delay_id: v.optional(v.string()),
  /** On m.room.member only: the target's membership before and now, and the room's counts after it. */
  member: v.optional(
    v.object({
      user_id: UserId,
      membership: v.string(),
      prev_membership: v.optional(v.string()),
      local: v.boolean(),
      joined_members: v.number(),
      invited_members: v.number(),
    }),
  ),
  /** It goes to the other servers that are in the room. */
  outbound: v.optional(v.literal(true)),
  push: v.number(),
  deviations: v.optional(v.array(PushDeviation)),
})
export type EventRow = v.InferOutput<typeof EventRow>

export const events = defineStream({
  name: 'events',
  row: EventRow,
  kept: 'postgres',
  missed: missedEvents,
  wakes: (row) => (row.member?.local ? [row.room_id, row.member.user_id] : [row.room_id]),
  spec: 'client-server-api/#syncing',
})
