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

/** Names a connection of a user's device: 22 characters. */
export function connectionOwner({ user_id, device_id }: Requester, connection: string): string {
  return createHash('sha256').update(`${user_id}\0${device_id}\0${connection}`).digest('base64url').slice(0, 22)
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
