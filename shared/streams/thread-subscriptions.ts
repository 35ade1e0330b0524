import * as v from 'valibot'
import { EventId, RoomId, UserId } from '../matrix/ids.ts'
import { missedThreadSubscriptions } from '../storage/thread-subscriptions.ts'
import { defineStream, StreamPosition } from './define.ts'

/** A user follows a thread, or no longer does. */
export const ThreadSubscriptionRow = v.object({
  position: StreamPosition,
  user_id: UserId,
  room_nid: v.number(),
  room_id: RoomId,
  root_event_id: EventId,
  subscribed: v.boolean(),
  /** The client subscribed by itself, because of an event of the thread. */
  automatic: v.boolean(),
})
export type ThreadSubscriptionRow = v.InferOutput<typeof ThreadSubscriptionRow>

export const threadSubscriptions = defineStream({
  name: 'thread_subscriptions',
  row: ThreadSubscriptionRow,
  kept: 'postgres',
  missed: missedThreadSubscriptions,
  wakes: (row) => [row.user_id],
  spec: 'https://github.com/matrix-org/matrix-spec-proposals/pull/4306',
})
