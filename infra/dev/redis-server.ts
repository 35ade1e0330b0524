/** A redis-server for trying things out: on a free port of the loopback address, keeping nothing. */
import { spawn } from 'node:child_process'
import { connect } from 'node:net'
import { freePort } from './free-port.ts'

export interface DevRedis {
  readonly url: string
  readonly pid: number
  stop(): Promise<void>
}

const host = '127.0.0.1'
const startTimeoutMs = 10_000

/** Rejects with a sentence for the developer where there is no redis-server. */
export async function startRedisServer(folder: string): Promise<DevRedis> {
  const port = await freePort()
  const child = spawn(
    'redis-server',
    [...['--port', String(port), '--bind', host, '--dir', folder], ...['--save', '', '--appendonly', 'no']],
    // A group of its own: Ctrl-C must not end it before those who use it.
    { stdio: 'ignore', detached: true },
  )
  const failed = new Promise<never>((_, reject) => {
    child.once('error', (error: NodeJS.ErrnoException) => reject(error.code === 'ENOENT' ? notInstalled(error) : error))
    child.once('exit', (code) => reject(new Error(`redis-server ended with code ${code} at its start`)))
  })
  await Promise.race([failed, untilOpen(port)])
  failed.catch(() => undefined)
  return {
    url: `redis://${host}:${port}`,
    pid: child.pid ?? 0,
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return
      const ended = new Promise((resolve) => child.once('exit', resolve))
      child.kill('SIGTERM')
      await ended
    },
  }
}

function notInstalled(cause: Error): Error {
  return new Error(
    'redis-server is not installed, and roles that run apart need it: `apt-get install redis-server`, `brew install redis`, or name one of yours with GANGLION_REDIS__URL=redis://…',
    { cause },
  )
}

async function untilOpen(port: number): Promise<void> {
  const deadline = Date.now() + startTimeoutMs
  while (!(await isOpen(port))) {
    if (Date.now() > deadline) throw new Error(`redis-server took no connection within ${startTimeoutMs} ms`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

function isOpen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, host)
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}
