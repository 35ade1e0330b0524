/** The client's side of sessions: one connection to each main, on which all commands travel side by side. What comes up in one
 *  turn of the event loop takes one write, which is most of what a command costs otherwise. */
import { connect } from 'node:net'
import type { Clock } from '../clock.ts'
import { outsideRequests } from '../request-context.ts'
import {
  type CommandAnswer,
  commandHeaders,
  decodeAnswer,
  type Envelope,
  encodeCommand,
  LinePairs,
  ping,
  sessionPath,
  sessionProtocol,
} from './command-protocol.ts'

/** The connection failed, or nothing came in time: what became of the command is not known. */
export class SessionError extends Error {}

export interface Sending {
  readonly answer: Promise<CommandAnswer>
  /** Gives up: `answer` rejects with SessionError, if it is still to come. */
  giveUp(why: string): void
}

export interface CommandSessions {
  /** `url`: `http://host:port` or `unix:/path`. */
  send(url: string, envelope: Envelope, body: string): Sending
  /** Connections open or being opened. */
  readonly connections: number
  close(): void
}

const limits = {
  openMs: 2_000,
  /** A connection on which nothing comes for so long, while answers are waited for, is asked whether it is there, and given
   *  up when that is not answered in the same time again. */
  silenceMs: 2_000,
  /** Without any command for so long a connection is closed. */
  idleMs: 60_000,
  headBytes: 16 * 1024,
  answerBytes: 16 * 1024 * 1024,
} as const

interface Job {
  resolve(answer: CommandAnswer): void
  reject(error: Error): void
}

interface Session {
  send(envelope: Envelope, body: string, job: Job): number
  forget(id: number): void
  end(): void
}

