/** Commands on what is sent from device to device. https://spec.matrix.org/v1.19/client-server-api/#send-to-device-messaging */
import * as v from 'valibot'
import { DeviceId, UserId } from '../matrix/ids.ts'
import { StreamPosition } from '../streams/define.ts'
import { defineCommand } from './define.ts'
import { ClaimableKey } from './keys.ts'
import { Content } from './rooms.ts'

const noReply = v.object({})

export const toDeviceCommands = {
  /** Puts messages into inboxes, all in one commit, once a transaction. Users and devices that are not there get none. Throws
   *  M_TOO_LARGE. */
  sendToDevice: defineCommand({
    name: 'sendToDevice',
    request: v.object({
      user_id: UserId,
      device_id: DeviceId,
      txn_id: v.string(),
      type: v.string(),
      /** `device_id` may be `*`: all devices of the user. */
      messages: v.array(v.object({ user_id: UserId, device_id: v.string(), content: Content })),
    }),
    response: noReply,
    shard: (request) => request.user_id,
    repetition: 'harmless',
  }),
  /** Makes a device that no client runs, with its keys; the user's former one goes. Throws M_INVALID_PARAM where the user has
   *  another device of this name. */
  putDehydratedDevice: defineCommand({
    name: 'putDehydratedDevice',
    request: v.object({
      user_id: UserId,
      device_id: DeviceId,
      device_data: Content,
      display_name: v.optional(v.string()),
      /** JSON text. */
      device_keys: v.string(),
      one_time_keys: v.array(ClaimableKey),
      /** At most one an algorithm. */
      fallback_keys: v.array(ClaimableKey),
    }),
    response: v.object({ device_id: DeviceId }),
    shard: (request) => request.user_id,
    repetition: 'recorded',
  }),
  /** Throws M_NOT_FOUND. */
  deleteDehydratedDevice: defineCommand({
    name: 'deleteDehydratedDevice',
    request: v.object({ user_id: UserId }),
    response: v.object({ device_id: DeviceId }),
    shard: (request) => request.user_id,
    repetition: 'recorded',
  }),
  /** The device has its messages up to this position: they are deleted. */
  acknowledgeToDevice: defineCommand({
    name: 'acknowledgeToDevice',
    request: v.object({ user_id: UserId, device_id: DeviceId, up_to: StreamPosition }),
    response: noReply,
    shard: (request) => request.user_id,
    repetition: 'harmless',
  }),
} as const
