/** A lean HTTP/1.1 client: the load generator shares two cores with the server and must not be what is measured. */
import { channel } from 'node:diagnostics_channel'
import { connect, type Socket } from 'node:net'

export interface Answer {
  readonly status: number
  readonly body: string
}

export interface AnsweredRequest extends Answer {
  readonly method: string
  /** Path and query. */
  readonly target: string
}

/** Each answer, for who wants to look at all of them: an AnsweredRequest. */
export const answeredRequests = channel('ganglion:test:answered-request')

/** One keep-alive connection, one request at a time. */
class Connection {
  readonly #socket: Socket
  readonly #host: string
  #chunks: Buffer[] = []
  #length = 0
  #settle: { resolve: (answer: Answer) => void; reject: (error: Error) => void } | undefined
  #head: { status: number; bodyStart: number; contentLength: number | 'chunked' } | undefined

  constructor(host: string, port: number) {
    this.#host = `${host}:${port}`
    this.#socket = connect(port, host)
    this.#socket.setNoDelay(true)
    this.#socket.on('data', (chunk) => this.#receive(chunk))
    this.#socket.on('error', (error) => this.#fail(error))
    this.#socket.on('close', () => this.#fail(new Error('the server closed the connection')))
  }

  request(method: string, path: string, token: string | undefined, body: string | undefined): Promise<Answer> {
    // A socket that ended while nobody asked tells nobody who writes to it.
    if (!this.#socket.writable) return Promise.reject(new Error('the server closed the connection'))
    const headers = [
      `${method} ${path} HTTP/1.1`,
      `Host: ${this.#host}`,
      ...(token ? [`Authorization: Bearer ${token}`] : []),
      ...(body === undefined ? [] : ['Content-Type: application/json', `Content-Length: ${Buffer.byteLength(body)}`]),
    ]
    return new Promise((resolve, reject) => {
      this.#settle = { resolve, reject }
      this.#socket.write(`${headers.join('\r\n')}\r\n\r\n${body ?? ''}`)
    })
  }

  close(): void {
    this.#settle = undefined
    this.#socket.destroy()
  }

  #fail(error: Error): void {
    this.#settle?.reject(error)
    this.#settle = undefined
  }

  #receive(chunk: Buffer): void {
    this.#chunks.push(chunk)
    this.#length += chunk.length
    if (!this.#head) {
      const all = this.#joined()
      const end = all.indexOf('\r\n\r\n')
      if (end < 0) return
      const head = all.toString('latin1', 0, end)
      const length = /\r\ncontent-length: *(\d+)/i.exec(head)?.[1]
      const chunked = /\r\ntransfer-encoding: *chunked/i.test(head)
      this.#head = {
        status: Number(head.slice(9, 12)),
        bodyStart: end + 4,
        contentLength: chunked ? 'chunked' : Number(length ?? 0),
      }
    }
    const { status, bodyStart, contentLength } = this.#head
    if (contentLength === 'chunked') {
      const last = this.#chunks.at(-1)
      // The end of a chunked body can only be in the newest bytes, or split over the last two pieces.
      if (!last || !endsChunked(last.length >= 7 ? last : this.#joined())) return
      this.#finish(status, dechunk(this.#joined().subarray(bodyStart)))
    } else if (this.#length >= bodyStart + contentLength) {
      this.#finish(status, this.#joined().toString('utf8', bodyStart, bodyStart + contentLength))
    }
  }

  #joined(): Buffer {
    if (this.#chunks.length > 1) this.#chunks = [Buffer.concat(this.#chunks)]
    return this.#chunks[0] ?? Buffer.alloc(0)
  }

  #finish(status: number, body: string): void {
    this.#chunks = []
    this.#length = 0
    this.#head = undefined
    const settle = this.#settle
    this.#settle = undefined
    settle?.resolve({ status, body })
  }
}

function endsChunked(bytes: Buffer): boolean {
  return bytes.subarray(-7).toString('latin1') === '\r\n0\r\n\r\n' || bytes.toString('latin1') === '0\r\n\r\n'
}

function dechunk(bytes: Buffer): string {
  const parts: Buffer[] = []
  let at = 0
  for (;;) {
    const lineEnd = bytes.indexOf('\r\n', at)
    const size = Number.parseInt(bytes.toString('latin1', at, lineEnd), 16)
    if (!(size > 0)) return Buffer.concat(parts).toString('utf8')
    parts.push(bytes.subarray(lineEnd + 2, lineEnd + 2 + size))
    at = lineEnd + 2 + size + 2
  }
}

/** As many connections as there are requests under way; they are kept for the next ones. */
export class HttpClient {
  readonly #host: string
  readonly #port: number
  #idle: Connection[] = []

  constructor(host: string, port: number) {
    this.#host = host
    this.#port = port
  }

  async request(method: string, path: string, token?: string, body?: unknown): Promise<Answer> {
    const connection = this.#idle.pop() ?? new Connection(this.#host, this.#port)
    try {
      const text = body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body)
      const answer = await connection.request(method, path, token, text)
      if (answeredRequests.hasSubscribers) answeredRequests.publish({ method, target: path, ...answer })
      this.#idle.push(connection)
      return answer
    } catch (error) {
      connection.close()
      throw error
    }
  }

  /** Asks, insists on 200, and parses. */
  async json<T>(method: string, path: string, token?: string, body?: unknown): Promise<T> {
    const answer = await this.request(method, path, token, body)
    if (answer.status !== 200) throw new Error(`${method} ${path}: ${answer.status} ${answer.body.slice(0, 300)}`)
    return JSON.parse(answer.body) as T
  }

  close(): void {
    for (const connection of this.#idle) connection.close()
    this.#idle = []
  }
}
