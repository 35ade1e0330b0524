/** Messages of the server to its users, as administration tools of Synapse send them:
 *  https://element-hq.github.io/synapse/latest/admin_api/server_notices.html */
import { randomUUID } from 'node:crypto'
import * as v from 'valibot'
import type { Requester } from '../../shared/auth/requester.ts'
import type { MainClient } from '../../shared/commands/registry.ts'
import { Content } from '../../shared/commands/rooms.ts'
import { UserId } from '../../shared/matrix/ids.ts'
import { route } from './deps.ts'

const path = '/_synapse/admin/v1/send_server_notice'
const spec = 'https://element-hq.github.io/synapse/latest/admin_api/server_notices.html'
const body = v.object({
  user_id: UserId,
  content: Content,
  type: v.optional(v.pipe(v.string(), v.minLength(1)), 'm.room.message'),
  state_key: v.optional(v.string()),
})

export const postServerNotice = route({
  method: 'POST',
  path,
  spec,
  auth: 'admin',
  body,
  handle: ({ body: notice, user }, { main }) => send(main, user, notice, randomUUID()),
})

export const putServerNotice = route({
  method: 'PUT',
  path: `${path}/:txnId`,
  spec,
  auth: 'admin',
  params: v.object({ txnId: v.string() }),
  body,
  handle: ({ params: { txnId }, body: notice, user }, { main }) => send(main, user, notice, txnId),
})

/** Transactions are of the administrator's device, and so that two of them do not meet, named by it. */
function send(main: MainClient, { user_id, device_id }: Requester, notice: v.InferOutput<typeof body>, txn: string) {
  return main.sendServerNotice({ ...notice, txn_id: JSON.stringify([user_id, device_id, txn]) })
}

export const serverNoticeRoutes = [postServerNotice, putServerNotice] as const
