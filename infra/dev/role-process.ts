/** One role as a child process: started, watched until it is ready, signalled, replaced. */
import { type ChildProcess, spawn } from 'node:child_process'
import path from 'node:path'
import { createInterface } from 'node:readline'
import type { Role } from '../../shared/http/route.ts'
import { isFree } from './free-port.ts'

export type ProcessRole = Role | 'edge' | 'main'

export interface RoleProcess {
  readonly role: ProcessRole
  /** Such as `sync 2`. */
  readonly name: string
  /** Where it answers HTTP; it keeps its port when it is replaced. */
  readonly url: string
  readonly pid: number
  readonly running: boolean
  /** Settles when the process that runs now has ended: with its exit code, or the signal that ended it. */
  readonly ended: Promise<number | NodeJS.Signals>
  signal(signal: NodeJS.Signals): void
  /** SIGTERM, and waits; the exit code. */
  stop(): Promise<number | NodeJS.Signals>
  /** SIGKILL, and waits. */
  kill(): Promise<void>
  /** Starts it again where it has ended, and waits until it is ready. */
  start(): Promise<void>
}

export interface RoleProcessOptions {
  readonly role: ProcessRole
  readonly name: string
  readonly port: number
  readonly configPath: string
  /** Folder of the bundles; without it the sources run. */
  readonly dist?: string | undefined
  readonly env: NodeJS.ProcessEnv
  /** `prefixed`: each line on this process's output, after the name. */
  readonly output: 'ignore' | 'inherit' | 'prefixed'
  readonly nodeArguments: readonly string[]
}

const root = path.resolve(import.meta.dirname, '../..')
const host = '127.0.0.1'
const readyTimeoutMs = 30_000
const lookEveryMs = 20

/** Rejects where it ends before it is ready. */
export async function startRoleProcess(options: RoleProcessOptions): Promise<RoleProcess> {
  const { role, name, port } = options
  const url = `http://${host}:${port}`
  let child: ChildProcess
  let ended: Promise<number | NodeJS.Signals>

  async function start(): Promise<void> {
    // Whoever is there already would answer for it.
    if (!(await isFree(port))) throw new Error(`${name} did not start: another program listens on ${host}:${port}`)
    const program = options.dist ? path.join(options.dist, `${role}.js`) : path.join(root, `functions/${role}/entry.ts`)
    const piped = options.output === 'prefixed'
    const stdio = piped ? 'pipe' : options.output
    const started = spawn(process.execPath, [...options.nodeArguments, program, '-c', options.configPath], {
      stdio: ['ignore', stdio, piped ? 'pipe' : 'inherit'],
      // Ctrl-C in a terminal must reach the parent alone, which ends them in order.
      detached: true,
      env: { ...options.env, GANGLION_LISTENERS: JSON.stringify([{ port, bind: host }]) },
    })
    child = started
    for (const stream of [started.stdout, started.stderr]) {
      if (stream) createInterface(stream).on('line', (line) => process.stdout.write(`${name.padEnd(12)} ${line}\n`))
    }
    ended = new Promise((resolve) => started.once('exit', (code, signal) => resolve(code ?? signal ?? 1)))
    await untilReady(started)
  }

  async function untilReady(started: ChildProcess): Promise<void> {
    const deadline = performance.now() + readyTimeoutMs
    // The edge is ready when it answers at all: what it says is its handlers' answer.
    const isReady = (answer: Response) => role === 'edge' || answer.ok
    while (performance.now() < deadline) {
      if (!isRunning(started)) {
        throw new Error(`${name} ended with ${started.exitCode ?? started.signalCode} at its start`)
      }
      const answer = await fetch(`${url}/ready`).catch(() => undefined)
      await answer?.body?.cancel()
      if (answer && isReady(answer)) return
      await new Promise((resolve) => setTimeout(resolve, lookEveryMs))
    }
    started.kill('SIGKILL')
    throw new Error(`${name} was not ready within ${readyTimeoutMs} ms`)
  }

  await start()
  return {
    role,
    name,
    url,
    get pid() {
      return child.pid ?? 0
    },
    get running() {
      return isRunning(child)
    },
    get ended() {
      return ended
    },
    signal: (signal) => void child.kill(signal),
    async stop() {
      // A process that was stopped by SIGSTOP ends too.
      child.kill('SIGTERM')
      child.kill('SIGCONT')
      return ended
    },
    async kill() {
      child.kill('SIGKILL')
      await ended
    },
    async start() {
      if (!isRunning(child)) await start()
    },
  }
}

function isRunning(child: ChildProcess): boolean {
  return child.exitCode === null && child.signalCode === null
}
