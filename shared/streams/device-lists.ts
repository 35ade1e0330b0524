import * as v from 'valibot'
import { UserId } from '../matrix/ids.ts'
import { missedDeviceLists } from '../storage/device-lists.ts'
import { defineStream, StreamPosition } from './define.ts'

/** A user's device keys or cross-signing keys, or the signatures on them, changed. With `viewer`, in what that user alone
 *  may see. */
export const DeviceListRow = v.object({ position: StreamPosition, user_id: UserId, viewer: v.optional(UserId) })
export type DeviceListRow = v.InferOutput<typeof DeviceListRow>

export const deviceLists = defineStream({
  name: 'device_lists',
  row: DeviceListRow,
  kept: 'postgres',
  missed: missedDeviceLists,
  // Who shares a room with the user is for the reader to find: it knows the rooms of those who wait.
  wakes: (row) => [row.viewer ?? row.user_id],
  spec: 'client-server-api/#tracking-the-device-list-for-a-user',
})
