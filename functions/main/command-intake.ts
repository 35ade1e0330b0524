/** Takes commands in, whichever way they came: bounded in number and bytes, parsed, run when this main knows what their sender
 *  knows, and answered once each. */
import * as v from 'valibot'
import type { Clock } from '../../shared/clock.ts'
import type { Logger } from '../../shared/logging.ts'
import { parseText } from '../../shared/matrix/engine-json.ts'
import { MatrixError } from '../../shared/matrix/matrix-error.ts'
import {
  type CommandAnswer,
  decodePositions,
  type Envelope,
  encodePositions,
  encodeRefusal,
  type Failure,
  failures,
  hasReached,
} from '../../shared/replication/command-protocol.ts'
import type { Replication } from '../../shared/replication/replication.ts'
import { requestContext, requestIdFrom } from '../../shared/request-context.ts'
import { isDatabaseAway } from '../../shared/storage/database-away.ts'
import type { StreamPositions } from '../../shared/streams/registry.ts'
import type { Span, Tracer } from '../../shared/tracing/tracer.ts'
import { type CommandRunner, commandNamed, NotRunError } from './command-runner.ts'
import { unavailable } from './outage-guard.ts'

export interface CommandIntakeOptions {
  /** Commands under way at once; further ones are refused. */
  readonly queueMax: number
  readonly bodyBytesMax: number
  readonly clock: Clock
  readonly log: Pick<Logger, 'warn' | 'error'>
  readonly tracer?: Tracer | undefined
  /** Told of each command that was answered. `outcome` is `ok`, `refused` or a failure. */
  readonly observe?:
    | ((command: { readonly name: string; readonly durationMs: number; readonly outcome: string }) => void)
    | undefined
}

export interface OpenedIntake {
  readonly runner: CommandRunner
  readonly replication: Replication
}

export interface CommandIntake {
  /** From now on commands are run; before, they are told to come back. */
  open(deps: OpenedIntake): void
  /** From now on they are told that this process ends. */
  stop(): void
  /** Commands under way, and the characters of their requests. */
  readonly load: { readonly commands: number; readonly bytes: number }
  /** Why nothing can be taken now; undefined if it can. */
  obstacle(): Failure | undefined
  /** Carries out what an envelope and its body say; undefined: a body that is too large. Calls `reply` once, never throws. */
  carryOut(envelope: Envelope, body: string | undefined, reply: (answer: CommandAnswer) => void): void
}

const bytesMax = 128 * 1024 * 1024
const deadlineMsMax = 10 * 60_000
/** Other mains' rows arrive in milliseconds; a main that is further behind should not answer. */
const behindMsMax = 2_000

const whyNot: Readonly<Record<Failure, string>> = {
  moved: 'another main process owns this shard',
  away: 'this main process cannot tell whether it may write',
  starting: 'this main process starts',
  stopping: 'this main process ends',
  overloaded: 'too many commands are under way',
  behind: 'rows that the sender knows have not arrived here',
  secret: 'the secret is wrong',
  unknown_command: 'there is no such command',
  request: 'the command is not what its schema says',
  too_large: 'the command is too large',
  failed: 'the command failed',
}

export function failure(reason: Failure): CommandAnswer {
  const body = JSON.stringify({ errcode: 'M_UNKNOWN', error: whyNot[reason] })
  return { status: failures[reason], reason, positions: undefined, body }
}

