/** Tokens of clients: opaque to them, versioned encodings of positions to us. Another user's token holds nothing but
 *  positions, so it harms nobody. https://spec.matrix.org/v1.19/client-server-api/#syncing */
import { MatrixError } from '../matrix/matrix-error.ts'
import type { StreamPosition } from './define.ts'
import type { StreamName, StreamPositions } from './registry.ts'

/** The order of positions in a sync token; a new stream is added at the end and makes a new version. */
export const tokenOrder = [
  'events',
  'receipts',
  'account_data',
  'typing',
  'presence',
  'invalidations',
] as const satisfies readonly StreamName[]

const syncToken = /^s1_(\d{1,16})_(\d{1,16})_(\d{1,16})_(\d{1,16})_(\d{1,16})_(\d{1,16})$/
const paginationToken = /^p1_(\d{1,16})$/
/** A position of sliding sync: a mark of its owner, what the connection has told, and a sync token. */
export const slidingPosition = /^x1\.(?<owner>[\w-]{8})\.(?<state>[\w-]{16})\.(?<at>s\d+_[\d_]+)$/

export function encodeSyncToken(positions: StreamPositions): string {
  return `s1_${positions.events}_${positions.receipts}_${positions.account_data}_${positions.typing}_${positions.presence}_${positions.invalidations}`
}

/** Throws M_INVALID_PARAM for what this server never handed out. */
export function parseSyncToken(token: string, parameter = 'since'): StreamPositions {
  if (token === lastParsed?.token) return lastParsed.positions
  const match = syncToken.exec(token)
  if (!match) throw invalid(parameter)
  const positions = {
    events: position(match[1], parameter),
    receipts: position(match[2], parameter),
    account_data: position(match[3], parameter),
    typing: position(match[4], parameter),
    presence: position(match[5], parameter),
    invalidations: position(match[6], parameter),
  }
  lastParsed = { token, positions }
  return positions
}

/** Clients that waited for the same news come back with the same token. */
let lastParsed: { readonly token: string; readonly positions: StreamPositions } | undefined

/** A place in the timeline of events: between `position` and the one after it. */
export function encodePaginationToken(position: number): string {
  return `p1_${position}`
}

/** The place in stream events that a pagination token, a sync token or a position of sliding sync names; throws M_INVALID_PARAM for anything else. */
export function parsePaginationToken(token: string, parameter = 'from'): StreamPosition {
  const match = paginationToken.exec(token)
  if (match) return position(match[1], parameter)
  return parseSyncToken(slidingPosition.exec(token)?.groups?.at ?? token, parameter).events
}

function position(digits: string | undefined, parameter: string): StreamPosition {
  const value = Number(digits)
  if (!Number.isSafeInteger(value)) throw invalid(parameter)
  return value as StreamPosition
}

function invalid(parameter: string): MatrixError {
  return new MatrixError('M_INVALID_PARAM', `Parameter ${parameter} is not a token of this server`)
}
