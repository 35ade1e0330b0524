/** The client's side of HTTP/1.1, as far as commands need it: one request at a time a connection, connections kept open,
 *  TCP or a Unix socket. It exists for what it saves: node's own client costs several times the CPU time of the command's
 *  JSON, and a command is sent for every message that anyone writes. */
import { connect, type Socket } from 'node:net'
import type { Clock } from '../clock.ts'

export interface HttpAnswer {
  readonly status: number
  /** Value of a header by its lower-case name; undefined where it was not sent. */
  header(name: string): string | undefined
  readonly body: string
}

/** The connection failed, or nothing came in time: what became of the request is not known. */
export class ExchangeError extends Error {}

export interface Exchange {
  readonly answer: Promise<HttpAnswer>
  /** Gives up: `answer` rejects with ExchangeError, if it is still to come. */
  cut(why: string): void
}

export interface HttpExchanges {
  /** `head` are the header lines, each with its line end, but for Host and Content-Length. */
  post(request: {
    readonly url: string
    readonly path: string
    readonly head: string
    readonly body: string
    readonly timeoutMs: number
  }): Exchange
  /** Connections open to all processes. */
  readonly connections: number
  close(): void
}

const limits = {
  /** To one process; further requests wait for one that is free. */
  connectionsPerTarget: 256,
  waitingPerTarget: 4_000,
  /** Shorter than the server's, so that it is never the server who closes a connection that is about to be used. */
  idleMs: 20_000,
  connectMs: 2_000,
  headBytes: 16 * 1024,
  bodyBytes: 16 * 1024 * 1024,
} as const

interface Job {
  /** The whole request. */
  text(host: string): string
  resolve(answer: HttpAnswer): void
  reject(error: Error): void
  /** Set while it has a connection. */
  connection: Connection | undefined
  settled: boolean
}

interface Target {
  readonly address: { readonly host: string; readonly port: number } | { readonly path: string }
  readonly host: string
  readonly idle: Connection[]
  readonly waiting: Job[]
  open: number
}

interface Connection {
  readonly socket: Socket
  job: Job | undefined
  idleSince: number
}

