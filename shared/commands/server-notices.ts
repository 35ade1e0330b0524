/** Commands on messages of the server itself to its users.
 *  https://spec.matrix.org/v1.19/client-server-api/#server-notices */
import * as v from 'valibot'
import { EventId, UserId } from '../matrix/ids.ts'
import { defineCommand } from './define.ts'
import { Content } from './rooms.ts'

export const serverNoticeCommands = {
  /** Sends it in the user's room of notices, which is made, or the user invited to, where need be. Throws M_NOT_FOUND for
   *  who has no account here. */
  sendServerNotice: defineCommand({
    name: 'sendServerNotice',
    request: v.object({
      user_id: UserId,
      type: v.string(),
      state_key: v.optional(v.string()),
      content: Content,
      /** One notice however often it is sent. */
      txn_id: v.string(),
    }),
    response: v.object({ event_id: EventId }),
    shard: (request) => request.user_id,
    // Each of its steps is done once, whoever repeats it.
    repetition: 'harmless',
    deadlineMs: 30_000,
  }),
} as const
