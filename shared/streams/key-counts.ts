import * as v from 'valibot'
import { DeviceId, UserId } from '../matrix/ids.ts'
import { missedKeyCounts } from '../storage/device-lists.ts'
import { defineStream, StreamPosition } from './define.ts'

/** How many one-time keys a device has, or which of its fallback keys are unused, changed. What it is now is for readers to
 *  read: few devices are synced here, and all claims come by. */
export const KeyCountRow = v.object({ position: StreamPosition, user_id: UserId, device_id: DeviceId })
export type KeyCountRow = v.InferOutput<typeof KeyCountRow>

export const keyCounts = defineStream({
  name: 'key_counts',
  row: KeyCountRow,
  kept: 'postgres',
  missed: missedKeyCounts,
  wakes: (row) => [row.user_id],
  spec: 'client-server-api/#e2e-extensions-to-sync',
})
