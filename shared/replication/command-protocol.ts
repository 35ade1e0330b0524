/** How commands travel. One alone: `POST /commands/<name>`, JSON both ways, everything else in headers. Many together, as
 *  processes send them: `GET /commands` with `Upgrade: ganglion-commands`, then two lines a command, in any order of answers,
 *  so that all that comes up at one moment takes one write. */
import * as v from 'valibot'
import { type Errcode, MatrixError } from '../matrix/matrix-error.ts'
import { StreamPosition } from '../streams/define.ts'
import { type StreamName, type StreamPositions, streamNames, streams } from '../streams/registry.ts'
import type { Replication } from './replication.ts'

export const commandPath = '/commands/'
export const sessionPath = '/commands'
export const sessionProtocol = 'ganglion-commands'

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

export const Key = /^[\w.:-]{8,128}$/

/** What goes along with a command, whichever way it is sent. */
export interface Envelope {
  readonly name: string
  /** Names the command however often it is sent. */
  readonly key: string
  /** 1, 2, …: how often it was sent. */
  readonly attempt: number
  /** Milliseconds that the sender goes on waiting. */
  readonly deadlineMs: number
  /** The sender's positions, as `encodePositions` makes them. */
  readonly after: string | undefined
  readonly requestId: string | undefined
  readonly traceparent: string | undefined
}

/** The two lines of a command in a session. JSON has no line ends of its own. */
export function encodeCommand(id: number, envelope: Envelope, body: string): string {
  const { name, key, attempt, deadlineMs, after = '-', requestId = '-', traceparent = '-' } = envelope
  return `${id} ${name} ${key} ${attempt} ${deadlineMs} ${after} ${requestId} ${traceparent}\n${body}\n`
}

const commandLine =
  /^(\d{1,15}) (\w{1,64}) ([\w.:-]{8,128}) ([1-9]\d{0,5}) (\d{1,9}) (\S{1,1000}) (\S{1,64}) (\S{1,256})$/

/** Undefined for what is no first line of a command. */
export function decodeCommand(line: string): { readonly id: number; readonly envelope: Envelope } | undefined {
  const [, id, name, key, attempt, deadlineMs, after, requestId, traceparent] = commandLine.exec(line) ?? []
  if (id === undefined || name === undefined || key === undefined) return undefined
  const given = (text: string | undefined) => (text === '-' ? undefined : text)
  return {
    id: Number(id),
    envelope: {
      name,
      key,
      attempt: Number(attempt),
      deadlineMs: Number(deadlineMs),
      after: given(after),
      requestId: given(requestId),
      traceparent: given(traceparent),
    },
  }
}

export interface CommandAnswer {
  readonly status: number
  readonly reason: string | undefined
  /** As `encodePositions` makes them. */
  readonly positions: string | undefined
  readonly body: string
}

export function encodeAnswer(id: number, { status, reason = '-', positions = '-', body }: CommandAnswer): string {
  return `${id} ${status} ${reason} ${positions}\n${body}\n`
}

const answerLine = /^(\d{1,15}) ([1-5]\d\d) (\S{1,64}) (\S{1,1000})$/

/** Undefined for what is no first line of an answer. */
export function decodeAnswer(
  line: string,
  body: string,
): { readonly id: number; readonly answer: CommandAnswer } | undefined {
  const [, id, status, reason, positions] = answerLine.exec(line) ?? []
  if (id === undefined) return undefined
  return {
    id: Number(id),
    answer: {
      status: Number(status),
      reason: reason === '-' ? undefined : reason,
      positions: positions === '-' ? undefined : positions,
      body,
    },
  }
}

/** Asks whether the other side is there; it is answered in kind, at once. */
export const ping = 'ping\n\n'

/** Puts pairs of lines together from what arrives. */
export class LinePairs {
  #parts: Buffer[] = []
  #length = 0
  #skipping = false
  readonly #bytesMax: number

  /** `bytesMax`: of a pair that did not come in one piece. */
  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax
  }

  /** Calls `take` for each pair that is complete, and `tooLong` with the first line of one whose second is given up on.
   *  False: a first line has no end. */
  read(chunk: Buffer, take: (first: string, second: string) => void, tooLong: (first: string) => void): boolean {
    let bytes = chunk
    if (this.#skipping) {
      const end = bytes.indexOf(lineEnd)
      if (end < 0) return true
      this.#skipping = false
      bytes = bytes.subarray(end + 1)
    }
    if (bytes.length === 0) return true
    if (this.#length > 0 && bytes.indexOf(lineEnd) < 0) {
      this.#keep(bytes)
    } else {
      if (this.#length > 0) bytes = Buffer.concat([...this.#parts, bytes])
      this.#parts = []
      this.#length = 0
      const end = endOfPairs(bytes)
      const lines = bytes.toString('utf8', 0, end).split('\n')
      for (let i = 0; i + 1 < lines.length; i += 2) take(lines[i] ?? '', lines[i + 1] ?? '')
      if (end < bytes.length) this.#keep(bytes.subarray(end))
    }
    if (this.#length <= this.#bytesMax) return true
    const kept = Buffer.concat(this.#parts)
    this.#parts = []
    this.#length = 0
    const first = kept.indexOf(lineEnd)
    if (first < 0) return false
    this.#skipping = true
    tooLong(kept.toString('utf8', 0, first))
    return true
  }

  #keep(bytes: Buffer): void {
    this.#parts.push(bytes)
    this.#length += bytes.length
  }
}

const lineEnd = 0x0a

/** Where the last pair of lines ends that is complete. */
function endOfPairs(bytes: Buffer): number {
  let end = 0
  for (;;) {
    const first = bytes.indexOf(lineEnd, end)
    const second = first < 0 ? -1 : bytes.indexOf(lineEnd, first + 1)
    if (second < 0) return end
    end = second + 1
  }
}

export function hasReached(replication: Pick<Replication, 'positions'>, wanted: Partial<StreamPositions>): boolean {
  const now = replication.positions()
  for (const name in wanted) {
    if (now[name as StreamName] < (wanted[name as StreamName] ?? 0)) return false
  }
  return true
}
