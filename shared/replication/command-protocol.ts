/** How commands travel: `POST /commands/<name>`, JSON both ways, everything else in headers. */
import * as v from 'valibot'
import { type Errcode, MatrixError } from '../matrix/matrix-error.ts'
import { StreamPosition } from '../streams/define.ts'
import { type StreamName, type StreamPositions, streamNames, streams } from '../streams/registry.ts'
import type { Replication } from './replication.ts'

export const commandPath = '/commands/'

export const commandHeaders = {
  /** Names the command however often it is sent. */
  key: 'x-ganglion-key',
  /** 1, 2, …: how often it was sent. */
  attempt: 'x-ganglion-attempt',
  /** Milliseconds that the sender goes on waiting. */
  deadline: 'x-ganglion-deadline',
  /** The sender's positions: main must not run the command on anything older. */
  after: 'x-ganglion-after',
  /** Main's positions when it answered. */
  positions: 'x-ganglion-positions',
  /** Why there is no result; absent on success. */
  reason: 'x-ganglion-reason',
  requestId: 'x-request-id',
  traceparent: 'traceparent',
} as const

/** Why a command gave no result, and with which status.
 *  - `refused`: the command's own answer, a MatrixError; the status is the error's.
 *  - `moved`: the shard is not owned here. `starting`, `stopping`, `overloaded`, `behind`, `away` (main can't tell whether it may
 *    write): not now. The command is sent again.
 *  - the rest are faults of a process; sending it again would not help. */
export const failures = {
  moved: 421,
  starting: 503,
  stopping: 503,
  overloaded: 503,
  behind: 503,
  away: 503,
  secret: 401,
  unknown_command: 404,
  request: 400,
  too_large: 413,
  failed: 500,
} as const
export type Failure = keyof typeof failures
export type Reason = Failure | 'refused'
const again = new Set<string>(['moved', 'starting', 'stopping', 'overloaded', 'behind', 'away'] satisfies Failure[])

export function isWorthRepeating(reason: string): boolean {
  return again.has(reason)
}

/** Errcodes are open: a main of the next version may know more of them than this one. */
const ErrcodeText = v.custom<Errcode>((value) => typeof value === 'string' && /^[A-Za-z0-9_.]{1,255}$/.test(value))

const RefusedAnswer = v.object({
  errcode: ErrcodeText,
  error: v.string(),
  status: v.pipe(v.number(), v.integer(), v.minValue(400), v.maxValue(599)),
  extra: v.record(v.string(), v.unknown()),
})

export function encodeRefusal(error: MatrixError): string {
  const { errcode, message, status, extra } = error
  return JSON.stringify({ errcode, error: message, status, extra })
}

/** Throws ValiError for what is no refusal. */
export function decodeRefusal(value: unknown): MatrixError {
  const { errcode, error, status, extra } = v.parse(RefusedAnswer, value)
  return new MatrixError(errcode, error, { status, extra })
}

/** Streams kept in memory have clock-based positions, which mean nothing to a command. */
const kept: readonly StreamName[] = streamNames.filter((name) => streams[name].kept === 'postgres')

/** `events:12,receipts:3` */
export function encodePositions(positions: StreamPositions): string {
  let text = ''
  for (const name of kept) text += `${text === '' ? '' : ','}${name}:${positions[name]}`
  return text
}

/** Leaves out streams that this version does not know; undefined for what is no list of positions. */
export function decodePositions(text: string): Partial<StreamPositions> | undefined {
  const positions: Partial<Record<StreamName, StreamPosition>> = {}
  for (const part of text.split(',')) {
    const colon = part.indexOf(':')
    const position = v.safeParse(StreamPosition, Number(part.slice(colon + 1)))
    if (colon <= 0 || !position.success) return undefined
    const name = kept.find((stream) => stream === part.slice(0, colon))
    if (name !== undefined) positions[name] = position.output
  }
  return positions
}

export function hasReached(replication: Pick<Replication, 'positions'>, wanted: Partial<StreamPositions>): boolean {
  const now = replication.positions()
  for (const name in wanted) {
    if (now[name as StreamName] < (wanted[name as StreamName] ?? 0)) return false
  }
  return true
}
