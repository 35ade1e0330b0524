/** A TCP port in front of a database, wherever that one listens, which can be frozen as a broken network is. */
import { connect, createServer, type Socket } from 'node:net'

export interface Gate {
  /** The database's URL through this gate. */
  readonly url: string
  /** While frozen, it takes connections and bytes and passes nothing on. */
  frozen: boolean
  /** Takes no more connections. */
  close(): void
}

export async function openGate(databaseUrl: string): Promise<Gate> {
  const target = new URL(databaseUrl)
  const port = Number(target.port || 5432)
  const socketFolder = target.searchParams.get('host')
  const server = createServer((client: Socket) => {
    const upstream = socketFolder ? connect(`${socketFolder}/.s.PGSQL.${port}`) : connect(port, target.hostname)
    const pass = (to: Socket) => (bytes: Buffer) => {
      if (!gate.frozen) to.write(bytes)
    }
    client.on('data', pass(upstream)).on('close', () => upstream.destroy())
    upstream.on('data', pass(client)).on('close', () => client.destroy())
    for (const socket of [client, upstream]) socket.on('error', () => socket.destroy())
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const url = new URL(target)
  url.searchParams.delete('host')
  url.hostname = '127.0.0.1'
  url.port = String((server.address() as { port: number }).port)
  const gate: Gate = { url: url.href, frozen: false, close: () => server.close() }
  return gate
}
