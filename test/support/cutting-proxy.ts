/** A TCP proxy that cuts a connection after a given number of bytes, whichever way they go. */
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'

export interface CuttingProxy {
  /** `http://127.0.0.1:port` */
  readonly url: string
  /** Bytes that went through since the start. */
  readonly bytes: number
  /** The connection that carries the byte after so many more is cut before it; once. */
  cutAfter(bytes: number): void
  /** Cuts that were made. */
  readonly cuts: number
  /** Cuts all connections; further ones are refused. */
  close(): Promise<void>
}

export async function cuttingProxy(target: string): Promise<CuttingProxy> {
  const { hostname, port } = new URL(target)
  const sockets = new Set<Socket>()
  let total = 0
  let left = Number.POSITIVE_INFINITY
  let cuts = 0
  const server = createServer((near) => {
    const far = connect(Number(port), hostname)
    const end = () => {
      near.destroy()
      far.destroy()
    }
    const pass = (from: Socket, to: Socket) => {
      sockets.add(from)
      from.setNoDelay(true)
      from.on('data', (chunk: Buffer) => {
        total += chunk.length
        if (chunk.length <= left) {
          left -= chunk.length
          to.write(chunk)
          return
        }
        const kept = chunk.subarray(0, left)
        left = Number.POSITIVE_INFINITY
        cuts++
        if (kept.length === 0) end()
        // What was let through gets there before the end does.
        else to.write(kept, () => setImmediate(end))
      })
      from.on('error', end)
      from.on('close', () => {
        sockets.delete(from)
        end()
      })
    }
    pass(near, far)
    pass(far, near)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    get bytes() {
      return total
    },
    get cuts() {
      return cuts
    },
    cutAfter(bytes) {
      left = bytes
    },
    close() {
      for (const socket of sockets) socket.destroy()
      return new Promise((resolve) => server.close(() => resolve()))
    },
  }
}
