/** Where main takes commands from other processes: HTTP on a listener of its own, TCP or a Unix socket, for whoever knows the
 *  secret. It never takes more than it can hold: what is too much is refused at once. */
import { hash, timingSafeEqual } from 'node:crypto'
import { chmodSync, existsSync, unlinkSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { type AddressInfo, connect, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import * as v from 'valibot'
import { advertisedUrl } from '../../shared/http/advertised-url.ts'
import {
  type CommandAnswer,
  commandHeaders,
  commandPath,
  type Envelope,
  type Failure,
  Key,
  sessionPath,
  sessionProtocol,
} from '../../shared/replication/command-protocol.ts'
import {
  type CommandIntake,
  type CommandIntakeOptions,
  createCommandIntake,
  failure,
  type OpenedIntake,
} from './command-intake.ts'
import { type CommandSession, openSession } from './command-session.ts'

export interface CommandServerOptions extends CommandIntakeOptions {
  /** A TCP port (0: any free one), or a Unix socket. */
  readonly listen: { readonly port: number; readonly bind: string } | { readonly path: string }
  /** How others reach it, where the listener does not tell. */
  readonly url?: string | undefined
  /** The first is the one in use; the others are still taken. */
  readonly secrets: readonly [string, ...string[]]
}

export interface CommandServer {
  /** `http://host:port` or `unix:/path`. */
  readonly url: string
  /** From now on commands are run; before, they are told to come back. */
  open(deps: OpenedIntake): void
  readonly load: CommandIntake['load']
  /** Takes no further commands, resolves when those under way are answered; what is left after `drainMs` is cut. */
  stop(drainMs: number): Promise<void>
}

/** Longer than clients keep idle connections. */
const keepAliveTimeoutMs = 75_000
const requestTimeoutMs = 60_000
/** Of a sender that does not say: longer than any waits. */
const deadlineMsDefault = 60_000
const backlog = 4_096

const Attempt = v.pipe(v.string(), v.regex(/^[1-9]\d{0,5}$/), v.transform(Number))
const Deadline = v.pipe(v.string(), v.regex(/^\d{1,9}$/), v.transform(Number))

/** Rejects with a sentence for the operator where it can't listen. */
export async function bindCommandServer(options: CommandServerOptions): Promise<CommandServer> {
  const { listen, bodyBytesMax } = options
  const intake = createCommandIntake(options)
  const accepted = options.secrets.map((secret) => digest(`Bearer ${secret}`))
  let stopping: Promise<void> | undefined
  const sessions = new Set<CommandSession>()

  function isAuthorized(header: string | undefined): boolean {
    if (header === undefined) return false
    const given = digest(header)
    let matches = false
    // All of them, so that time does not tell which.
    for (const secret of accepted) matches = timingSafeEqual(secret, given) || matches
    return matches
  }

  function answerHttp(response: ServerResponse, { status, reason, positions, body }: CommandAnswer): void {
    if (response.destroyed) return
    const headers: Record<string, string | number> = {
      'Content-Type': 'application/json',
      'Content-Length': Buffer.byteLength(body),
    }
    if (reason !== undefined) headers[commandHeaders.reason] = reason
    if (positions !== undefined) headers[commandHeaders.positions] = positions
    if (status === 503) headers['Retry-After'] = 1
    if (stopping) headers.Connection = 'close'
    response.writeHead(status, headers).end(body)
  }

  function onRequest(request: IncomingMessage, response: ServerResponse) {
    const turnAway = (reason: Failure) => {
      answerHttp(response, failure(reason))
      discard(request)
    }
    if (!isAuthorized(request.headers.authorization)) return turnAway('secret')
    if (request.method !== 'POST' || !request.url?.startsWith(commandPath)) return turnAway('unknown_command')
    const problem = intake.obstacle()
    if (problem) return turnAway(problem)
    const envelope = envelopeOf(request)
    if (!envelope) return turnAway('request')
    readBody(request, bodyBytesMax, (result) => {
      if (result === 'gone') return
      if (result === 'too_large') return turnAway('too_large')
      intake.carryOut(envelope, result.toString('utf8'), (answer) => answerHttp(response, answer))
    })
  }

  function onUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer) {
    const turnAway = (reason: Failure) => {
      const { status, body } = failure(reason)
      socket.end(
        `HTTP/1.1 ${status} ${reason}\r\n${commandHeaders.reason}: ${reason}\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
      )
    }
    socket.on('error', () => socket.destroy())
    if (!isAuthorized(request.headers.authorization)) return turnAway('secret')
    if (request.url !== sessionPath || request.headers.upgrade !== sessionProtocol) return turnAway('unknown_command')
    if (stopping) return turnAway('stopping')
    const session = openSession({ socket: socket as Socket, bodyBytesMax, carryOut: intake.carryOut })
    sessions.add(session)
    socket.on('close', () => sessions.delete(session))
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${sessionProtocol}\r\n\r\n`)
    if (head.length > 0) session.take(head)
  }

  const server = createServer({ keepAliveTimeout: keepAliveTimeoutMs, requestTimeout: requestTimeoutMs }, onRequest)
  server.on('upgrade', onUpgrade)
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
    const cut = setTimeout(() => {
      server.closeAllConnections()
      for (const session of sessions) session.cut()
    }, drainMs)
    for (const session of sessions) session.end()
    server.closeIdleConnections()
    await closed
    clearInterval(idle)
    clearTimeout(cut)
  }

  return {
    url,
    open: intake.open,
    get load() {
      return intake.load
    },
    stop(drainMs) {
      intake.stop()
      stopping ??= stop(drainMs)
      return stopping
    },
  }
}

function digest(text: string): Buffer {
  return hash('sha256', text, 'buffer')
}

/** What the headers say; undefined where they are not what they should be. */
function envelopeOf({ url = '', headers }: IncomingMessage): Envelope | undefined {
  const text = (name: string) => {
    const value = headers[name]
    return typeof value === 'string' ? value : undefined
  }
  const key = text(commandHeaders.key)
  const attempt = v.safeParse(Attempt, text(commandHeaders.attempt) ?? '1')
  const deadline = v.safeParse(Deadline, text(commandHeaders.deadline) ?? String(deadlineMsDefault))
  if (key === undefined || !Key.test(key) || !attempt.success || !deadline.success) return undefined
  return {
    name: url.slice(commandPath.length),
    key,
    attempt: attempt.output,
    deadlineMs: deadline.output,
    after: text(commandHeaders.after),
    requestId: text(commandHeaders.requestId),
    traceparent: text(commandHeaders.traceparent),
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