export function createCommandSessions(options: { readonly secret: string; readonly clock: Clock }): CommandSessions {
  const { clock } = options
  const sessions = new Map<string, Session>()
  let connections = 0
  let closed = false

  const greeting = (host: string) =>
    `GET ${sessionPath} HTTP/1.1\r\nHost: ${host}\r\nAuthorization: Bearer ${options.secret}\r\nConnection: Upgrade\r\nUpgrade: ${sessionProtocol}\r\n\r\n`

  function open(url: string): Session {
    const { address, host } = addressOf(url)
    const socket = connect(address)
    const jobs = new Map<number, Job>()
    let lastId = 0
    let outgoing = ''
    let isOpen = false
    let head: Buffer | undefined
    let pairs: LinePairs | undefined
    let heardTs = clock.now()
    let asked = false
    connections++
    socket.setNoDelay(true)
    socket.unref()

    const session: Session = {
      send(envelope, body, job) {
        const id = ++lastId
        if (jobs.size === 0) {
          heardTs = clock.now()
          socket.ref()
        }
        jobs.set(id, job)
        if (isOpen && outgoing === '') setImmediate(flush)
        outgoing += encodeCommand(id, envelope, body)
        return id
      },
      forget,
      end() {
        socket.end()
        leave()
      },
    }

    function forget(id: number): void {
      jobs.delete(id)
      if (jobs.size === 0) socket.unref()
    }

    function flush(): void {
      const text = outgoing
      outgoing = ''
      if (text !== '' && socket.writable) socket.write(text)
    }

    function leave(): void {
      if (sessions.get(url) === session) sessions.delete(url)
    }

    function fail(error: Error): void {
      leave()
      const waiting = [...jobs.values()]
      jobs.clear()
      for (const job of waiting) job.reject(error)
    }

    /** The main that was asked for a session said no, with a reason as it would give for a command. */
    function refuse(answer: CommandAnswer): void {
      leave()
      const waiting = [...jobs.values()]
      jobs.clear()
      for (const job of waiting) job.resolve(answer)
    }

    function greet(chunk: Buffer) {
      head = head ? Buffer.concat([head, chunk]) : chunk
      const end = head.indexOf('\r\n\r\n')
      if (end < 0) {
        if (head.length > limits.headBytes) socket.destroy(new SessionError('the answer has too long a head'))
        return
      }
      const text = head.toString('latin1', 0, end)
      const status = /^HTTP\/1\.[01] ([1-5]\d\d)/.exec(text)?.[1]
      if (status === undefined) return void socket.destroy(new SessionError('the answer is not HTTP'))
      if (status !== '101') {
        const reason = headerOf(text, commandHeaders.reason)
        if (reason !== undefined) refuse({ status: Number(status), reason, positions: undefined, body: '' })
        return void socket.destroy(new SessionError(`there is no main process, but what answers with status ${status}`))
      }
      opening()
      isOpen = true
      pairs = new LinePairs(limits.answerBytes)
      const rest = head.subarray(end + 4)
      head = undefined
      flush()
      if (rest.length > 0) take(pairs, rest)
    }

    function take(from: LinePairs, chunk: Buffer): void {
      const tooLong = () => void socket.destroy(new SessionError('an answer is too long'))
      const onAnswer = (first: string, second: string) => {
        if (first === 'ping') return
        const answered = decodeAnswer(first, second)
        if (!answered) {
          socket.destroy(new SessionError('an answer is garbled'))
          return
        }
        const job = jobs.get(answered.id)
        if (!job) return
        forget(answered.id)
        job.resolve(answered.answer)
      }
      if (!from.read(chunk, onAnswer, tooLong)) tooLong()
    }

    const opening = clock.after(limits.openMs, () => socket.destroy(new SessionError('no connection in time')))

    function watch() {
      const silentMs = clock.now() - heardTs
      if (jobs.size === 0) {
        if (silentMs >= limits.idleMs) session.end()
      } else if (isOpen && silentMs >= limits.silenceMs) {
        if (asked) return void socket.destroy(new SessionError('the connection is dead'))
        asked = true
        outgoing += ping
        flush()
      }
      stopWatching = clock.after(limits.silenceMs, watch)
    }
    let stopWatching = clock.after(limits.silenceMs, watch)

    socket.once('connect', () => socket.write(greeting(host)))
    socket.on('data', (chunk: Buffer) => {
      heardTs = clock.now()
      asked = false
      if (pairs) take(pairs, chunk)
      else greet(chunk)
    })
    let reason: Error | undefined
    socket.on('error', (error) => {
      reason = error
    })
    socket.on('end', () => socket.destroy())
    socket.on('close', () => {
      opening()
      stopWatching()
      connections--
      fail(
        reason instanceof SessionError
          ? reason
          : new SessionError(reason?.message ?? 'the connection was closed', reason && { cause: reason }),
      )
    })
    sessions.set(url, session)
    return session
  }

  return {
    send(url, envelope, body) {
      const { promise: answer, resolve, reject } = Promise.withResolvers<CommandAnswer>()
      let session: Session | undefined
      let id = 0
      const stop = clock.after(envelope.deadlineMs, () => giveUp('no answer in time'))
      const job: Job = {
        resolve(value) {
          stop()
          resolve(value)
        },
        reject(error) {
          stop()
          reject(error)
        },
      }
      function giveUp(why: string): void {
        session?.forget(id)
        job.reject(new SessionError(why))
      }
      try {
        if (closed) throw new SessionError('closed')
        session = sessions.get(url) ?? outsideRequests(() => open(url))
        id = session.send(envelope, body, job)
      } catch (error) {
        job.reject(new SessionError('no such address', { cause: error }))
      }
      return { answer, giveUp }
    },
    get connections() {
      return connections
    },
    close() {
      closed = true
      for (const session of [...sessions.values()]) session.end()
    },
  }
}

/** `http://host:port` or `unix:/path`; throws TypeError for anything else. */
function addressOf(url: string): {
  readonly address: { readonly host: string; readonly port: number } | { readonly path: string }
  readonly host: string
} {
  const path = /^unix:(?:\/\/)?(\/.+)$/.exec(url)?.[1]
  if (path !== undefined) return { address: { path }, host: 'localhost' }
  const { protocol, hostname, port, host } = new URL(url)
  if (protocol !== 'http:') throw new TypeError(`not a URL of a main process: ${url}`)
  return { address: { host: hostname.replace(/^\[|\]$/g, ''), port: Number(port || 80) }, host }
}

function headerOf(head: string, name: string): string | undefined {
  for (const line of head.split('\r\n')) {
    if (line.slice(0, name.length + 1).toLowerCase() === `${name}:`) return line.slice(name.length + 1).trim()
  }
  return undefined
}
