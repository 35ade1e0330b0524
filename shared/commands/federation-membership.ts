/** Commands by which users of other servers come and go. */
import * as v from 'valibot'
import { EventId, RoomId, ServerName, UserId } from '../matrix/ids.ts'
import { defineCommand } from './define.ts'
import { Content } from './rooms.ts'

/** An event whose format, hash and signatures were checked, in the two texts that are stored. */
export const CheckedEvent = v.object({ event_id: EventId, envelope: v.string(), content: v.string() })

export const federationMembershipCommands = {
  /** A member event as the user's own server may complete, sign and send it. Throws M_FORBIDDEN where the rules would not
   *  let it in, and what restricted rooms say of a join that this server can't let in. Stores nothing. */
  makeMembershipEvent: defineCommand({
    name: 'makeMembershipEvent',
    request: v.object({ room_id: RoomId, user_id: UserId, membership: v.picklist(['join', 'leave', 'knock']) }),
    response: v.object({ room_version: v.string(), event: Content }),
    shard: ({ room_id }) => room_id,
    repetition: 'harmless',
  }),
  /** Takes that event when it comes back. Throws M_FORBIDDEN where it is not let in. */
  receiveMembership: defineCommand({
    name: 'receiveMembership',
    request: v.object({ room_id: RoomId, room_version: v.string(), origin: ServerName, event: CheckedEvent }),
    response: v.object({}),
    shard: ({ room_id }) => room_id,
    repetition: 'harmless',
  }),
  /** An invitation of a user of this server, signed by it, to a room that another server holds. Throws M_NOT_FOUND for nobody
   *  here, and M_INVITE_BLOCKED for who takes none. */
  receiveInvite: defineCommand({
    name: 'receiveInvite',
    request: v.object({
      room_id: RoomId,
      room_version: v.string(),
      origin: ServerName,
      event: CheckedEvent,
      /** Stripped state of the room, as it came. */
      stripped: v.pipe(v.array(v.unknown()), v.maxLength(100)),
    }),
    response: v.object({}),
    shard: ({ room_id }) => room_id,
    repetition: 'harmless',
  }),
  /** An invitation is taken back, or a knock refused, in a room that this server is not in. Others than who invited are not
   *  heard. */
  receiveRetraction: defineCommand({
    name: 'receiveRetraction',
    request: v.object({ room_id: RoomId, room_version: v.string(), origin: ServerName, event: CheckedEvent }),
    response: v.object({}),
    shard: ({ room_id }) => room_id,
    repetition: 'harmless',
  }),
  /** An address that a user of this server invited has turned out to be somebody's. Throws M_FORBIDDEN where the room knows no
   *  such invitation, or who signed is nobody that it asked. */
  inviteByThirdParty: defineCommand({
    name: 'inviteByThirdParty',
    request: v.object({
      room_id: RoomId,
      sender: UserId,
      target: UserId,
      display_name: v.string(),
      /** By the identity server. */
      signed: Content,
    }),
    response: v.object({}),
    shard: ({ room_id }) => room_id,
    repetition: 'harmless',
    // The server of who is invited is asked.
    deadlineMs: 60_000,
  }),
} as const
