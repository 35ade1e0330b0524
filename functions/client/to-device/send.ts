/** https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3sendtodeviceeventtypetxnid */
import * as v from 'valibot'
import { Content } from '../../../shared/commands/rooms.ts'
import { largeBodyBytesMax } from '../../../shared/http/body.ts'
import { UserId } from '../../../shared/matrix/ids.ts'
import type { JsonObject } from '../../../shared/matrix/json-value.ts'
import { limits } from '../../../shared/matrix/limits.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { route } from '../deps.ts'

const EventType = v.pipe(v.string(), v.minLength(1), v.maxBytes(limits.fieldBytes))

export const sendToDevice = route({
  method: 'PUT',
  path: '/_matrix/client/v3/sendToDevice/:eventType/:txnId',
  spec: 'client-server-api/#put_matrixclientv3sendtodeviceeventtypetxnid',
  auth: 'guest',
  sticky: 'user',
  params: v.object({ eventType: EventType, txnId: v.string() }),
  body: v.object({ messages: Content }),
  bodyBytesMax: largeBodyBytesMax,
  async handle({ params: { eventType, txnId }, body, user: { user_id, device_id } }, { main }) {
    const messages = [...messagesOf(body.messages)]
    await main.sendToDevice({ user_id, device_id, txn_id: txnId, type: eventType, messages })
    return {}
  },
})

/** Who is no user gets nothing, as one that is unknown; what is no message is an error. */
function* messagesOf(messages: JsonObject) {
  for (const [user, devices] of Object.entries(messages)) {
    if (!v.is(Content, devices)) throw new MatrixError('M_BAD_JSON', `messages of ${user} must be an object by device`)
    for (const [device_id, content] of Object.entries(devices)) {
      if (!v.is(Content, content)) {
        throw new MatrixError('M_BAD_JSON', `The message to device ${device_id} of ${user} must be an object`)
      }
      checkSize(content)
      const user_id = v.safeParse(UserId, user)
      if (user_id.success) yield { user_id: user_id.output, device_id, content }
    }
  }
}

function checkSize(content: JsonObject): void {
  if (Buffer.byteLength(JSON.stringify(content)) > limits.eventBytes) {
    throw new MatrixError('M_TOO_LARGE', `A message to a device has ${limits.eventBytes} bytes at most`)
  }
}