export function createHttpExchanges(clock: Clock): HttpExchanges {
  const targets = new Map<string, Target>()
  let connections = 0
  let closed = false
  let sweeping: (() => void) | undefined

  function targetOf(url: string): Target {
    let target = targets.get(url)
    if (!target) {
      target = { ...addressOf(url), idle: [], waiting: [], open: 0 }
      targets.set(url, target)
    }
    return target
  }

  function begin(target: Target, connection: Connection, job: Job): void {
    connection.job = job
    job.connection = connection
    connection.socket.write(job.text(target.host))
  }

  function dispatch(target: Target, job: Job): void {
    // The one used last: the others then get old enough to be closed.
    for (let connection = target.idle.pop(); connection; connection = target.idle.pop()) {
      if (!connection.socket.writable) continue
      connection.socket.ref()
      begin(target, connection, job)
      return
    }
    if (target.open < limits.connectionsPerTarget) begin(target, open(target), job)
    else if (target.waiting.length >= limits.waitingPerTarget) job.reject(new ExchangeError('too many requests wait'))
    else target.waiting.push(job)
  }

  function open(target: Target): Connection {
    const socket = connect(target.address)
    socket.setNoDelay(true)
    const connection: Connection = { socket, job: undefined, idleSince: 0 }
    const reader = new AnswerReader()
    target.open++
    connections++
    const late = clock.after(limits.connectMs, () => socket.destroy(new ExchangeError('no connection in time')))
    socket.once('connect', late)
    socket.on('data', (chunk: Buffer) => {
      const { job } = connection
      if (!job) {
        socket.destroy()
        return
      }
      let answer: HttpAnswer | undefined
      try {
        answer = reader.read(chunk)
      } catch (error) {
        socket.destroy(error as Error)
        return
      }
      if (!answer) return
      connection.job = undefined
      job.connection = undefined
      job.resolve(answer)
      if (reader.ends || closed) socket.end()
      else free(target, connection)
    })
    socket.on('error', (error) => lost(connection, error))
    socket.on('end', () => socket.destroy())
    socket.on('close', () => {
      late()
      target.open--
      connections--
      const at = target.idle.indexOf(connection)
      if (at >= 0) target.idle.splice(at, 1)
      lost(connection, new ExchangeError('the connection was closed'))
      const next = nextWaiting(target)
      if (next && !closed) dispatch(target, next)
    })
    return connection
  }

  function lost(connection: Connection, error: Error): void {
    const { job } = connection
    connection.job = undefined
    job?.reject(error instanceof ExchangeError ? error : new ExchangeError(error.message, { cause: error }))
  }

  function free(target: Target, connection: Connection): void {
    const next = nextWaiting(target)
    if (next) {
      begin(target, connection, next)
      return
    }
    connection.idleSince = clock.now()
    target.idle.push(connection)
    // Nothing to wait for: the process may end.
    connection.socket.unref()
    sweeping ??= clock.after(limits.idleMs, sweep)
  }

  function nextWaiting(target: Target): Job | undefined {
    for (let job = target.waiting.shift(); job; job = target.waiting.shift()) if (!job.settled) return job
    return undefined
  }

  function sweep(): void {
    sweeping = undefined
    const oldest = clock.now() - limits.idleMs
    let some = false
    for (const [url, target] of targets) {
      while (target.idle[0] && target.idle[0].idleSince <= oldest) target.idle.shift()?.socket.end()
      some ||= target.idle.length > 0
      if (target.open === 0 && target.waiting.length === 0) targets.delete(url)
    }
    if (some && !closed) sweeping = clock.after(limits.idleMs, sweep)
  }

  return {
    post({ url, path, head, body, timeoutMs }) {
      const { promise: answer, resolve, reject } = Promise.withResolvers<HttpAnswer>()
      let cancel = () => {}
      const job: Job = {
        text: (host) =>
          `POST ${path} HTTP/1.1\r\nHost: ${host}\r\n${head}Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
        connection: undefined,
        settled: false,
        resolve(value) {
          job.settled = true
          cancel()
          resolve(value)
        },
        reject(error) {
          if (job.settled) return
          job.settled = true
          cancel()
          reject(error)
        },
      }
      const cut = (why: string) => {
        const { connection } = job
        job.reject(new ExchangeError(why))
        connection?.socket.destroy()
      }
      if (closed) job.reject(new ExchangeError('closed'))
      else {
        cancel = clock.after(timeoutMs, () => cut('no answer in time'))
        try {
          dispatch(targetOf(url), job)
        } catch (error) {
          job.reject(new ExchangeError('no such address', { cause: error }))
        }
      }
      return { answer, cut }
    },
    get connections() {
      return connections
    },
    close() {
      closed = true
      sweeping?.()
      for (const target of targets.values()) {
        for (const job of target.waiting.splice(0)) job.reject(new ExchangeError('closed'))
        for (const connection of target.idle.splice(0)) connection.socket.end()
      }
    },
  }
}

/** `http://host:port` or `unix:/path`; throws TypeError for anything else. */
function addressOf(url: string): Pick<Target, 'address' | 'host'> {
  const path = /^unix:(?:\/\/)?(\/.+)$/.exec(url)?.[1]
  if (path !== undefined) return { address: { path }, host: 'localhost' }
  const { protocol, hostname, port, host } = new URL(url)
  if (protocol !== 'http:') throw new TypeError(`not a URL of a main process: ${url}`)
  return { address: { host: hostname.replace(/^\[|\]$/g, ''), port: Number(port || 80) }, host }
}

const endOfHead = Buffer.from('\r\n\r\n')

/** Puts one answer after the other together from what arrives. Throws ExchangeError for what is no answer. */
class AnswerReader {
  /** Whether the server closes the connection after the last answer. */
  ends = false
  #pending: Buffer | undefined
  #wanted = 0

  read(chunk: Buffer): HttpAnswer | undefined {
    const bytes: Buffer = this.#pending ? Buffer.concat([this.#pending, chunk]) : chunk
    // While a long body arrives nothing is looked at before it is all there.
    if (bytes.length < this.#wanted) {
      this.#pending = bytes
      return undefined
    }
    const headEnd = bytes.indexOf(endOfHead)
    if (headEnd < 0) {
      if (bytes.length > limits.headBytes) throw new ExchangeError('the answer has too long a head')
      this.#pending = bytes
      return undefined
    }
    const head = bytes.toString('latin1', 0, headEnd + 2)
    if (!/^HTTP\/1\.[01] [2-5]\d\d/.test(head)) throw new ExchangeError('the answer is not HTTP')
    const header = (name: string) => headerOf(head, name)
    const start = headEnd + 4
    const length = header('content-length')
    let body: string
    if (length === undefined) {
      if (header('transfer-encoding') !== 'chunked') throw new ExchangeError('the answer has no length')
      const joined = unchunked(bytes, start)
      if (joined === undefined) {
        if (bytes.length > limits.bodyBytes) throw new ExchangeError('the answer is too long')
        this.#pending = bytes
        return undefined
      }
      body = joined
    } else {
      const size = Number(length)
      if (!(size >= 0 && size <= limits.bodyBytes)) throw new ExchangeError('the answer is too long')
      if (bytes.length < start + size) {
        this.#pending = bytes
        this.#wanted = start + size
        return undefined
      }
      if (bytes.length > start + size) throw new ExchangeError('more came than was asked for')
      body = bytes.toString('utf8', start, start + size)
    }
    this.#pending = undefined
    this.#wanted = 0
    this.ends = header('connection') === 'close'
    return { status: Number(head.slice(9, 12)), header, body }
  }
}

function headerOf(head: string, name: string): string | undefined {
  for (let at = head.indexOf('\r\n'); at >= 0; ) {
    const next = head.indexOf('\r\n', at + 2)
    if (next < 0) return undefined
    if (head.charCodeAt(at + 2 + name.length) === 0x3a && isName(head, at + 2, name)) {
      return head.slice(at + 3 + name.length, next).trim()
    }
    at = next
  }
  return undefined
}

function isName(head: string, at: number, name: string): boolean {
  return head.slice(at, at + name.length).toLowerCase() === name
}

/** The body of an answer that some proxy sent in chunks; undefined while some of it is missing. */
function unchunked(bytes: Buffer, start: number): string | undefined {
  const parts: Buffer[] = []
  for (let at = start; ; ) {
    const lineEnd = bytes.indexOf('\r\n', at)
    if (lineEnd < 0) return undefined
    const size = Number.parseInt(bytes.toString('latin1', at, lineEnd), 16)
    if (!(size >= 0 && size <= limits.bodyBytes)) throw new ExchangeError('the answer is garbled')
    if (bytes.length < lineEnd + 4 + size) return undefined
    if (size === 0) return Buffer.concat(parts).toString('utf8')
    parts.push(bytes.subarray(lineEnd + 2, lineEnd + 2 + size))
    at = lineEnd + 4 + size
  }
}
