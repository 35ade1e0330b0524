/** Messages into devices' inboxes. https://spec.matrix.org/v1.19/client-server-api/#send-to-device-messaging
 *  All of a request's messages are in one commit, with its transaction: none is lost, none comes twice, and what one sender
 *  sent one after the other comes in that order. */
import type { RequestOf } from '../../../../shared/commands/define.ts'
import type { MainClient } from '../../../../shared/commands/registry.ts'
import type { toDeviceCommands } from '../../../../shared/commands/to-device.ts'
import { type ServerName, serverNameOf } from '../../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../../shared/matrix/matrix-error.ts'
import type { MainSql } from '../../../../shared/storage/sql.ts'
import { outboundEdus } from '../../federation/outbox.ts'
import { toDeviceEdus } from '../../federation/to-device-edus.ts'
import { type Committer, joinWrites, type ToDeviceWrite } from '../../persist/writes.ts'
import type { Transactions } from '../../rooms/transactions.ts'
import { createKnownDevices } from './known-devices.ts'

interface Deps {
  readonly sql: MainSql
  readonly committer: Committer
  readonly transactions: Transactions
  readonly own: ServerName
}

type Request = RequestOf<(typeof toDeviceCommands)['sendToDevice']>

/** `*` makes many messages of one: a request ends in at most this many, of this many characters in all. */
const messagesMax = 10_000
const charactersMax = 16 * 1024 * 1024

export function sendToDeviceHandler({ sql, committer, transactions, own }: Deps): MainClient['sendToDevice'] {
  const knownDevices = createKnownDevices(sql, messagesMax)
  async function writesOf(request: Request): Promise<ToDeviceWrite[]> {
    const ours = request.messages.filter((message) => serverNameOf(message.user_id) === own)
    if (ours.length === 0) return []
    const devices = await knownDevices(ours)
    const writes: ToDeviceWrite[] = []
    let characters = 0
    for (const message of ours) {
      const content = JSON.stringify(message.content)
      for (const device_id of devices(message.user_id, message.device_id)) {
        characters += content.length
        if (writes.length === messagesMax || characters > charactersMax) throw tooMuch()
        writes.push({ user_id: message.user_id, device_id, sender: request.user_id, type: request.type, content })
      }
    }
    return writes
  }

  return (request) =>
    transactions.once(request, `sendToDevice\n${request.type}\n${request.txn_id}`, async (record) => {
      // Also where there is nobody to send to: the same transaction, sent again, must not find somebody then.
      const theirs = request.messages.filter((message) => serverNameOf(message.user_id) !== own)
      const to_device = await writesOf(request)
      const edus = toDeviceEdus({ sender: request.user_id, type: request.type }, theirs)
      await committer.commit(
        edus.length === 0 ? { to_device, ...record({}) } : joinWrites({ to_device }, outboundEdus(edus), record({})),
      )
      return {}
    })
}

function tooMuch(): MatrixError {
  return new MatrixError('M_TOO_LARGE', `A request can send ${messagesMax} messages at most: send to fewer devices`)
}
