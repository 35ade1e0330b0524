/** Messages into devices' inboxes. https://spec.matrix.org/v1.19/client-server-api/#send-to-device-messaging
 *  All of a request's messages are in one commit, with its transaction: none is lost, none comes twice, and what one sender
 *  sent one after the other comes in that order. */
import type { RequestOf } from '../../../../shared/commands/define.ts'
import type { MainClient } from '../../../../shared/commands/registry.ts'
import type { toDeviceCommands } from '../../../../shared/commands/to-device.ts'
import type { DeviceId, UserId } from '../../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../../shared/matrix/matrix-error.ts'
import { fromPgText, type MainSql, pgText } from '../../../../shared/storage/sql.ts'
import type { Committer, ToDeviceWrite } from '../../persist/writes.ts'
import type { Transactions } from '../../rooms/transactions.ts'

interface Deps {
  readonly sql: MainSql
  readonly committer: Committer
  readonly transactions: Transactions
}

type Request = RequestOf<(typeof toDeviceCommands)['sendToDevice']>

const text = 25
/** All devices of a user. */
const everyDevice = '*'
/** `*` makes many messages of one: a request ends in at most this many, of this many characters in all. */
const messagesMax = 10_000
const charactersMax = 16 * 1024 * 1024

export function sendToDeviceHandler({ sql, committer, transactions }: Deps): MainClient['sendToDevice'] {
  async function writesOf(request: Request): Promise<ToDeviceWrite[]> {
    const devices = await knownDevices(sql, request.messages)
    const writes: ToDeviceWrite[] = []
    let characters = 0
    for (const message of request.messages) {
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
      await committer.commit({ to_device: await writesOf(request), ...record({}) })
      return {}
    })
}

/** Which of the devices that are named are there: users of other servers have none here. */
async function knownDevices(
  sql: MainSql,
  messages: Request['messages'],
): Promise<(user_id: UserId, device_id: string) => Iterable<DeviceId>> {
  const all = messages.filter((message) => message.device_id === everyDevice).map((message) => message.user_id)
  const named = messages.filter((message) => message.device_id !== everyDevice)
  const names = named.map((message) => pgText(message.device_id))
  const users = named.map((message) => message.user_id)
  const [ofAll, ofNamed] = await Promise.all([
    all.length === 0
      ? []
      : sql<{ user_id: UserId; device_id: string }[]>`
          select user_id, device_id from devices where user_id = any(${sql.array(all, text)}::text[])
          order by user_id, device_id limit ${messagesMax + 1}`,
    named.length === 0
      ? []
      : sql<{ user_id: UserId; device_id: string }[]>`
          select d.user_id, d.device_id
          from unnest(${sql.array(users, text)}::text[], ${sql.array(names, text)}::text[]) as q(user_id, device_id)
          join devices d on d.user_id = q.user_id collate "C" and d.device_id = q.device_id collate "C"`,
  ])
  const every = new Map<UserId, DeviceId[]>()
  for (const { user_id, device_id } of ofAll) {
    const known = every.get(user_id)
    if (known) known.push(fromPgText(device_id) as DeviceId)
    else every.set(user_id, [fromPgText(device_id) as DeviceId])
  }
  const there = new Set(ofNamed.map(({ user_id, device_id }) => `${user_id}\n${fromPgText(device_id)}`))
  return (user_id, device_id) => {
    if (device_id === everyDevice) return every.get(user_id) ?? []
    return there.has(`${user_id}\n${device_id}`) ? [device_id as DeviceId] : []
  }
}

function tooMuch(): MatrixError {
  return new MatrixError('M_TOO_LARGE', `A request can send ${messagesMax} messages at most: send to fewer devices`)
}
