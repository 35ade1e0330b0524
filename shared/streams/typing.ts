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
  keyOf: (row) => row.room_id,
  ended: {
    is: (row) => row.user_ids.length === 0,
    of: (key, position) => ({ position, room_id: key as RoomId, user_ids: [] }),
  },
  wakes: (row) => [row.room_id],
  spec: 'client-server-api/#typing-notifications',
})
