/** https://spec.matrix.org/v1.19/server-server-api/#send-to-device-messaging */
import * as v from 'valibot'
import { type ServerName, serverNameOf, UserId } from '../../../../shared/matrix/ids.ts'
import { isJsonObject, type JsonObject } from '../../../../shared/matrix/json-value.ts'
import { limits } from '../../../../shared/matrix/limits.ts'
import { type MainSql, pgText } from '../../../../shared/storage/sql.ts'
import { createKnownDevices } from '../../commands/to-device/known-devices.ts'
import { isRepeatedKey } from '../../persist/committer.ts'
import type { Committer, ToDeviceWrite } from '../../persist/writes.ts'
import { eduHandler } from './index.ts'

/** What one EDU ends in, `*` counted by devices. */
const messagesMax = 10_000

export function directToDeviceEdu(deps: {
  readonly sql: MainSql
  readonly committer: Committer
  readonly own: ServerName
}) {
  const { sql, committer, own } = deps
  const knownDevices = createKnownDevices(sql, messagesMax)
  return eduHandler({
    edu_type: 'm.direct_to_device',
    content: v.object({
      sender: UserId,
      type: v.pipe(v.string(), v.minLength(1), v.maxBytes(limits.fieldBytes)),
      message_id: v.pipe(v.string(), v.minLength(1), v.maxBytes(limits.fieldBytes)),
      messages: v.custom<JsonObject>(isJsonObject),
    }),
    async handle(origin, { sender, type, message_id, messages }) {
      if (serverNameOf(sender) !== origin) return
      const wanted = [...messagesOf(messages, own)].slice(0, messagesMax)
      if (wanted.length === 0) return
      const devices = await knownDevices(wanted)
      const to_device: ToDeviceWrite[] = []
      for (const { user_id, device_id, content } of wanted) {
        for (const device of devices(user_id, device_id)) {
          if (to_device.length === messagesMax) break
          to_device.push({ user_id, device_id: device, sender, type, content: JSON.stringify(content) })
        }
      }
      try {
        const idempotency = {
          scope: `m.direct_to_device ${origin}`,
          key: pgText(`${sender} ${message_id}`),
          response: '{}',
        }
        await committer.commit({ to_device, idempotency })
      } catch (error) {
        // It came before.
        if (!isRepeatedKey(error)) throw error
      }
    },
  })
}

/** What is no message, or for nobody of this server, is left out. */
function* messagesOf(messages: JsonObject, own: ServerName) {
  for (const [user, devices] of Object.entries(messages)) {
    const user_id = v.safeParse(UserId, user)
    if (!user_id.success || serverNameOf(user_id.output) !== own || !isJsonObject(devices)) continue
    for (const [device_id, content] of Object.entries(devices)) {
      if (isJsonObject(content)) yield { user_id: user_id.output, device_id, content }
    }
  }
}
