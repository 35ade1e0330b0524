import * as v from 'valibot'
import { RoomId, UserId } from '../matrix/ids.ts'
import { defineStream, StreamPosition } from './define.ts'

/** The whole list of who types in a room, each time it changes. */
export const TypingRow = v.object({ position: StreamPosition, room_id: RoomId, user_ids: v.array(UserId) })
export type TypingRow = v.InferOutput<typeof TypingRow>

export const typing = defineStream({
  name: 'typing',
  row: TypingRow,
  kept: 'memory',
  wakes: (row) => [row.room_id],
  spec: 'client-server-api/#typing-notifications',
})
