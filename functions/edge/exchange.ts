/** One request on its way through Node's edge: its body streams to a handler, the answer streams back, and when one side
 *  goes away the other is told. Where a handler fails before its answer began, another gets the request, if that is safe. */
import type { ClientRequest, IncomingMessage, ServerResponse } from 'node:http'
import { brokenOff, type EdgeAnswer, noHandler, tookTooLong, tooLarge } from './answers.ts'
import type { Forward } from './decide.ts'
import { answerHeaderGoesOn, type ClientFacts, forwardedHeaders, requestHeaderGoesOn } from './forwarded-headers.ts'
import type { HandlerConnections } from './handler-connections.ts'
import type { Upstream, Upstreams } from './upstreams.ts'

export interface ExchangeDeps {
  readonly upstreams: Upstreams
  readonly connections: HandlerConnections
  readonly onFailure: (failure: { upstream: string; requestId: string; error: Error; answered: boolean }) => void
}

/** Held until it is whole: then it goes out in one piece with its head, and can be sent again. */
const wholeBodyBytesMax = 64 * 1024
const attemptsMax = 3
/** For a handler to appear, such as the first one of a role that was scaled to zero. */
const appearMs = 5_000
const waitingMax = 2_000
/** To the first byte of the answer; no long poll lasts so long. */
const answerMs = 240_000
/** What a client may go on sending after it was told that its body is too large. */
const discardedBytesMax = 16 * 1024 * 1024

export class Exchange {
  readonly #incoming: IncomingMessage
  readonly #outgoing: ServerResponse
  readonly #forward: Forward
  readonly #deps: ExchangeDeps
  readonly #requestId: string
  readonly #headers: string[]
  readonly #tried: Upstream[] = []
  /** The whole body, where it was waited for. */
  #body: Buffer | undefined
  /** The body goes out as it comes in, once. */
  #streams = false
  #streaming = false
  #request: ClientRequest | undefined
  #clientLeft = false

  constructor(
    incoming: IncomingMessage,
    outgoing: ServerResponse,
    forward: Forward,
    facts: ClientFacts,
    deps: ExchangeDeps,
  ) {
    this.#incoming = incoming
    this.#outgoing = outgoing
    this.#forward = forward
    this.#deps = deps
    this.#requestId = facts.requestId
    this.#headers = requestHeaders(incoming, facts)
  }

