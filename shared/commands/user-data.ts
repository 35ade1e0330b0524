/** Commands on what belongs to one user: receipts, typing, presence, account data, tags, filters, threads they follow. */
import * as v from 'valibot'
import { EventId, RoomId, UserId } from '../matrix/ids.ts'
import { PresenceState } from '../streams/presence.ts'
import { ReceiptType } from '../streams/receipts.ts'
import { defineCommand } from './define.ts'
import { ephemeralShard } from './shards.ts'

const noReply = v.object({})
const thread = { user_id: UserId, room_id: RoomId, root_event_id: EventId }

export const userDataCommands = {
  /** Moves receipts and the fully-read marker forward; what would move back is left as it is. */
  sendReceipts: defineCommand({
    name: 'sendReceipts',
    request: v.object({
      user_id: UserId,
      room_id: RoomId,
      receipts: v.array(v.object({ receipt_type: ReceiptType, event_id: EventId, thread_id: v.string() })),
      fully_read: v.optional(EventId),
    }),
    response: noReply,
    shard: (request) => request.user_id,
    repetition: 'harmless',
  }),
  setTyping: defineCommand({
    name: 'setTyping',
    request: v.object({ user_id: UserId, room_id: RoomId, typing: v.boolean(), timeout_ms: v.number() }),
    response: noReply,
    shard: () => ephemeralShard,
    repetition: 'harmless',
  }),
  setPresence: defineCommand({
    name: 'setPresence',
    request: v.object({
      user_id: UserId,
      presence: PresenceState,
      /** Absent: stays as it is. Empty: taken away. */
      status_msg: v.optional(v.string()),
      /** `sync`: kept up by polling, and lapses without it. `client`: set by the user on purpose. */
      source: v.picklist(['sync', 'client']),
    }),
    response: noReply,
    shard: () => ephemeralShard,
    repetition: 'harmless',
  }),
  /** Of users of other servers, as these say. */
  receivePresence: defineCommand({
    name: 'receivePresence',
    request: v.object({
      updates: v.pipe(
        v.array(
          v.object({
            user_id: UserId,
            presence: PresenceState,
            currently_active: v.boolean(),
            /** In ms before the command. Absent: as it was. */
            last_active_ago: v.optional(v.number()),
            status_msg: v.optional(v.string()),
          }),
        ),
        v.maxLength(1_000),
      ),
    }),
    response: noReply,
    shard: () => ephemeralShard,
    repetition: 'harmless',
  }),
  /** An empty object takes the entry away. */
  setAccountData: defineCommand({
    name: 'setAccountData',
    request: v.object({
      user_id: UserId,
      room_id: v.optional(RoomId),
      type: v.string(),
      /** JSON text of an object. */
      content: v.string(),
    }),
    response: noReply,
    shard: (request) => request.user_id,
    repetition: 'recorded',
  }),
  /** Sets a tag's content (JSON text), or takes the tag away. */
  setTag: defineCommand({
    name: 'setTag',
    request: v.object({ user_id: UserId, room_id: RoomId, tag: v.string(), content: v.optional(v.string()) }),
    response: noReply,
    shard: (request) => request.user_id,
    repetition: 'recorded',
  }),
  createFilter: defineCommand({
    name: 'createFilter',
    request: v.object({ user_id: UserId, filter: v.string() }),
    response: v.object({ filter_id: v.string() }),
    shard: (request) => request.user_id,
    repetition: 'harmless',
  }),
  /** Follows a thread. `cause`: the position of the event in it for which the client does so by itself. */
  subscribeToThread: defineCommand({
    name: 'subscribeToThread',
    request: v.object({ ...thread, cause: v.optional(v.number()) }),
    response: noReply,
    shard: (request) => request.user_id,
    repetition: 'harmless',
  }),
  unsubscribeFromThread: defineCommand({
    name: 'unsubscribeFromThread',
    request: v.object(thread),
    response: noReply,
    shard: (request) => request.user_id,
    repetition: 'harmless',
  }),
} as const
