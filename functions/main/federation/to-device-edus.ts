/** Messages to devices of other servers' users, as EDUs. https://spec.matrix.org/v1.19/server-server-api/#send-to-device-messaging */
import { randomUUID } from 'node:crypto'
import * as v from 'valibot'
import { ServerName, serverNameOf, type UserId } from '../../../shared/matrix/ids.ts'
import type { JsonObject } from '../../../shared/matrix/json-value.ts'
import type { OutboundEdu } from './outbox.ts'

export interface DeviceMessage {
  readonly user_id: UserId
  /** `*`: all of the user's. */
  readonly device_id: string
  readonly content: JsonObject
}

/** Of one EDU, in characters: other servers refuse what is much larger than an event. */
const eduCharactersMax = 60_000
/** Longer message ids are not taken. */
const messageIdLength = 32

/** In the order of the messages; those of one server share EDUs as far as they are small. */
export function toDeviceEdus(
  from: { readonly sender: UserId; readonly type: string },
  messages: readonly DeviceMessage[],
): OutboundEdu[] {
  const edus: OutboundEdu[] = []
  for (const [server_name, theirs] of Map.groupBy(messages, ({ user_id }) => serverNameOf(user_id))) {
    if (!v.is(ServerName, server_name)) continue
    let open: Record<string, Record<string, JsonObject>> = {}
    let characters = 0
    const close = () => {
      if (characters === 0) return
      const message_id = randomUUID().replaceAll('-', '').slice(0, messageIdLength)
      const content = JSON.stringify({ ...from, message_id, messages: open })
      edus.push({ server_name, edu_type: 'm.direct_to_device', content })
      open = {}
      characters = 0
    }
    for (const { user_id, device_id, content } of theirs) {
      const length = JSON.stringify(content).length + user_id.length + device_id.length
      if (characters + length > eduCharactersMax) close()
      open[user_id] = { ...open[user_id], [device_id]: content }
      characters += length
    }
    close()
  }
  return edus
}
