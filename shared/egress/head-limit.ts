/** Bounds what may come before an answer's headers are complete: the parser counts headers, but neither a status line that
 *  does not end nor hints of which ever more come. */
import { subscribe } from 'node:diagnostics_channel'
import { Socket } from 'node:net'
import { EgressError } from './egress-error.ts'

/** Above the largest block of headers and what a socket reads ahead of the parser. */
const headBytesMax = 512 * 1024

/** Sockets that are ours, and the requests under way on them: one each. */
const watched = new WeakSet<Socket>()
const endWatch = new WeakMap<object, () => void>()
let listening = false

/** From now on, for every request over this socket. */
export function limitHead(socket: Socket): void {
  watched.add(socket)
  if (listening) return
  listening = true
  // undici's own channels: a request goes out over a socket; its headers are there.
  subscribe('undici:client:sendHeaders', (message) => {
    const [request, sent] = [part(message, 'request'), part(message, 'socket')]
    if (request && sent instanceof Socket && watched.has(sent)) endWatch.set(request, watch(sent))
  })
  subscribe('undici:request:headers', (message) => {
    const [request, response] = [part(message, 'request'), part(message, 'response')]
    if (!request || !response || !('statusCode' in response)) return
    // Those below 200 announce an answer that is still to come.
    if (typeof response.statusCode === 'number' && response.statusCode >= 200) endWatch.get(request)?.()
  })
}

function watch(socket: Socket): () => void {
  const start = socket.bytesRead
  const check = () => {
    if (socket.bytesRead - start <= headBytesMax) return
    end()
    socket.destroy(new EgressError('too_large', `More than ${headBytesMax} bytes came before the end of the headers`))
  }
  const end = () => {
    socket.off('readable', check)
  }
  socket.on('readable', check)
  return end
}

function part(message: unknown, key: 'request' | 'response' | 'socket'): object | undefined {
  if (typeof message !== 'object' || message === null) return undefined
  const found: unknown = Reflect.get(message, key)
  return typeof found === 'object' && found !== null ? found : undefined
}
