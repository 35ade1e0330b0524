import * as v from 'valibot'
import { DeviceId, UserId } from '../matrix/ids.ts'
import { missedToDevice } from '../storage/stream-gaps.ts'
import { defineStream, StreamPosition } from './define.ts'

/** A message came into a device's inbox. What it says is read from there: it is for that device alone, once. */
export const ToDeviceRow = v.object({ position: StreamPosition, user_id: UserId, device_id: DeviceId })
export type ToDeviceRow = v.InferOutput<typeof ToDeviceRow>

export const toDevice = defineStream({
  name: 'to_device',
  row: ToDeviceRow,
  kept: 'postgres',
  missed: missedToDevice,
  wakes: (row) => [row.user_id],
  spec: 'client-server-api/#send-to-device-messaging',
})
