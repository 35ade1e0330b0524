/** Commands on delayed events, MSC4140: they are scheduled, restarted and cancelled where their user is written, whose owner
 *  has the timer, and become events where their room is. */
import * as v from 'valibot'
import { DeviceId, RoomId, UserId } from '../matrix/ids.ts'
import { defineCommand } from './define.ts'
import { Content } from './rooms.ts'

const noReply = v.object({})

export const delayedEventCommands = {
  /** Throws M_LIMIT_EXCEEDED where the user has as many as may be, M_BAD_JSON and M_TOO_LARGE for what can be no event. */
  scheduleDelayedEvent: defineCommand({
    name: 'scheduleDelayedEvent',
    request: v.object({
      room_id: RoomId,
      user_id: UserId,
      device_id: v.optional(DeviceId),
      /** One delayed event however often it is sent. */
      txn_id: v.optional(v.string()),
      type: v.string(),
      state_key: v.optional(v.string()),
      content: Content,
      delay_ms: v.pipe(v.number(), v.safeInteger(), v.minValue(0)),
    }),
    response: v.object({ delay_id: v.string() }),
    shard: (request) => request.user_id,
    repetition: 'recorded',
  }),
  /** Throws M_NOT_FOUND, and M_UNKNOWN with status 409 where something else has become of it already. */
  updateDelayedEvent: defineCommand({
    name: 'updateDelayedEvent',
    request: v.object({ delay_id: v.string(), user_id: UserId, action: v.picklist(['cancel', 'restart']) }),
    response: noReply,
    shard: (request) => request.user_id,
    repetition: 'harmless',
  }),
  /** Sends it now. Throws as sending does; it stays scheduled then. */
  sendDelayedEvent: defineCommand({
    name: 'sendDelayedEvent',
    request: v.object({
      delay_id: v.string(),
      room_id: RoomId,
      /** Only if it was due at this time. What the room refuses is then over, and nothing is thrown. */
      due_ts: v.optional(v.number()),
    }),
    response: noReply,
    shard: (request) => request.room_id,
    // Sent once, it is not scheduled any more.
    repetition: 'harmless',
  }),
} as const
