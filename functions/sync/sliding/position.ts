/** The `pos` of a connection: whose it is, what it has told, and how far in each stream.
 *  https://github.com/matrix-org/matrix-spec-proposals/blob/main/proposals/4186-simplified-sliding-sync.md#connections */
import { createHash } from 'node:crypto'
import type { Requester } from '../../../shared/auth/requester.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import type { StreamPositions } from '../../../shared/streams/registry.ts'
import { encodeSyncToken, parseSyncToken, slidingPosition } from '../../../shared/streams/token.ts'

export interface Position {
  /** Name of a ConnectionState. */
  readonly state: string
  readonly at: StreamPositions
}

/** A session's last connection and its name: the hash would be a sixth of an answer without news. */
const lastOwner = new WeakMap<Requester, { readonly connection: string; readonly owner: string }>()

/** Names a connection of a user's device: 22 characters. */
export function connectionOwner(requester: Requester, connection: string): string {
  const last = lastOwner.get(requester)
  if (last?.connection === connection) return last.owner
  const { user_id, device_id } = requester
  const text = `${user_id}\0${device_id}\0${connection}`
  const owner = createHash('sha256').update(text).digest('base64url').slice(0, 22)
  lastOwner.set(requester, { connection, owner })
  return owner
}

export function encodePosition(owner: string, { state, at }: Position): string {
  return `x1.${owner.slice(0, 8)}.${state}.${encodeSyncToken(at)}`
}

/** Throws M_UNKNOWN_POS for what was not given to this connection. */
export function parsePosition(owner: string, pos: string): Position {
  const match = slidingPosition.exec(pos)
  if (!match?.groups) throw unknownPosition()
  const { owner: given, state = '', at = '' } = match.groups
  if (given !== owner.slice(0, 8)) throw unknownPosition()
  try {
    return { state, at: parseSyncToken(at, 'pos') }
  } catch (error) {
    if (error instanceof MatrixError) throw unknownPosition()
    throw error
  }
}

/** The client begins the connection anew. */
export function unknownPosition(): MatrixError {
  return new MatrixError('M_UNKNOWN_POS', 'This pos is not one that the connection can go on from; begin without one')
}
