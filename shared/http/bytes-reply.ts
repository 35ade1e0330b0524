/** Sends an answer of bytes. On node it is written to node's own answer, as fast as the client takes it: a web stream in between
 *  would cost a multiple of the processor time. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { Readable } from 'node:stream'
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response'
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
  if (!incoming || !outgoing) {
    return new Response(webBody(body), { status, headers: { ...headers } })
  }
  outgoing.writeHead(status, { ...headers })
  if (!(body instanceof Readable)) {
    outgoing.end(incoming.method === 'HEAD' ? undefined : body)
    return RESPONSE_ALREADY_SENT
  }
  if (incoming.method === 'HEAD') {
    body.destroy()
    outgoing.end()
    return RESPONSE_ALREADY_SENT
  }
  return pump(body, outgoing, onBroken).then(() => RESPONSE_ALREADY_SENT)
}

function webBody(body: Readable | Uint8Array | undefined): ReadableStream<Uint8Array> | Uint8Array<ArrayBuffer> | null {
  if (body === undefined) return null
  return body instanceof Readable ? (Readable.toWeb(body) as ReadableStream<Uint8Array>) : new Uint8Array(body)
}

/** Not by node's `pipeline`: what came through a session has no more of an answer than this. */
function pump(source: Readable, outgoing: ServerResponse, onBroken: (error: unknown) => void): Promise<void> {
  return new Promise((resolve) => {
    source.on('data', (chunk: Uint8Array) => {
      if (!outgoing.write(chunk)) source.pause()
    })
    outgoing.on('drain', () => source.resume())
    outgoing.once('close', () => {
      source.destroy()
      resolve()
    })
    source.once('end', () => {
      outgoing.end()
      resolve()
    })
    source.once('error', (error) => {
      if (!outgoing.destroyed) onBroken(error)
      outgoing.destroy()
      resolve()
    })
  })
}