  start(): void {
    this.#outgoing.once('close', () => {
      if (this.#outgoing.writableFinished) return
      this.#clientLeft = true
      this.#request?.destroy()
    })
    const { headers } = this.#incoming
    const chunked = headers['transfer-encoding'] !== undefined
    const length = headers['content-length']
    if (!chunked && (length === undefined || length === '0')) this.#attempt()
    else if (!chunked && Number(length) <= wholeBodyBytesMax) this.#collect()
    else {
      // Framed for the handler as it was framed for us.
      if (chunked) this.#headers.push('Transfer-Encoding', 'chunked')
      this.#streams = true
      this.#attempt()
    }
  }

  #collect(): void {
    const incoming = this.#incoming
    let chunks: Buffer | Buffer[] | undefined
    incoming.on('data', (chunk: Buffer) => {
      if (chunks === undefined) chunks = chunk
      else if (Array.isArray(chunks)) chunks.push(chunk)
      else chunks = [chunks, chunk]
    })
    incoming.on('end', () => {
      this.#body = Array.isArray(chunks) ? Buffer.concat(chunks) : chunks
      this.#attempt()
    })
  }

  #attempt(): void {
    const upstream = this.#deps.upstreams.pick(this.#forward.stickyKey, this.#tried)
    if (upstream) this.#send(upstream)
    else if (this.#tried.length === 0 && this.#deps.upstreams.waiting < waitingMax) void this.#wait()
    else this.#answer(noHandler)
  }

  async #wait(): Promise<void> {
    await this.#deps.upstreams.appear(appearMs)
    if (this.#clientLeft) return
    const upstream = this.#deps.upstreams.pick(this.#forward.stickyKey, this.#tried)
    if (upstream) this.#send(upstream)
    else this.#answer(noHandler)
  }

  #send(upstream: Upstream): void {
    this.#tried.push(upstream)
    upstream.load++
    const { method = 'GET', url: target = '/' } = this.#incoming
    const headers = upstream.host === undefined ? this.#headers : withHost(this.#headers, upstream.host)
    const request = this.#deps.connections.request(upstream.url, method, target, headers)
    this.#request = request
    let over = false
    const end = () => {
      if (over) return
      over = true
      upstream.load--
      clearTimeout(late)
    }
    const late = setTimeout(() => {
      end()
      request.destroy()
      this.#answer(tookTooLong)
    }, answerMs)
    request.once('response', (answer) => {
      clearTimeout(late)
      this.#deps.upstreams.succeeded(upstream)
      answer.once('close', end)
      this.#relay(answer, upstream)
    })
    request.once('error', (error) => {
      if (over) return
      end()
      if (!this.#clientLeft) this.#failed(upstream, request, error)
    })
    if (this.#streams) {
      // Not a byte of it is taken before somebody is there to get it: another handler can still have it whole.
      this.#deps.connections.whenConnected(request, () => this.#stream(request))
    } else request.end(this.#body)
  }

  #stream(request: ClientRequest): void {
    const incoming = this.#incoming
    this.#streaming = true
    let bytes = 0
    let discards = false
    const discard = () => {
      discards = true
      bytes = 0
      incoming.resume()
    }
    incoming.on('data', (chunk: Buffer) => {
      bytes += chunk.length
      if (discards) {
        if (bytes > discardedBytesMax) incoming.destroy()
      } else if (bytes > this.#forward.bodyBytesMax) {
        discard()
        request.destroy()
        this.#answer(tooLarge)
      } else if (!request.write(chunk)) incoming.pause()
    })
    request.on('drain', () => incoming.resume())
    // The handler answered without waiting for the rest, or is gone.
    request.once('close', discard)
    incoming.once('end', () => {
      if (!discards) request.end()
    })
  }

  #failed(upstream: Upstream, request: ClientRequest, error: Error): void {
    const { upstreams, connections, onFailure } = this.#deps
    const reached = connections.reached(request)
    const answered = this.#outgoing.headersSent
    // A connection that was kept and closed by the other side in the same moment says nothing of the handler's health.
    if (!reached || !request.reusedSocket) upstreams.failed(upstream)
    onFailure({ upstream: upstream.url, requestId: this.#requestId, error, answered })
    if (answered) {
      // The client must see that this is not the end of the answer.
      this.#outgoing.destroy()
      return
    }
    const again = !this.#streaming && (!reached || this.#forward.repeatable) && this.#tried.length < attemptsMax
    if (!again) this.#answer(reached ? brokenOff : noHandler)
    else {
      const next = upstreams.pick(this.#forward.stickyKey, this.#tried)
      if (next) this.#send(next)
      else this.#answer(reached ? brokenOff : noHandler)
    }
  }

  #relay(answer: IncomingMessage, upstream: Upstream): void {
    const outgoing = this.#outgoing
    if (this.#clientLeft || outgoing.headersSent) {
      answer.destroy()
      return
    }
    outgoing.writeHead(answer.statusCode ?? 502, answerHeaders(answer))
    answer.on('data', (chunk: Buffer) => {
      if (!outgoing.write(chunk)) {
        answer.pause()
        outgoing.once('drain', () => answer.resume())
      }
    })
    answer.once('end', () => outgoing.end())
    answer.once('error', (error) => {
      if (this.#clientLeft) return
      this.#deps.onFailure({ upstream: upstream.url, requestId: this.#requestId, error, answered: true })
      outgoing.destroy()
    })
  }

  #answer(answer: EdgeAnswer): void {
    if (this.#clientLeft || this.#outgoing.headersSent) return
    writeAnswer(this.#outgoing, answer)
    // The rest of a body that nobody reads would hold the connection.
    if (!this.#streaming) this.#incoming.resume()
  }
}

/** Sends one of the edge's own answers. */
export function writeAnswer(outgoing: ServerResponse, { status, headers, body }: EdgeAnswer): void {
  outgoing.writeHead(status, body === undefined ? headers : { ...headers, 'Content-Length': Buffer.byteLength(body) })
  outgoing.end(body)
}

function requestHeaders(incoming: IncomingMessage, facts: ClientFacts): string[] {
  const { rawHeaders } = incoming
  const { connection } = incoming.headers
  const headers: string[] = []
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] ?? ''
    if (requestHeaderGoesOn(name.toLowerCase(), connection, facts)) headers.push(name, rawHeaders[i + 1] ?? '')
  }
  headers.push(...forwardedHeaders(facts))
  if (incoming.headers.host === undefined) headers.push('Host', 'localhost')
  return headers
}

function withHost(headers: readonly string[], host: string): string[] {
  return headers.map((text, i) => (i % 2 === 1 && headers[i - 1]?.toLowerCase() === 'host' ? host : text))
}

function answerHeaders(answer: IncomingMessage): string[] {
  const { rawHeaders } = answer
  const { connection } = answer.headers
  const headers: string[] = []
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] ?? ''
    if (answerHeaderGoesOn(name.toLowerCase(), connection)) headers.push(name, rawHeaders[i + 1] ?? '')
  }
  return headers
}
