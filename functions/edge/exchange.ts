/** One request on its way through Node's edge: its body streams to a handler, the answer streams back, and when one side
 *  goes away the other is told. Where a handler fails before its answer began, another gets the request, if that is safe. */
import type { ClientRequest, IncomingMessage, ServerResponse } from 'node:http'
import { brokenOff, type EdgeAnswer, noHandler, tookTooLong, tooLarge } from './answers.ts'
import type { Forward } from './decide.ts'
import { answerHeaderGoesOn, type ClientFacts, forwardedHeaders, requestHeaderGoesOn } from './forwarded-headers.ts'
import { giveBack } from './give-back.ts'
import type { HandlerConnections } from './handler-connections.ts'
import type { HandlerSessions } from './handler-sessions.ts'
import { isRepeatable } from './repeatable.ts'
import type { Upstream, Upstreams } from './upstreams.ts'

export interface ExchangeDeps {
  readonly upstreams: Upstreams
  readonly connections: HandlerConnections
  /** Where each upstream is one process: small requests travel together. */
  readonly sessions: HandlerSessions | undefined
  /** How long a handler may take to begin its answer, in ms. */
  readonly answerMs?: number | undefined
  readonly onFailure: (failure: { upstream: string; requestId: string; error: Error; answered: boolean }) => void
}

/** Held until it is whole: then it goes out in one piece with its head, and can be sent again. */
const wholeBodyBytesMax = 64 * 1024
const attemptsMax = 3
/** For a handler to appear, such as the first one of a role that was scaled to zero. */
const appearMs = 5_000
const waitingMax = 2_000
/** To the head of the answer; no long poll lasts so long. */
const answerMsDefault = 240_000
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
  /** Ends what is under way, for a client that left. */
  #abandon: (() => void) | undefined
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
      this.#abandon?.()
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
    if (this.#streams || !this.#sendInSession(upstream)) this.#sendAlone(upstream)
  }

  /** Counts the request as one under way at the handler until `end`, which is true the first time. From `answered` on it may
   *  take as long as it takes. */
  #begin(upstream: Upstream, giveUp: () => void): { answered(): void; end(): boolean } {
    let over = false
    upstream.load++
    const late = setTimeout(() => {
      end()
      giveUp()
      this.#answer(tookTooLong)
    }, this.#deps.answerMs ?? answerMsDefault)
    const end = () => {
      clearTimeout(late)
      if (over) return false
      over = true
      upstream.load--
      return true
    }
    return { answered: () => clearTimeout(late), end }
  }

  /** False where the handler takes no sessions. */
  #sendInSession(upstream: Upstream): boolean {
    const { sessions, upstreams } = this.#deps
    if (!sessions) return false
    const outgoing = this.#outgoing
    const head = `${this.#incoming.method}\n${this.#incoming.url}\n${this.#headersFor(upstream).join('\n')}`
    let owed = 0
    const sent = sessions.send(upstream.url, head, this.#body, {
      whole: (status, headers, body) => {
        under.end()
        upstreams.succeeded(upstream)
        if (!this.#clientLeft && !outgoing.headersSent) writeWhole(outgoing, status, headers, body)
      },
      head: (status, headers) => {
        under.answered()
        upstreams.succeeded(upstream)
        if (!outgoing.headersSent) outgoing.writeHead(status, [...headers])
      },
      chunk: (bytes) => {
        if (outgoing.write(bytes)) sent?.taken(bytes.length)
        else {
          if (owed === 0) {
            outgoing.once('drain', () => {
              sent?.taken(owed)
              owed = 0
            })
          }
          owed += bytes.length
        }
      },
      end: () => {
        under.end()
        outgoing.end()
      },
      failed: (error, reached) => {
        if (under.end() && !this.#clientLeft) this.#failed(upstream, error, reached)
      },
      refused: () => {
        if (under.end() && !this.#clientLeft) this.#sendAlone(upstream)
      },
    })
    if (!sent) return false
    const under = this.#begin(upstream, () => sent.giveUp())
    this.#abandon = () => {
      under.end()
      sent.giveUp()
    }
    return true
  }

  #sendAlone(upstream: Upstream): void {
    const { upstreams, connections } = this.#deps
    const { method = 'GET', url: target = '/' } = this.#incoming
    const request = connections.request(upstream.url, method, target, this.#headersFor(upstream))
    const under = this.#begin(upstream, () => request.destroy())
    this.#abandon = () => request.destroy()
    request.once('response', (answer) => {
      under.answered()
      upstreams.succeeded(upstream)
      answer.once('close', () => under.end())
      this.#relay(answer, upstream)
    })
    request.once('error', (error) => {
      if (!under.end() || this.#clientLeft) return
      const reached = connections.reached(request)
      // A connection that was kept and closed by the other side in the same moment says nothing of the handler's health.
      this.#failed(upstream, error, reached, reached && request.reusedSocket)
    })
    if (this.#streams) {
      // Not a byte of it is taken before somebody is there to get it: another handler can still have it whole.
      connections.whenConnected(request, () => this.#stream(request))
    } else request.end(this.#body)
  }

  #headersFor(upstream: Upstream): string[] {
    return upstream.host === undefined ? this.#headers : withHost(this.#headers, upstream.host)
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
      } else if (!request.write(chunk, () => giveBack(chunk))) incoming.pause()
    })
    request.on('drain', () => incoming.resume())
    // The handler answered without waiting for the rest, or is gone.
    request.once('close', discard)
    incoming.once('end', () => {
      if (!discards) request.end()
    })
  }

  #failed(upstream: Upstream, error: Error, reached: boolean, isWell = false): void {
    const { upstreams, onFailure } = this.#deps
    const answered = this.#outgoing.headersSent
    if (!isWell) upstreams.failed(upstream)
    onFailure({ upstream: upstream.url, requestId: this.#requestId, error, answered })
    if (answered) {
      // The client gets what there is, and must see that this is not the end of the answer.
      this.#outgoing.socket?.destroySoon()
      return
    }
    const again = !this.#streaming && (!reached || this.#isRepeatable()) && this.#tried.length < attemptsMax
    if (!again) this.#answer(reached ? brokenOff : noHandler)
    else {
      const next = upstreams.pick(this.#forward.stickyKey, this.#tried)
      if (next) this.#send(next)
      else this.#answer(reached ? brokenOff : noHandler)
    }
  }

  #isRepeatable(): boolean {
    const { method = 'GET', url = '/' } = this.#incoming
    return isRepeatable(method, url)
  }

  #relay(answer: IncomingMessage, upstream: Upstream): void {
    const outgoing = this.#outgoing
    if (this.#clientLeft || outgoing.headersSent) {
      answer.destroy()
      return
    }
    outgoing.writeHead(answer.statusCode ?? 502, answerHeaders(answer))
    answer.on('data', (chunk: Buffer) => {
      if (!outgoing.write(chunk, () => giveBack(chunk))) {
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

/** Bodies up to this size are given to node as text of one-byte characters, which goes out in one write with the head. */
const oneWriteBytesMax = 16 * 1024

function writeWhole(outgoing: ServerResponse, status: number, headers: readonly string[], body: Buffer): void {
  const framed = status === 204 || status === 304 || outgoing.req.method === 'HEAD'
  outgoing.writeHead(status, framed ? [...headers] : [...headers, 'Content-Length', String(body.length)])
  if (body.length <= oneWriteBytesMax) outgoing.end(body.toString('latin1'), 'latin1')
  else outgoing.end(body)
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
