/** Reads a request's body: never more than allowed, UTF-8, JSON. */
import { isUtf8 } from 'node:buffer'
import type { IncomingMessage } from 'node:http'
import { MatrixError } from '../matrix/matrix-error.ts'
import { parseJson } from '../matrix/parse-json.ts'

/** For routes whose bodies hold something for each of many devices or sessions. */
export const largeBodyBytesMax = 1024 * 1024

/** For a body to be there whole. */
const bodyTimeoutMs = 120_000

/** The body parsed as JSON; undefined where it is empty. Throws M_TOO_LARGE, M_NOT_JSON. `incoming` is node's request,
 *  where the server has one: reading it costs a fraction of what a web stream does. */
export function readJson(request: Request, incoming: IncomingMessage | undefined, bytesMax: number): Promise<unknown> {
  const declared = request.headers.get('content-length')
  if (declared !== null && Number(declared) > bytesMax) return Promise.reject(tooLarge(bytesMax))
  const bytes = incoming ? readIncoming(incoming, bytesMax) : readStream(request, bytesMax)
  return bytes.then(parseBytes)
}

function parseBytes(bytes: Buffer): unknown {
  if (bytes.length === 0) return undefined
  if (!isUtf8(bytes)) throw new MatrixError('M_NOT_JSON', 'The body is not UTF-8')
  return parseJson(bytes.toString('utf8'))
}

function readIncoming(incoming: IncomingMessage, bytesMax: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    let length = 0
    const settle = () => {
      clearTimeout(late)
      incoming.off('data', onData).off('end', onEnd).off('error', onGone).off('close', onGone)
    }
    const late = setTimeout(() => {
      settle()
      incoming.pause()
      reject(new MatrixError('M_UNKNOWN', 'The body did not arrive in time', { status: 408 }))
    }, bodyTimeoutMs)
    const onData = (chunk: Buffer) => {
      length += chunk.length
      if (length > bytesMax) {
        settle()
        incoming.pause()
        reject(tooLarge(bytesMax))
      } else chunks.push(chunk)
    }
    const onEnd = () => {
      settle()
      const [first] = chunks
      resolve(chunks.length === 1 && first ? first : Buffer.concat(chunks, length))
    }
    const onGone = () => {
      settle()
      reject(new MatrixError('M_UNKNOWN', 'The connection closed before the body was complete', { status: 400 }))
    }
    if (incoming.readableEnded) onEnd()
    else incoming.on('data', onData).on('end', onEnd).on('error', onGone).on('close', onGone)
  })
}

async function readStream(request: Request, bytesMax: number): Promise<Buffer> {
  if (!request.body) return Buffer.alloc(0)
  const chunks: Uint8Array[] = []
  let length = 0
  for await (const chunk of request.body) {
    length += chunk.length
    if (length > bytesMax) throw tooLarge(bytesMax)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks, length)
}

function tooLarge(bytesMax: number): MatrixError {
  return new MatrixError('M_TOO_LARGE', `The body is larger than ${bytesMax} bytes`)
}
