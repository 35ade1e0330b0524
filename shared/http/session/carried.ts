/** A request that came through a session, and its answer, in the shape of node's own: what answers requests does not see how
 *  they came. */
import { EventEmitter } from 'node:events'
import { type IncomingHttpHeaders, IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { jsonHeaders } from '../headers.ts'
import { chunkBytes, windowBytes } from './frames.ts'

/** In place of the connection of its own that the request does not have. */
export interface CarriedSocket {
  readonly remoteAddress: string | undefined
  readonly encrypted: boolean
  readonly destroyed: true
  readonly readable: false
}

/** `head`: method, target, and names and values of headers, a line each. Undefined for what is no head. */
export function carriedRequest(head: string, body: Buffer, socket: CarriedSocket): IncomingMessage | undefined {
  const [method = '', url = '', ...rawHeaders] = head.split('\n')
  if (!/^[A-Z]{1,16}$/.test(method) || !url.startsWith('/') || rawHeaders.length % 2 !== 0) return undefined
  const incoming = new IncomingMessage(socket as unknown as Socket)
  incoming.method = method
  incoming.url = url
  incoming.rawHeaders = rawHeaders
  incoming.headers = headersOf(rawHeaders)
  incoming.httpVersion = '1.1'
  incoming.httpVersionMajor = 1
  incoming.httpVersionMinor = 1
  incoming.complete = true
  if (body.length > 0) incoming.push(body)
  incoming.push(null)
  return incoming
}

/** Of these a request has one. Of all others node, too, makes a list. */
const single = new Set(['authorization', 'content-length', 'content-type', 'host', 'user-agent'])

function headersOf(raw: readonly string[]): IncomingHttpHeaders {
  const headers = { __proto__: null } as unknown as IncomingHttpHeaders
  for (let i = 0; i < raw.length; i += 2) {
    const name = (raw[i] ?? '').toLowerCase()
    const value = raw[i + 1] ?? ''
    const before = headers[name]
    if (before === undefined) headers[name] = value
    else if (!single.has(name)) headers[name] = `${String(before)}${name === 'cookie' ? '; ' : ', '}${value}`
  }
  return headers
}

/** Where an answer's parts go. */
export interface AnswerPath {
  whole(head: string, body: string | Uint8Array | undefined): void
  head(head: string): void
  chunk(bytes: Uint8Array): void
  end(): void
  broken(): void
}

type Headers = Readonly<Record<string, string | number | readonly string[]>>

/** What is used of node's ServerResponse, by Hono's server and by ours. */
export class CarriedAnswer extends EventEmitter {
  readonly #path: AnswerPath
  readonly #hasBody: boolean
  #head = ''
  #started = false
  /** What the window does not have room for yet. */
  #unsent: Uint8Array[] = []
  #room = windowBytes
  #ending = false

  statusCode = 200
  headersSent = false
  writable = true
  writableEnded = false
  writableFinished = false
  writableNeedDrain = false
  destroyed = false
  shouldKeepAlive = true
  /** Hono's server asks these of an answer of HTTP/1.1, to leave the length to it. */
  _contentLength: number | null = null
  readonly _hasBody = true
  readonly useChunkedEncodingByDefault = true
  readonly _removedContLen = false

  constructor(method: string, path: AnswerPath) {
    super()
    this.#path = path
    this.#hasBody = method !== 'HEAD'
  }

  hasHeader(): boolean {
    return false
  }

  /** As of node: a status, perhaps its text, headers as an object or as a list of names and values. */
  writeHead(status: number, ...rest: readonly (string | Headers | readonly string[] | undefined)[]): this {
    const headers = rest.find((each) => typeof each === 'object') as Headers | readonly string[] | undefined
    this.statusCode = status
    this.headersSent = true
    this.#head = `${status}${headers === undefined ? '' : headOf(headers)}`
    return this
  }

  flushHeaders(): void {
    if (this.#started || this.destroyed) return
    this.#started = true
    if (!this.headersSent) this.writeHead(this.statusCode)
    this.#path.head(this.#head)
  }

  /** `done` is called, not when the bytes are out, but when there is no way back. */
  write(data: string | Uint8Array, done?: () => void): boolean {
    if (this.destroyed || this.writableEnded) return false
    if (done) process.nextTick(done)
    this.flushHeaders()
    if (this.#hasBody) this.#send(typeof data === 'string' ? Buffer.from(data) : data)
    this.writableNeedDrain = this.#unsent.length > 0
    return !this.writableNeedDrain
  }

  end(data?: string | Uint8Array | null): this {
    if (this.destroyed || this.writableEnded) return this
    this.writableEnded = true
    this.writable = false
    if (!this.headersSent) this.writeHead(this.statusCode)
    const body = this.#hasBody && data !== null ? data : undefined
    if (!this.#started && (body === undefined || body.length <= chunkBytes / 3)) {
      // Whoever gets it whole knows its length, but for HEAD.
      this.#path.whole(this.#hasBody ? this.#head : this.#withLength(), body)
      this.#finish()
      return this
    }
    if (!this.#started) {
      this.#head = this.#withLength()
      this.flushHeaders()
    }
    this.#ending = true
    if (body !== undefined) this.#send(typeof body === 'string' ? Buffer.from(body) : body)
    this.#endWhenSent()
    return this
  }

  destroy(): this {
    if (this.destroyed || this.writableFinished) return this
    this.#leave()
    this.#path.broken()
    return this
  }

  /** The client took so many bytes. */
  taken(bytes: number): void {
    this.#room += bytes
    this.#pass()
    if (this.writableNeedDrain && this.#unsent.length === 0) {
      this.writableNeedDrain = false
      this.emit('drain')
    }
    this.#endWhenSent()
  }

  /** The client is gone, or the session. */
  gone(): void {
    if (!this.destroyed && !this.writableFinished) this.#leave()
  }

  #leave(): void {
    this.destroyed = true
    this.writable = false
    this.#unsent = []
    this.emit('close')
  }

  /** The length as Hono's server counted it. */
  #withLength(): string {
    return this._contentLength === null ? this.#head : `${this.#head}\ncontent-length\n${this._contentLength}`
  }

  #send(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; at += chunkBytes) this.#unsent.push(bytes.subarray(at, at + chunkBytes))
    this.#pass()
  }

  #pass(): void {
    let sent = 0
    for (const bytes of this.#unsent) {
      if (this.#room <= 0) break
      this.#room -= bytes.length
      this.#path.chunk(bytes)
      sent++
    }
    if (sent > 0) this.#unsent.splice(0, sent)
  }

  #endWhenSent(): void {
    if (!this.#ending || this.#unsent.length > 0 || this.destroyed || this.writableFinished) return
    this.#path.end()
    this.#finish()
  }

  #finish(): void {
    this.writableFinished = true
    // Listeners are added by who called `end`, after it.
    process.nextTick(finished, this)
  }
}

function finished(answer: CarriedAnswer): void {
  answer.emit('finish')
  answer.emit('close')
}

function headOf(headers: Headers | readonly string[]): string {
  if (headers === jsonHeaders) return jsonHead
  if (isList(headers)) return headers.map((text) => `\n${text}`).join('')
  return textOf(headers)
}

function textOf(headers: Headers): string {
  let text = ''
  for (const name in headers) {
    const value = headers[name]
    if (isList(value)) for (const each of value) text += `\n${name}\n${each}`
    else if (value !== undefined) text += `\n${name}\n${value}`
  }
  return text
}

/** Of nearly every answer. */
const jsonHead = textOf(jsonHeaders)

function isList(value: unknown): value is readonly string[] {
  return Array.isArray(value)
}
