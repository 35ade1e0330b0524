/** MSC3885: messages to this device. Their place is the client's own, whatever connections it has: it comes back with the
 *  `next_batch` of an answer when it has what that held. https://github.com/matrix-org/matrix-spec-proposals/pull/3885 */
import { toDeviceJson } from '../../../../shared/storage/to-device.ts'
import { encodeInboxToken } from '../../../../shared/streams/token.ts'
import { readMessages } from '../../inboxes.ts'
import { soon } from '../../soon.ts'
import type { ExtensionRequests } from '../request.ts'
import type { Extension } from './extension.ts'

const limitMax = 100

export const toDeviceExtension: Extension<NonNullable<ExtensionRequests['to_device']>> = (
  { answer, inboxFrom, upTo },
  { limit },
) => {
  const range = { after: inboxFrom ?? 0, upTo: upTo.to_device, limit: Math.min(limit ?? limitMax, limitMax) }
  return soon(readMessages(answer, range), ({ messages, upTo }) => ({
    json: `{"next_batch":"${encodeInboxToken(upTo)}","events":[${messages.map(toDeviceJson).join(',')}]}`,
    news: messages.length > 0,
  }))
}
