/** A TCP port in front of a server, wherever that one listens, which can be frozen or cut as a broken network is. */
import { connect, createServer, type Socket } from 'node:net'

export interface Gate {
  /** The server's URL through this gate. */
  readonly url: string
  /** While frozen, it takes connections and bytes and passes nothing on: those that stand are half-open. */
  frozen: boolean
  /** Ends the connections that stand. */
  cut(): void
  /** Takes no more connections. */
  close(): void
}

/** `url`: `postgres:` (a Unix socket's folder as `?host=`) or `redis:`. */
export async function openGate(url: string): Promise<Gate> {
  const target = new URL(url)
  const port = Number(target.port || (target.protocol === 'redis:' ? 6379 : 5432))
  const socketFolder = target.searchParams.get('host')
  const sockets = new Set<Socket>()
  const server = createServer((client: Socket) => {
    const upstream = socketFolder ? connect(`${socketFolder}/.s.PGSQL.${port}`) : connect(port, target.hostname)
    const pass = (to: Socket) => (bytes: Buffer) => {
      if (!gate.frozen) to.write(bytes)
    }
    client.on('data', pass(upstream)).on('close', () => upstream.destroy())
    upstream.on('data', pass(client)).on('close', () => client.destroy())
    for (const socket of [client, upstream]) {
      sockets.add(socket)
      socket.on('error', () => socket.destroy()).on('close', () => sockets.delete(socket))
    }
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  target.searchParams.delete('host')
  target.hostname = '127.0.0.1'
  target.port = String((server.address() as { port: number }).port)
  const gate: Gate = {
    url: target.href,
    frozen: false,
    cut() {
      for (const socket of sockets) socket.destroy()
    },
    close: () => server.close(),
  }
  return gate
}
