/** Commands that bring a room's history here. */
import * as v from 'valibot'
import { RoomId } from '../matrix/ids.ts'
import { defineCommand } from './define.ts'

export const backfillCommands = {
  /** Fetches history from before what is here from other servers in the room. `placed`: events that have a place in the room's
   *  timeline by that; 0 where nobody had any, where there is none, or where this server is not in the room. */
  backfillRoom: defineCommand({
    name: 'backfillRoom',
    request: v.object({ room_id: RoomId, limit: v.pipe(v.number(), v.safeInteger(), v.minValue(1), v.maxValue(100)) }),
    response: v.object({ placed: v.number() }),
    shard: ({ room_id }) => room_id,
    repetition: 'harmless',
    deadlineMs: 60_000,
  }),
} as const
