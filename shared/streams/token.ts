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
  'device_lists',
  'key_counts',
  'to_device',
  'thread_subscriptions',
] as const satisfies readonly StreamName[]

/** How many positions a token of each version has. Those of older ones end before the streams that came later: what happened
 *  there is told from the beginning. */
const placesOf: Readonly<Record<string, number>> = { s1: 6, s2: 9, s3: tokenOrder.length }
const syncToken = /^(?<version>s\d)(?<places>(?:_\d{1,16}){6,16})$/
const paginationToken = /^p1_(-?\d{1,16})$/

/** Before all events of a timeline: what was fetched of earlier history has positions below zero. */
export const timelineBeginning = Number.MIN_SAFE_INTEGER
const threadsToken = /^t1_(\d{1,16})$/
const inboxToken = /^d(\d{1,16})$/
/** A position of sliding sync: a mark of its owner, what the connection has told, and a sync token. */
export const slidingPosition = /^x1\.(?<owner>[\w-]{8})\.(?<state>[\w-]{16})\.(?<at>s\d+_[\d_]+)$/

export function encodeSyncToken(positions: StreamPositions): string {
  return `s3_${positions.events}_${positions.receipts}_${positions.account_data}_${positions.typing}_${positions.presence}_${positions.invalidations}_${positions.device_lists}_${positions.key_counts}_${positions.to_device}_${positions.thread_subscriptions}`
}

/** Throws M_INVALID_PARAM for what this server never handed out. */
export function parseSyncToken(token: string, parameter = 'since'): StreamPositions {
  if (token === lastParsed?.token) return lastParsed.positions
  const { version = '', places = '' } = syncToken.exec(token)?.groups ?? {}
  const digits = places.slice(1).split('_')
  if (digits.length !== placesOf[version]) throw invalid(parameter)
  const at = (place: number) => position(digits[place] ?? '0', parameter)
  const positions = {
    events: at(0),
    receipts: at(1),
    account_data: at(2),
    typing: at(3),
    presence: at(4),
    invalidations: at(5),
    device_lists: at(6),
    key_counts: at(7),
    to_device: at(8),
    thread_subscriptions: at(9),
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

/** A place among the messages to a device, where they are asked for beside /sync. */
export function encodeInboxToken(position: StreamPosition): string {
  return `d${position}`
}

/** Throws M_INVALID_PARAM for what this server never handed out. */
export function parseInboxToken(token: string, parameter: string): StreamPosition {
  return position(inboxToken.exec(token)?.[1], parameter)
}

/** A place among the changes of a user's thread subscriptions: up to it, it included. */
export function encodeThreadsToken(position: number): string {
  return `t1_${position}`
}

/** Such a place, or the one that a position of sliding sync names. Throws M_INVALID_PARAM for anything else. */
export function parseThreadsToken(token: string, parameter: string): StreamPosition {
  const at = slidingPosition.exec(token)?.groups?.at
  if (at !== undefined) return parseSyncToken(at, parameter).thread_subscriptions
  return position(threadsToken.exec(token)?.[1], parameter)
}

function position(digits: string | undefined, parameter: string): StreamPosition {
  const value = Number(digits ?? Number.NaN)
  if (!Number.isSafeInteger(value)) throw invalid(parameter)
  return value as StreamPosition
}

function invalid(parameter: string): MatrixError {
  return new MatrixError('M_INVALID_PARAM', `Parameter ${parameter} is not a token of this server`)
}
