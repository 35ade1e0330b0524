/** Sends commands to the main process that owns their shard, again and again until one answers or the time is over: through
 *  lost connections, restarts, and moves of the shard. The command's key makes sure that all of it is one effect. */
import { randomUUID } from 'node:crypto'
import * as v from 'valibot'
import type { Clock } from '../clock.ts'
import { type AnyCommand, shardOfCommand } from '../commands/define.ts'
import { commands, type MainClient } from '../commands/registry.ts'
import type { Logger } from '../logging.ts'
import { parseText } from '../matrix/engine-json.ts'
import { MatrixError } from '../matrix/matrix-error.ts'
import { outsideRequests, requestContext } from '../request-context.ts'
import type { StreamPositions } from '../streams/registry.ts'
import {
  type CommandAnswer,
  decodePositions,
  decodeRefusal,
  encodePositions,
  isWorthRepeating,
} from './command-protocol.ts'
import { createCommandSessions, type Sending, SessionError } from './command-sessions.ts'
import type { Replication } from './replication.ts'
import type { ShardDirectory, ShardOwner } from './shard-directory.ts'

export interface CommandClientOptions {
  readonly directory: ShardDirectory
  readonly secret: string
  readonly clock: Clock
  readonly log: Pick<Logger, 'warn'>
  /** Its positions go along: a main that is behind them waits before it runs a command. */
  readonly replication?: Pick<Replication, 'positions'> | undefined
  /** Main's positions after each command. */
  readonly onPositions?: (positions: Partial<StreamPositions>) => void
  /** How long a command is tried, in ms, where its declaration does not say. */
  readonly timeoutMs?: number
  /** Told of each command when it has ended. */
  readonly observe?: (sent: SentCommand) => void
}

export interface SentCommand {
  readonly name: string
  readonly attempts: number
  readonly durationMs: number
  /** `ok`; `refused`: main answered with a MatrixError; `gave_up`: no main answered in time; `failed`: a fault. */
  readonly outcome: 'ok' | 'refused' | 'gave_up' | 'failed'
}

/** A fault of a process, nothing that the caller did: answered as an internal error. */
export class CommandFaultError extends Error {}

const defaultTimeoutMs = 20_000
const backOff = { firstMs: 15, lastMs: 400 } as const
/** After the shard has a new owner, what the old one may still have sent is waited for so long. */
const graceMs = 100
/** A command that waits longer has the directory looked up: what told of a move may have been lost. */
const slowMs = 1_000
const retryAfterMs = 2_000
/** So often a main that was just found is asked without a pause. */
const promptAttempts = 4
/** A main that lost its lease is replaced within this time, or the database is away for all and callers should hear of it. */
const awayMs = 6_000
const warnEveryMs = 1_000
/** Commands of this process that may wait at once, each in the memory of a request. */
const pendingMax = 10_000

interface InFlight {
  readonly shard: number | undefined
  readonly owner: ShardOwner
  readonly sinceTs: number
  readonly sending: Sending
}

export interface CommandConnection {
  readonly main: MainClient
  /** Connections open to mains. */
  readonly connections: number
  /** Commands that wait for an answer. */
  readonly inFlight: number
  /** Lets go of the connections; commands under way are answered first. */
  close(): void
}

/** The functions throw what the command's handler threw as a MatrixError; M_UNAVAILABLE when no main answered in time;
 *  CommandFaultError for what should not happen. */
export function createCommandClient(options: CommandClientOptions): MainClient {
  return connectCommands(options).main
}

