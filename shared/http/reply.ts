/** Turns what a handler returned into an HTTP response. */
import { jsonHeaders } from './headers.ts'
import { RawJson, TextReply } from './route.ts'

/** Pieces are gathered up to this many characters before they are written; a reply below it goes out in one write. */
const chunkCharacters = 64 * 1024

/** `onBroken` hears of an error after the first bytes were sent: the connection is cut, there is no status left to give. */
export function jsonReply(reply: object, onBroken: (error: unknown) => void): Response | Promise<Response> {
  if (reply instanceof TextReply) {
    return new Response(reply.text, { status: reply.status, headers: { ...reply.headers } })
  }
  if (!(reply instanceof RawJson)) return new Response(JSON.stringify(reply), { headers: jsonHeaders })
  const { pieces } = reply
  if (Array.isArray(pieces) && pieces.length === 1) return new Response(pieces[0], { headers: jsonHeaders })
  return Symbol.asyncIterator in pieces ? gatherAsync(pieces, onBroken) : gather(pieces, onBroken)
}

function gather(pieces: Iterable<string>, onBroken: (error: unknown) => void): Response {
  const iterator = pieces[Symbol.iterator]()
  const next = (): { text: string; done: boolean } => {
    let text = ''
    while (text.length < chunkCharacters) {
      const step = iterator.next()
      if (step.done) return { text, done: true }
      text += step.value
    }
    return { text, done: false }
  }
  const first = next()
  if (first.done) return new Response(first.text, { headers: jsonHeaders })
  return streamed(first.text, next, () => iterator.return?.(), onBroken)
}

async function gatherAsync(pieces: AsyncIterable<string>, onBroken: (error: unknown) => void): Promise<Response> {
  const iterator = pieces[Symbol.asyncIterator]()
  const next = async (): Promise<{ text: string; done: boolean }> => {
    let text = ''
    while (text.length < chunkCharacters) {
      const step = await iterator.next()
      if (step.done) return { text, done: true }
      text += step.value
    }
    return { text, done: false }
  }
  const first = await next()
  if (first.done) return new Response(first.text, { headers: jsonHeaders })
  return streamed(first.text, next, () => iterator.return?.(), onBroken)
}

type Chunk = { readonly text: string; readonly done: boolean }

/** A chunk is made when the last one was taken: a slow client holds one chunk, not the whole reply. */
function streamed(
  first: string,
  next: () => Chunk | Promise<Chunk>,
  stop: () => unknown,
  onBroken: (error: unknown) => void,
): Response {
  const encoder = new TextEncoder()
  let pending: string | undefined = first
  const body = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        if (pending !== undefined) {
          controller.enqueue(encoder.encode(pending))
          pending = undefined
          return
        }
        try {
          const { text, done } = await next()
          if (text.length > 0) controller.enqueue(encoder.encode(text))
          if (done) controller.close()
        } catch (error) {
          onBroken(error)
          controller.error(error)
        }
      },
      async cancel() {
        await stop()
      },
    },
    { highWaterMark: 0 },
  )
  return new Response(body, { headers: jsonHeaders })
}