export function createCommandIntake(options: CommandIntakeOptions): CommandIntake {
  const { clock, log, queueMax, bodyBytesMax, tracer, observe } = options
  let opened: OpenedIntake | undefined
  let stopping = false
  let commands = 0
  let bytes = 0
  let lastPositions: { text: string; parsed: Partial<StreamPositions> | undefined } = { text: '', parsed: undefined }

  /** Why nothing can be taken at all. */
  function obstacle(): Failure | undefined {
    if (stopping) return 'stopping'
    if (!opened) return 'starting'
    return commands >= queueMax || bytes >= bytesMax ? 'overloaded' : undefined
  }

  function carryOut(envelope: Envelope, body: string | undefined, reply: (answer: CommandAnswer) => void) {
    const problem = obstacle()
    if (problem || !opened) return reply(failure(problem ?? 'starting'))
    if (body === undefined || body.length > bodyBytesMax) return reply(failure('too_large'))
    const { runner, replication } = opened
    const { name } = envelope
    const startTs = clock.now()
    commands++
    bytes += body.length
    const end = (answer: CommandAnswer) => {
      commands--
      bytes -= body.length
      observe?.({ name, durationMs: clock.now() - startTs, outcome: answer.reason ?? 'ok' })
      reply(answer)
    }
    const found = commandNamed(name)
    if (!found) return end(failure('unknown_command'))
    const after = envelope.after === undefined ? {} : positionsOf(envelope.after)
    const parsed = after && parseRequest(found.command.request, body)
    if (!parsed) return end(failure('request'))

    const run = async (): Promise<CommandAnswer> => {
      const deadlineTs = startTs + Math.min(envelope.deadlineMs, deadlineMsMax)
      if (!hasReached(replication, after) && !(await reached(replication, after, deadlineTs))) return failure('behind')
      const value = await runner.run(found.name, parsed.output, {
        key: envelope.key,
        isRetry: envelope.attempt > 1,
        deadlineTs,
      })
      return { status: 200, reason: undefined, positions: positionsText(replication), body: JSON.stringify(value) }
    }
    const refusalOf = (error: unknown): CommandAnswer => {
      if (error instanceof NotRunError) return failure(error.failure)
      const refusal = error instanceof MatrixError ? error : isDatabaseAway(error) ? unavailable() : undefined
      if (!refusal) {
        log.error({ command: name, err: error }, 'a command failed unexpectedly')
        return failure('failed')
      }
      if (stopping && refusal.errcode === 'M_UNAVAILABLE') return failure('stopping')
      const { status } = refusal
      return { status, reason: 'refused', positions: positionsText(replication), body: encodeRefusal(refusal) }
    }
    inContext(envelope, async (span) => {
      const answer = await run().catch(refusalOf)
      span?.end(answer.reason === undefined || answer.reason === 'refused' ? 'ok' : 'error')
      end(answer)
    })
  }

  /** Log lines and spans of the command belong to the request that asked for it. */
  function inContext({ name, requestId, traceparent }: Envelope, run: (span: Span | undefined) => Promise<void>): void {
    const id = requestIdFrom(requestId)
    const span = traceparent === undefined ? undefined : tracer?.startServerSpan({ traceparent }, true)
    if (span) span.name = `command ${name}`
    if (id === undefined) void run(span)
    else requestContext.run({ requestId: id, span }, () => void run(span))
  }

  /** Several commands of one sender mostly know the same. */
  function positionsOf(text: string): Partial<StreamPositions> | undefined {
    if (text !== lastPositions.text) lastPositions = { text, parsed: decodePositions(text) }
    return lastPositions.parsed
  }

  function positionsText(replication: Replication): string {
    return encodePositions(replication.positions())
  }

  async function reached(
    replication: Replication,
    after: Partial<StreamPositions>,
    deadlineTs: number,
  ): Promise<boolean> {
    const until = Math.min(deadlineTs, clock.now() + behindMsMax)
    const late = Promise.withResolvers<boolean>()
    const cancel = clock.after(Math.max(0, until - clock.now()), () => late.resolve(false))
    const reaching = replication.reach?.(after)?.catch((err: unknown) => {
      log.warn({ err }, 'what other mains wrote could not be looked up')
      return false
    })
    const arrived = reaching ?? untilReached(replication, after, until)
    return Promise.race([arrived, late.promise]).finally(cancel)
  }

  /** Where replication is in one process, and rows come by themselves. */
  async function untilReached(
    replication: Replication,
    after: Partial<StreamPositions>,
    untilTs: number,
  ): Promise<boolean> {
    while (!hasReached(replication, after)) {
      if (clock.now() >= untilTs) return false
      await new Promise<void>((resolve) => clock.after(5, resolve))
    }
    return true
  }

  return {
    open(deps) {
      opened = deps
    },
    stop() {
      stopping = true
    },
    get load() {
      return { commands, bytes }
    },
    obstacle,
    carryOut,
  }
}

/** undefined: no JSON, or not what the schema asks for. */
function parseRequest(schema: v.GenericSchema, body: string): { readonly output: unknown } | undefined {
  try {
    const parsed = v.safeParse(schema, parseText(body))
    return parsed.success ? parsed : undefined
  } catch (error) {
    // Of a text that nests so deep that no sender made it.
    if (error instanceof SyntaxError || error instanceof RangeError) return undefined
    throw error
  }
}
