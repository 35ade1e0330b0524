/** Commands on reports of what should not be. https://spec.matrix.org/v1.19/client-server-api/#reporting-content */
import * as v from 'valibot'
import { EventId, RoomId, UserId } from '../matrix/ids.ts'
import { defineCommand } from './define.ts'

export const reportCommands = {
  /** Keeps a report for the administrators. */
  fileReport: defineCommand({
    name: 'fileReport',
    request: v.object({
      reporter: UserId,
      about: v.variant('kind', [
        v.object({ kind: v.literal('event'), room_id: RoomId, event_id: EventId, user_id: UserId }),
        v.object({ kind: v.literal('room'), room_id: RoomId }),
        v.object({ kind: v.literal('user'), user_id: UserId }),
      ]),
      reason: v.optional(v.string()),
      score: v.optional(v.number()),
    }),
    response: v.object({}),
    shard: (request) => request.reporter,
    repetition: 'recorded',
  }),
} as const
