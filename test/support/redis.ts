/** A real redis-server of its own for a test: on a free port of this machine, in a folder that goes with it. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { freePort } from '../../infra/dev/free-port.ts'

/** Whether `redis-server` can be started here; where not, says so once a file and the tests that need it are left out. */
export const redisInstalled: boolean = installed()

export interface RedisServer {
  /** `redis://127.0.0.1:port` */
  readonly url: string
  readonly host: string
  readonly port: number
  readonly folder: string
  /** Changes with a restart. */
  readonly pid: number
  /** Starts it again on the same port, without data. */
  start(): Promise<void>
  /** SIGKILL, and waits; `start` brings it back, empty. */
  kill(): Promise<void>
  /** SIGSTOP: takes connections and answers nothing. */
  pause(): void
  /** SIGCONT. */
  resume(): void
  /** FLUSHALL. */
  flush(): Promise<void>
  /** Any command in the inline form, its raw answer: `+OK\r\n`. */
  command(line: string): Promise<string>
  /** Kills it and removes its folder. */
  stop(): Promise<void>
}

export interface RedisServerOptions {
  readonly port?: number
  /** Further arguments, such as `--requirepass secret`. */
  readonly arguments?: readonly string[]
  /** A file that it may write to, as a Sentinel does; then it says everything else. */
  readonly config?: string
  readonly sentinel?: boolean
  /** Takes no plain connections: a TLS port alone. Then it counts as up when its port is open. */
  readonly tls?: boolean
}

const host = '127.0.0.1'
/** A replica is served at once and counts soon: a cluster names those alone that have heard a ping. */
const quickReplicas = ['--repl-diskless-sync-delay', '0', '--repl-ping-replica-period', '1']
const startTimeoutMs = 10_000

export async function startRedis(options: RedisServerOptions = {}): Promise<RedisServer> {
  const port = options.port ?? (await freePort())
  const folder = await mkdtemp(join(tmpdir(), 'ganglion-redis-'))
  let running: ChildProcess | undefined

  async function start(): Promise<void> {
    const started = spawn(
      'redis-server',
      [
        ...(options.config === undefined ? [] : [options.config]),
        ...(options.sentinel ? ['--sentinel'] : ['--save', '', '--appendonly', 'no', ...quickReplicas]),
        ...(options.tls ? ['--port', '0', '--tls-port', String(port)] : ['--port', String(port)]),
        ...['--bind', host, '--dir', folder, '--loglevel', 'warning'],
        ...(options.arguments ?? []),
      ],
      { stdio: ['ignore', 'ignore', 'inherit'] },
    )
    running = started
    const beganMs = performance.now()
    while (performance.now() - beganMs < startTimeoutMs) {
      if (started.exitCode !== null) throw new Error(`redis-server ended with code ${started.exitCode} at its start`)
      const answer = await ask(port, options.tls ? undefined : 'PING').catch(() => undefined)
      if (answer !== undefined) return
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
    throw new Error(`redis-server gave no answer within ${startTimeoutMs} ms`)
  }

  async function kill(): Promise<void> {
    const killed = running
    running = undefined
    if (!killed || killed.exitCode !== null || killed.signalCode !== null) return
    const ended = new Promise((resolve) => killed.once('exit', resolve))
    killed.kill('SIGKILL')
    await ended
  }

  await start()
  return {
    url: `redis://${host}:${port}`,
    host,
    port,
    folder,
    get pid() {
      return running?.pid ?? 0
    },
    start,
    kill,
    pause: () => void running?.kill('SIGSTOP'),
    resume: () => void running?.kill('SIGCONT'),
    flush: async () => void (await ask(port, 'FLUSHALL')),
    command: (line) => ask(port, line),
    async stop() {
      await kill()
      await rm(folder, { recursive: true, force: true })
    },
  }
}

/** Sends one inline command over a connection of its own; without one, resolves when the port is open. */
function ask(port: number, line: string | undefined): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port })
    const done = (text: string) => {
      socket.destroy()
      resolve(text)
    }
    socket.once('error', reject)
    socket.once('close', () => reject(new Error('the connection was closed')))
    socket.setTimeout(2_000, () => {
      socket.destroy()
      reject(new Error('no answer within 2 s'))
    })
    socket.once('connect', () => (line === undefined ? done('') : socket.write(`${line}\r\n`)))
    socket.once('data', (data) => done(data.toString('utf8')))
  })
}

function installed(): boolean {
  try {
    execFileSync('redis-server', ['--version'], { stdio: 'ignore' })
    return true
  } catch {
    console.log('left out: tests that need redis-server, which is not installed')
    return false
  }
}
