/** Which requests may be sent once more to another handler when one went silent after it had them: those whose second run
 *  changes nothing, and answers what the first would have answered. */
import { aliasesOf } from '../../shared/http/aliases.ts'
import type { Method } from '../../shared/http/route.ts'
import { createRouter } from '../../shared/http/router.ts'

const v3 = '/_matrix/client/v3'
const federation = '/_matrix/federation'

/** Beside GET and HEAD. Left out on purpose: what answers differently when it is done already (an alias that exists, one
 *  that is gone, an upload to an id), what makes something new each time, and what takes from a supply (keys/claim). */
const repeatable = [
  // Their transaction id makes them one.
  `PUT ${v3}/rooms/:roomId/send/:eventType/:txnId`,
  `PUT ${v3}/rooms/:roomId/redact/:eventId/:txnId`,
  `PUT ${v3}/sendToDevice/:eventType/:txnId`,
  `PUT ${federation}/v1/send/:txnId`,
  // They carry an event with its id.
  `PUT ${federation}/v1/invite/:roomId/:eventId`,
  `PUT ${federation}/v2/invite/:roomId/:eventId`,
  `PUT ${federation}/v2/send_join/:roomId/:eventId`,
  `PUT ${federation}/v2/send_leave/:roomId/:eventId`,
  `PUT ${federation}/v1/send_knock/:roomId/:eventId`,
  // They set a value.
  `PUT ${v3}/rooms/:roomId/typing/:userId`,
  `PUT ${v3}/presence/:userId/status`,
  `PUT ${v3}/profile/:userId/:keyName`,
  `PUT ${v3}/devices/:deviceId`,
  `PUT ${v3}/directory/list/room/:roomId`,
  `PUT ${v3}/pushrules/global/:kind/:ruleId/actions`,
  `PUT ${v3}/pushrules/global/:kind/:ruleId/enabled`,
  `PUT ${v3}/user/:userId/account_data/:type`,
  `PUT ${v3}/user/:userId/rooms/:roomId/account_data/:type`,
  `PUT ${v3}/user/:userId/rooms/:roomId/tags/:tag`,
  `DELETE ${v3}/user/:userId/rooms/:roomId/tags/:tag`,
  `POST ${v3}/rooms/:roomId/receipt/:receiptType/:eventId`,
  `POST ${v3}/rooms/:roomId/read_markers`,
  // Who is in the room already gets the same answer.
  `POST ${v3}/join/:roomIdOrAlias`,
  `POST ${v3}/rooms/:roomId/join`,
  // They only read.
  'POST /_matrix/client/unstable/org.matrix.simplified_msc3575/sync',
  `POST ${v3}/keys/query`,
  `POST ${v3}/publicRooms`,
  `POST ${v3}/search`,
  `POST ${v3}/user_directory/search`,
  `POST ${federation}/v1/get_missing_events/:roomId`,
  `POST ${federation}/v1/publicRooms`,
  `POST ${federation}/v1/user/keys/query`,
  'POST /_matrix/key/v2/query',
]

const router = createRouter<true>()
for (const line of repeatable) {
  const [method, path = ''] = line.split(' ')
  for (const each of [path, ...aliasesOf(path)]) router.add(method as Method, each, true)
}

/** `target` is the raw path with its query. */
export function isRepeatable(method: string, target: string): boolean {
  if (method === 'GET' || method === 'HEAD') return true
  const query = target.indexOf('?')
  return router.find(method as Method, query < 0 ? target : target.slice(0, query)).found === 'endpoint'
}
