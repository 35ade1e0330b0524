/** Where main takes commands from other processes: HTTP on a listener of its own, TCP or a Unix socket, for whoever knows the
 *  secret. It never takes more than it can hold: what is too much is refused at once. */
import { hash, timingSafeEqual } from 'node:crypto'
import { chmodSync, existsSync, unlinkSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import * as v from 'valibot'
import type { Clock } from '../../shared/clock.ts'
import { advertisedUrl } from '../../shared/http/advertised-url.ts'
import type { Logger } from '../../shared/logging.ts'
import { parseText } from '../../shared/matrix/engine-json.ts'
import { MatrixError } from '../../shared/matrix/matrix-error.ts'
import {
  commandHeaders,
  commandPath,
  decodePositions,
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

export interface CommandServerOptions {
  /** A TCP port (0: any free one), or a Unix socket. */
  readonly listen: { readonly port: number; readonly bind: string } | { readonly path: string }
  /** How others reach it, where the listener does not tell. */
  readonly url?: string | undefined
  /** The first is the one in use; the others are still taken. */
  readonly secrets: readonly [string, ...string[]]
  /** Commands under way at once; further ones are refused. */
  readonly queueMax: number
  readonly bodyBytesMax: number
  readonly clock: Clock
  readonly log: Pick<Logger, 'warn' | 'error'>
  readonly tracer?: Tracer | undefined
  /** Told of each command that was answered. `outcome` is `ok`, `refused` or a failure. */
  readonly observe?: (command: { readonly name: string; readonly durationMs: number; readonly outcome: string }) => void
}

export interface CommandServer {
  /** `http://host:port` or `unix:/path`. */
  readonly url: string
  /** From now on commands are run; before, they are told to come back. */
  open(deps: { readonly runner: CommandRunner; readonly replication: Replication }): void
  /** Commands under way, and the bytes of their requests. */
  readonly load: { readonly commands: number; readonly bytes: number }
  /** Takes no further commands, resolves when those under way are answered; what is left after `drainMs` is cut. */
  stop(drainMs: number): Promise<void>
}

/** Longer than clients keep idle connections. */
const keepAliveTimeoutMs = 75_000
const requestTimeoutMs = 60_000
const bytesMax = 128 * 1024 * 1024
/** Of a sender that does not say: longer than any waits. */
const deadlineMsDefault = 60_000
const deadlineMsMax = 10 * 60_000
/** Other mains' rows arrive in milliseconds; a main that is further behind should not answer. */
const behindMsMax = 2_000
const backlog = 4_096

const Key = /^[\w.:-]{8,128}$/
const Attempt = v.pipe(v.string(), v.regex(/^[1-9]\d{0,5}$/), v.transform(Number))
const Deadline = v.pipe(v.string(), v.regex(/^\d{1,9}$/), v.transform(Number))

interface Sent {
  readonly key: string
  readonly attempt: number
  readonly deadlineMs: number
  readonly after: Partial<StreamPositions> | undefined
}

type Opened = Parameters<CommandServer['open']>[0]

/** Rejects with a sentence for the operator where it can't listen. */
export async function bindCommandServer(options: CommandServerOptions): Promise<CommandServer> {
  const { listen, clock, log, queueMax, bodyBytesMax, tracer, observe } = options
  const accepted = options.secrets.map((secret) => digest(`Bearer ${secret}`))
  let opened: Opened | undefined
  let stopping: Promise<void> | undefined
  let commands = 0
  let bytes = 0

  function isAuthorized(header: string | undefined): boolean {
    if (header === undefined) return false
    const given = digest(header)
    let matches = false
    // All of them, so that time does not tell which.
    for (const secret of accepted) matches = timingSafeEqual(secret, given) || matches
    return matches
  }

  function fail(response: ServerResponse, failure: Failure, why: string): void {
    const status = failures[failure]
    const body = JSON.stringify({ errcode: 'M_UNKNOWN', error: why })
    const headers: Record<string, string | number> = {
      'Content-Type': 'application/json',
      'Content-Length': Buffer.byteLength(body),
      [commandHeaders.reason]: failure,
    }
    if (status === 503) headers['Retry-After'] = 1
    if (stopping) headers.Connection = 'close'
    response.writeHead(status, headers).end(body)
  }

  function answer(response: ServerResponse, replication: Replication, body: string, refused?: MatrixError): void {
    if (response.destroyed) return
    const headers: Record<string, string | number> = {
      'Content-Type': 'application/json',
      'Content-Length': Buffer.byteLength(body),
      [commandHeaders.positions]: encodePositions(replication.positions()),
    }
    if (refused) headers[commandHeaders.reason] = 'refused'
    if (stopping) headers.Connection = 'close'
    response.writeHead(refused ? refused.status : 200, headers).end(body)
  }

  /** What is wrong with the request before its body is read. */
  function obstacle(request: IncomingMessage): [Failure, string] | undefined {
    if (!isAuthorized(request.headers.authorization)) return ['secret', 'the secret is wrong']
    if (request.method !== 'POST' || !request.url?.startsWith(commandPath)) return ['unknown_command', 'no such path']
    if (stopping) return ['stopping', 'this main process ends']
    if (!opened) return ['starting', 'this main process starts']
    if (commands >= queueMax || bytes >= bytesMax) return ['overloaded', 'too many commands are under way']
    if (Number(request.headers['content-length']) > bodyBytesMax) return ['too_large', 'the command is too large']
    return undefined
  }

  function onRequest(request: IncomingMessage, response: ServerResponse): void {
    const problem = obstacle(request)
    if (problem || !opened) {
      if (problem) fail(response, ...problem)
      discard(request)
      return
    }
    const { runner, replication } = opened
    const startTs = clock.now()
    const name = (request.url ?? '').slice(commandPath.length)
    commands++
    let held = Number(request.headers['content-length'] ?? 0) || 0
    bytes += held
    let ended = false
    const end = (outcome: string) => {
      if (ended) return
      ended = true
      commands--
      bytes -= held
      observe?.({ name, durationMs: clock.now() - startTs, outcome })
    }
    const failed = (failure: Failure, why: string) => {
      end(failure)
      if (!response.destroyed) fail(response, failure, why)
    }
    readBody(request, bodyBytesMax, (result) => {
      if (result === 'gone') return end('gone')
      if (result === 'too_large') {
        failed('too_large', 'the command is too large')
        return discard(request)
      }
      bytes += result.length - held
      held = result.length
      const found = commandNamed(name)
      if (!found) return failed('unknown_command', 'no such command')
      const sent = sentWith(request)
      const parsed = parseRequest(found.command.request, result)
      if (!sent || !parsed) return failed('request', 'the command is not what its schema says')
      const run = async () => {
        const deadlineTs = startTs + sent.deadlineMs
        if (sent.after && !(await reached(replication, sent.after, deadlineTs)))
          return failed('behind', 'rows are missing here')
        const value = await runner.run(found.name, parsed.output, {
          key: sent.key,
          isRetry: sent.attempt > 1,
          deadlineTs,
        })
        const text = JSON.stringify(value)
        end('ok')
        answer(response, replication, text)
      }
      const onError = (error: unknown) => {
        if (error instanceof NotRunError) return failed(error.failure, error.message)
        const refusal = error instanceof MatrixError ? error : isDatabaseAway(error) ? unavailable() : undefined
        if (refusal && stopping && refusal.errcode === 'M_UNAVAILABLE')
          return failed('stopping', 'this main process ends')
        if (refusal) {
          end('refused')
          return answer(response, replication, encodeRefusal(refusal), refusal)
        }
        log.error({ command: name, err: error }, 'a command failed unexpectedly')
        failed('failed', 'the command failed')
      }
      inContext(request, name, () => run().catch(onError))
    })
  }

  /** Log lines and spans of the command belong to the request that asked for it. */
  function inContext(request: IncomingMessage, name: string, run: () => Promise<unknown>): void {
    const requestId = requestIdFrom(request.headers[commandHeaders.requestId])
    let span: Span | undefined
    if (tracer) {
      span = tracer.startServerSpan(request.headers, true)
      if (span) span.name = `command ${name}`
    }
    if (requestId === undefined) {
      void run().then(() => span?.end('ok'))
      return
    }
    requestContext.run({ requestId, span }, () => void run().then(() => span?.end('ok')))
  }

  async function reached(
    replication: Replication,
    after: Partial<StreamPositions>,
    deadlineTs: number,
  ): Promise<boolean> {
    if (hasReached(replication, after)) return true
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

  const server = createServer({ keepAliveTimeout: keepAliveTimeoutMs, requestTimeout: requestTimeoutMs }, onRequest)
  // Commands may take long; their senders say how long they wait.
  server.timeout = 0
  server.on('clientError', (_error, socket) => socket.destroy())

  const url = await new Promise<string>((resolve, reject) => {
    const where = 'path' in listen ? listen.path : `${listen.bind}:${listen.port}`
    server.once('error', (error: NodeJS.ErrnoException) => {
      const what = error.code === 'EADDRINUSE' ? 'it is taken by another program' : error.message
      reject(new Error(`cannot take commands on ${where} (\`commands.listen\`): ${what}`, { cause: error }))
    })
    if ('path' in listen) {
      removeDeadSocket(listen.path).then(() => {
        server.listen({ path: listen.path, backlog }, () => {
          chmodSync(listen.path, 0o660)
          resolve(options.url ?? `unix:${listen.path}`)
        })
      }, reject)
    } else {
      server.listen({ port: listen.port, host: listen.bind, backlog }, () => {
        resolve(options.url ?? advertisedUrl({ bind: listen.bind, port: (server.address() as AddressInfo).port }))
      })
    }
  })

  async function stop(drainMs: number): Promise<void> {
    const closed = new Promise<void>((resolve) => server.close(() => resolve()))
    const idle = setInterval(() => server.closeIdleConnections(), 20)
    const cut = setTimeout(() => server.closeAllConnections(), drainMs)
    server.closeIdleConnections()
    await closed
    clearInterval(idle)
    clearTimeout(cut)
  }

  return {
    url,
    open(deps) {
      opened = deps
    },
    get load() {
      return { commands, bytes }
    },
    stop(drainMs) {
      stopping ??= stop(drainMs)
      return stopping
    },
  }
}

function digest(text: string): Buffer {
  return hash('sha256', text, 'buffer')
}

/** What goes along with the command; undefined where it is not what it should be. */
function sentWith(request: IncomingMessage): Sent | undefined {
  const { headers } = request
  const key = headers[commandHeaders.key]
  const attempt = v.safeParse(Attempt, headers[commandHeaders.attempt] ?? '1')
  const deadline = v.safeParse(Deadline, headers[commandHeaders.deadline] ?? String(deadlineMsDefault))
  const positions = headers[commandHeaders.after]
  const after = typeof positions === 'string' ? decodePositions(positions) : undefined
  if (typeof key !== 'string' || !Key.test(key) || !attempt.success || !deadline.success) return undefined
  if (positions !== undefined && after === undefined) return undefined
  return { key, attempt: attempt.output, deadlineMs: Math.min(deadline.output, deadlineMsMax), after }
}

/** undefined: no JSON, or not what the schema asks for. */
function parseRequest(schema: v.GenericSchema, body: Buffer): { readonly output: unknown } | undefined {
  try {
    const parsed = v.safeParse(schema, parseText(body.toString('utf8')))
    return parsed.success ? parsed : undefined
  } catch (error) {
    // Of a text that nests so deep that no sender made it.
    if (error instanceof SyntaxError || error instanceof RangeError) return undefined
    throw error
  }
}

function readBody(request: IncomingMessage, max: number, done: (result: Buffer | 'gone' | 'too_large') => void): void {
  let first: Buffer | undefined
  let more: Buffer[] | undefined
  let length = 0
  let settled = false
  const settle = (result: Buffer | 'gone' | 'too_large') => {
    if (settled) return
    settled = true
    done(result)
  }
  request.on('data', (chunk: Buffer) => {
    length += chunk.length
    if (length > max) settle('too_large')
    else if (!first) first = chunk
    else {
      more ??= [first]
      more.push(chunk)
    }
  })
  request.on('end', () => settle(more ? Buffer.concat(more, length) : (first ?? Buffer.alloc(0))))
  request.on('close', () => settle('gone'))
}

/** Bytes of a request that was refused are not worth reading for long. */
function discard(request: IncomingMessage): void {
  if (request.complete) return
  let left = 64 * 1024
  request.on('data', (chunk: Buffer) => {
    left -= chunk.length
    if (left < 0) request.destroy()
  })
  request.resume()
}

/** The socket of a process that was killed stays behind; one that takes connections belongs to somebody. */
function removeDeadSocket(path: string): Promise<void> {
  if (!existsSync(path)) return Promise.resolve()
  return new Promise((resolve, reject) => {
    const probe = connect({ path })
    probe.once('connect', () => {
      probe.destroy()
      reject(new Error(`another program takes commands on ${path} (\`commands.listen\`)`))
    })
    probe.once('error', () => {
      try {
        if (existsSync(path)) unlinkSync(path)
        resolve()
      } catch (error) {
        reject(error)
      }
    })
  })
}
