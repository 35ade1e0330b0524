/** Sends an answer of bytes. On node it is written to node's own answer, as fast as the client takes it: a web stream in between
 *  would cost a multiple of the processor time. */
import { type IncomingMessage, ServerResponse } from 'node:http'
import { Readable } from 'node:stream'
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response'
import { copied, type Pieces } from '../media/pieces.ts'
import type { BytesReply } from './route.ts'

/** Node's side of the request, where the server has one. */
export interface NodeExchange {
  readonly incoming?: IncomingMessage
  readonly outgoing?: ServerResponse
}

/** The status of an answer, also where it was sent already. */
export function statusSent(response: Response, { outgoing }: NodeExchange): number {
  return response === RESPONSE_ALREADY_SENT && outgoing ? outgoing.statusCode : response.status
}

/** `onBroken` hears of a source that ended too early, after which the client gets to see that its answer is not whole. */
export function sendBytes(
  reply: BytesReply,
  { incoming, outgoing }: NodeExchange,
  onBroken: (error: unknown) => void,
): Response | Promise<Response> {
  const { status, headers, body } = reply
  if (incoming?.method === 'HEAD') {
    // Hono makes a new answer of this one, so it cannot have been sent already.
    const head = () => new Response(null, { status, headers: { ...headers } })
    return isPieces(body) ? body.return().then(head) : head()
  }
  if (!incoming || !outgoing) {
    return new Response(webBody(body), { status, headers: { ...headers } })
  }
  outgoing.writeHead(status, { ...headers })
  if (!isPieces(body)) {
    outgoing.end(body)
    return RESPONSE_ALREADY_SENT
  }
  return sendPieces(body, outgoing, onBroken).then(() => RESPONSE_ALREADY_SENT)
}

function isPieces(body: BytesReply['body']): body is Pieces {
  return body !== undefined && !(body instanceof Uint8Array)
}

function webBody(body: BytesReply['body']): ReadableStream<Uint8Array> | Uint8Array<ArrayBuffer> | null {
  if (body === undefined) return null
  if (!isPieces(body)) return new Uint8Array(body)
  // A generator that was not begun ends nothing that it holds.
  const stream = Readable.from(copied(body)).once('close', () => void body.return())
  return Readable.toWeb(stream) as ReadableStream<Uint8Array>
}

/** Writes each piece while the next is fetched, and asks for no further one before it is with the operating system. */
async function sendPieces(pieces: Pieces, outgoing: ServerResponse, onBroken: (error: unknown) => void): Promise<void> {
  let closed = outgoing.destroyed
  let wake = () => {}
  outgoing.once('close', () => {
    closed = true
    wake()
  })
  outgoing.on('drain', () => wake())
  const written = (piece: Uint8Array) =>
    new Promise<void>((resolve) => {
      wake = resolve
      outgoing.write(piece, () => {
        if (!outgoing.writableNeedDrain) resolve()
      })
    })
  // What came through a session has no more of an answer than this, and keeps what it was given.
  const own = outgoing instanceof ServerResponse
  let before: Promise<void> | undefined
  try {
    for await (const piece of own ? pieces : copied(pieces)) {
      await before
      if (closed) break
      before = written(piece)
    }
    await before
    if (closed) return
    outgoing.end()
    await pieces.return()
  } catch (error) {
    if (!closed) onBroken(error)
    outgoing.destroy()
  }
}
