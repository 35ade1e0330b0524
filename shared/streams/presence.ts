import * as v from 'valibot'
import { UserId } from '../matrix/ids.ts'
import { defineStream, StreamPosition } from './define.ts'

export const PresenceState = v.picklist(['online', 'offline', 'unavailable'])
export type PresenceState = v.InferOutput<typeof PresenceState>

export const PresenceRow = v.object({
  position: StreamPosition,
  user_id: UserId,
  presence: PresenceState,
  status_msg: v.optional(v.string()),
  last_active_ts: v.number(),
  currently_active: v.boolean(),
})
export type PresenceRow = v.InferOutput<typeof PresenceRow>

export const presence = defineStream({
  name: 'presence',
  row: PresenceRow,
  kept: 'memory',
  keyOf: (row) => row.user_id,
  // Who shares a room with the user is for the reader to find: it knows the rooms of those who wait.
  wakes: (row) => [row.user_id],
  spec: 'client-server-api/#presence',
})