export function connectCommands(options: CommandClientOptions): CommandConnection {
  const { directory, clock, log, replication, timeoutMs = defaultTimeoutMs, observe, onPositions } = options
  const sessions = createCommandSessions({ secret: options.secret, clock })
  const inFlight = new Set<InFlight>()
  const sleepers = new Set<() => void>()
  let watching: (() => void) | undefined
  let pending = 0
  let warnedTs = 0
  let closed = false

  if (!/^[\x21-\x7e]+$/.test(options.secret))
    throw new TypeError('commands.secret must be of printable ASCII, without spaces')

  /** While a main is away, every command that waits for it would say so. */
  function warn(fields: { command: string; main: string; attempt: number; err: Error }): void {
    const now = clock.now()
    if (now - warnedTs < warnEveryMs) return
    warnedTs = now
    log.warn(fields, 'a main process did not answer')
  }

  const unsubscribe = directory.onChange(() => {
    for (const wake of [...sleepers]) wake()
    // Whoever waits for an owner of the past may wait in vain: it is dead, or frozen.
    clock.after(graceMs, () => {
      for (const flight of inFlight) if (!isCurrent(flight)) flight.sending.giveUp('the shard has another owner')
    })
  })

  function isCurrent({ shard, owner }: InFlight): boolean {
    if (shard === undefined) return directory.knows(owner)
    const now = directory.ownerOf(shard)
    return now === undefined || (now.id === owner.id && now.url === owner.url)
  }

  /** While something takes long, looks again now and then whether it is waited for at the right place. */
  function watch(): void {
    watching ??= outsideRequests(() =>
      clock.after(slowMs, () => {
        watching = undefined
        const [oldest] = inFlight
        if (!oldest) return
        if (clock.now() - oldest.sinceTs >= slowMs) void directory.refresh(oldest)
        watch()
      }),
    )
  }

  function sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const wake = () => {
        sleepers.delete(wake)
        cancel()
        resolve()
      }
      const cancel = clock.after(ms, wake)
      sleepers.add(wake)
    })
  }

  async function ask(
    name: string,
    body: string,
    to: { readonly shard: number | undefined; readonly owner: ShardOwner },
    again: { readonly key: string; readonly attempt: number; readonly leftMs: number },
  ): Promise<CommandAnswer> {
    const context = requestContext.getStore()
    const envelope = {
      name,
      key: again.key,
      attempt: again.attempt,
      deadlineMs: again.leftMs,
      after: replication && encodePositions(replication.positions()),
      requestId: context?.requestId,
      traceparent: context?.span?.traceparent,
    }
    const sending = sessions.send(to.owner.url, envelope, body)
    const flight = { ...to, sinceTs: clock.now(), sending }
    inFlight.add(flight)
    watch()
    try {
      return await sending.answer
    } finally {
      inFlight.delete(flight)
    }
  }

  async function send(command: AnyCommand, request: unknown): Promise<unknown> {
    if (pending >= pendingMax) throw unavailable('The server has too much to do at the moment', 1_000)
    pending++
    try {
      return await sendUntil(command, request)
    } finally {
      pending--
    }
  }

  async function sendUntil(command: AnyCommand, request: unknown): Promise<unknown> {
    const { name } = command
    const startTs = clock.now()
    let deadlineTs = startTs + (command.deadlineMs ?? timeoutMs)
    const shard = shardOfCommand(command, request)
    const body = JSON.stringify(request)
    const key = randomUUID()
    let attempt = 0
    let pauseMs: number = backOff.firstMs
    const ended = (outcome: SentCommand['outcome']) =>
      observe?.({ name, attempts: attempt, durationMs: clock.now() - startTs, outcome })

    for (;;) {
      const leftMs = deadlineTs - clock.now()
      if (leftMs <= 0 || closed) {
        ended('gave_up')
        throw unavailable('The server cannot store anything at the moment', retryAfterMs)
      }
      const owner = shard === undefined ? directory.anyMain() : directory.ownerOf(shard)
      let lookAgain = true
      if (owner) {
        attempt++
        try {
          const answer = await ask(name, body, { shard, owner }, { key, attempt, leftMs })
          const { reason } = answer
          if (reason === undefined || !isWorthRepeating(reason)) {
            const result = resultOf(command, answer)
            ended(result instanceof MatrixError ? 'refused' : result instanceof CommandFaultError ? 'failed' : 'ok')
            if (result instanceof Error) throw result
            return result
          }
          if (reason === 'away') deadlineTs = Math.min(deadlineTs, startTs + awayMs)
          // Who is only busy is still the right one.
          lookAgain = reason !== 'overloaded' && reason !== 'behind'
        } catch (error) {
          if (!(error instanceof SessionError)) throw error
          warn({ command: name, main: owner.id, attempt, err: error })
        }
      }
      if (lookAgain) {
        await directory.refresh({ shard, owner })
        const now = shard === undefined ? directory.anyMain() : directory.ownerOf(shard)
        if (attempt < promptAttempts && now && (now.id !== owner?.id || now.url !== owner.url)) continue
      }
      await sleep(Math.max(0, Math.min(pauseMs * (0.5 + Math.random() / 2), deadlineTs - clock.now())))
      pauseMs = Math.min(pauseMs * 2, backOff.lastMs)
    }
  }

  function resultOf(command: AnyCommand, { status, reason, positions, body }: CommandAnswer): unknown {
    const fault = (why: string, cause?: unknown) =>
      new CommandFaultError(`command ${command.name}: ${why}`, cause === undefined ? undefined : { cause })
    if (positions !== undefined && onPositions) {
      const reached = decodePositions(positions)
      if (reached) onPositions(reached)
    }
    if (reason !== undefined && reason !== 'refused') return fault(`main failed (${reason}, status ${status})`)
    if (reason === undefined && status !== 200) return fault(`status ${status}, and no reason given`)
    try {
      const value = parseText(body)
      return reason === 'refused' ? decodeRefusal(value) : v.parse(command.response, value)
    } catch (error) {
      return fault('the answer is not what was expected', error)
    }
  }

  const entries = Object.entries(commands as Record<string, AnyCommand>).map(([name, command]) => [
    name,
    (request: unknown) => send(command, request),
  ])
  return {
    main: Object.fromEntries(entries) as MainClient,
    get connections() {
      return sessions.connections
    },
    get inFlight() {
      return pending
    },
    close() {
      closed = true
      for (const wake of [...sleepers]) wake()
      unsubscribe()
      watching?.()
      sessions.close()
    },
  }
}

function unavailable(message: string, retry_after_ms: number): MatrixError {
  return new MatrixError('M_UNAVAILABLE', message, { extra: { retry_after_ms } })
}
