import { createServer } from 'node:net'

/** Below those that systems give to outgoing connections and to listeners on port 0: between the time that a port is found
 *  free and the time that somebody listens on it, no connection takes it. */
const range = { first: 10_000, last: 30_000 } as const
const attemptsMax = 100

/** A TCP port of the loopback address that nobody listens on at the moment. */
export async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < attemptsMax; attempt++) {
    const port = range.first + Math.floor(Math.random() * (range.last - range.first))
    if (await isFree(port)) return port
  }
  throw new Error(`no port is free: tried ${attemptsMax} between ${range.first} and ${range.last}`)
}

/** Whether nobody listens on this port of the loopback address. */
export function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
  })
}
