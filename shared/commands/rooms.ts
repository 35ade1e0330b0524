/** Commands on rooms: main's room engine runs them, one at a time a room. */
import * as v from 'valibot'
import { DeviceId, EventId, RoomAlias, RoomId, ServerName, UserId } from '../matrix/ids.ts'
import { isJsonObject, type JsonObject } from '../matrix/json-value.ts'
import { defineCommand } from './define.ts'

/** JSON object as parsed from a client's body; canonical-JSON rules are checked by the room engine by room version. It is
 *  passed on as it is: keys such as `constructor` are content like any other. */
export const Content = v.custom<JsonObject>(isJsonObject, 'expected an object')
const sender = { user_id: UserId, device_id: v.optional(DeviceId) }
/** Client transaction: one effect however often it is sent, by user, device and key. */
const transaction = { txn_id: v.optional(v.string()) }
const eventReply = v.object({ event_id: EventId })
const noReply = v.object({})

export const roomCommands = {
  sendEvent: defineCommand({
    name: 'sendEvent',
    request: v.object({
      room_id: RoomId,
      ...sender,
      /** The sender is a guest. */
      guest: v.optional(v.boolean()),
      /** The sender may redact events of their own alone. */
      suspended: v.optional(v.boolean()),
      ...transaction,
      type: v.string(),
      /** Present for state events. */
      state_key: v.optional(v.string()),
      content: Content,
      /** Set for m.room.redaction. */
      redacts: v.optional(EventId),
      /** Origin time a privileged sender asks for (application services). */
      origin_server_ts: v.optional(v.number()),
    }),
    response: eventReply,
    shard: (request) => request.room_id,
    repetition: 'recorded',
  }),
  createRoom: defineCommand({
    name: 'createRoom',
    request: v.object({
      ...sender,
      room_version: v.optional(v.string()),
      visibility: v.optional(v.picklist(['public', 'private'])),
      preset: v.optional(v.picklist(['private_chat', 'public_chat', 'trusted_private_chat'])),
      room_alias_name: v.optional(v.string()),
      name: v.optional(v.string()),
      topic: v.optional(v.string()),
      invite: v.optional(v.array(UserId)),
      is_direct: v.optional(v.boolean()),
      creation_content: v.optional(Content),
      initial_state: v.optional(
        v.array(v.object({ type: v.string(), state_key: v.optional(v.string()), content: Content })),
      ),
      power_level_content_override: v.optional(Content),
    }),
    response: v.object({ room_id: RoomId }),
    // The room has no id yet; one main for all rooms of a user keeps two that are alike apart.
    shard: (request) => request.user_id,
    repetition: 'recorded',
  }),
  /** Any change of membership: rules, restricted joins and third parties are the engine's. */
  changeMembership: defineCommand({
    name: 'changeMembership',
    request: v.object({
      room_id: RoomId,
      ...sender,
      target: UserId,
      action: v.picklist(['join', 'invite', 'leave', 'kick', 'ban', 'unban', 'knock']),
      reason: v.optional(v.string()),
      /** The sender is a guest. */
      guest: v.optional(v.boolean()),
      /** Further content of the member event, such as a client's own keys on join. */
      content: v.optional(Content),
      /** Servers that are said to be in the room, where this one is not. */
      via: v.optional(v.pipe(v.array(ServerName), v.maxLength(50))),
    }),
    response: eventReply,
    shard: (request) => request.room_id,
    repetition: 'recorded',
    // By way of another server, which may be a slow one.
    deadlineMs: 120_000,
  }),
  forgetRoom: defineCommand({
    name: 'forgetRoom',
    request: v.object({ room_id: RoomId, user_id: UserId }),
    response: noReply,
    shard: (request) => request.room_id,
    repetition: 'recorded',
  }),
  upgradeRoom: defineCommand({
    name: 'upgradeRoom',
    request: v.object({
      room_id: RoomId,
      ...sender,
      new_version: v.string(),
      additional_creators: v.optional(v.array(UserId)),
    }),
    response: v.object({ replacement_room: RoomId }),
    shard: (request) => request.room_id,
    repetition: 'recorded',
    deadlineMs: 60_000,
  }),
  createAlias: defineCommand({
    name: 'createAlias',
    request: v.object({ alias: RoomAlias, room_id: RoomId, user_id: UserId }),
    response: noReply,
    shard: (request) => request.room_id,
    repetition: 'recorded',
  }),
  /** Deletes the alias and takes it out of m.room.canonical_alias where the user may. */
  deleteAlias: defineCommand({
    name: 'deleteAlias',
    request: v.object({
      alias: RoomAlias,
      user_id: UserId,
      /** Where the alias points. */
      room_id: RoomId,
    }),
    response: noReply,
    shard: (request) => request.room_id,
    repetition: 'recorded',
  }),
  /** Puts a user's new profile into the member event of one room they are joined to. Main sends it for each of them. */
  updateMemberProfile: defineCommand({
    name: 'updateMemberProfile',
    request: v.object({
      room_id: RoomId,
      user_id: UserId,
      displayname: v.optional(v.string()),
      avatar_url: v.optional(v.string()),
    }),
    response: noReply,
    shard: (request) => request.room_id,
    // A member event that says so already is left as it is.
    repetition: 'harmless',
  }),
  /** A user joined a room. If it replaces one they were in, what they had set for that one goes on in it. */
  carryOverSettings: defineCommand({
    name: 'carryOverSettings',
    request: v.object({ room_id: RoomId, user_id: UserId }),
    response: noReply,
    shard: (request) => request.user_id,
    repetition: 'harmless',
  }),
  setRoomPublished: defineCommand({
    name: 'setRoomPublished',
    request: v.object({ room_id: RoomId, user_id: UserId, published: v.boolean() }),
    response: noReply,
    shard: (request) => request.room_id,
    repetition: 'recorded',
  }),
} as const
