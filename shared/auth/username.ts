/** User ids of this server as people type them. https://spec.matrix.org/v1.19/appendices/#user-identifiers */
import type { ServerName, UserId } from '../matrix/ids.ts'
import { MatrixError } from '../matrix/matrix-error.ts'

const localpartOfNewUsers = /^[a-z0-9._=\-/+]+$/
const userIdBytesMax = 255

/** The id of a new account. Capitals are taken as lower case. Throws M_INVALID_USERNAME. */
export function newUserId(username: string, server: ServerName): UserId {
  const localpart = username.toLowerCase()
  if (!localpartOfNewUsers.test(localpart)) {
    throw new MatrixError('M_INVALID_USERNAME', 'A username has the characters a-z, 0-9, and ._=-/+ only')
  }
  if (localpart.startsWith('_')) throw new MatrixError('M_INVALID_USERNAME', 'A username does not begin with _')
  const user_id = `@${localpart}:${server}`
  if (Buffer.byteLength(user_id) > userIdBytesMax)
    throw new MatrixError('M_INVALID_USERNAME', 'The username is too long')
  return user_id as UserId
}

/** The full id of what was typed as a localpart or an id; undefined where that can't be a user of this server. */
export function typedUserId(typed: string, server: ServerName): UserId | undefined {
  const user_id = typed.startsWith('@') ? typed : `@${typed}:${server}`
  const ours = user_id.endsWith(`:${server}`) && !user_id.slice(1, -server.length - 1).includes(':')
  return ours && !user_id.includes('\0') && Buffer.byteLength(user_id) <= userIdBytesMax
    ? (user_id as UserId)
    : undefined
}
