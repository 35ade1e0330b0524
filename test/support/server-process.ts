/** Ganglion as a child process with a configuration of its own, for tests and benchmarks that go over HTTP. */
import { type ChildProcess, spawn } from 'node:child_process'
import { createHmac, randomBytes } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { freePort } from '../../infra/dev/free-port.ts'

const host = '127.0.0.1'
const sharedSecret = 'test-secret'
const startTimeoutMs = 30_000

export interface ServerProcess {
  /** Holds its configuration and, under `data`, what it keeps. */
  readonly folder: string
  readonly baseUrl: string
  readonly port: number
  readonly pid: number
  /** Starts it; resolves to the milliseconds until the first answer. */
  start(): Promise<number>
  /** Asks it to end (SIGTERM) and waits. */
  stop(): Promise<void>
  /** SIGKILL, and waits. */
  kill(): Promise<void>
  /** A new account by the shared-secret registration. */
  register(
    name: string,
    options?: { admin?: boolean },
  ): Promise<{ user_id: string; access_token: string; device_id: string; password: string }>
  /** Stops it and removes its folder. */
  close(): Promise<void>
}

export interface ServerProcessOptions {
  /** Without it, the server has an embedded PostgreSQL in its folder. */
  readonly databaseUrl?: string
  /** Further keys of `database`. */
  readonly database?: string
  /** Arguments to Node: the program; source by default. */
  readonly program?: string
  /** Further arguments to Node itself. */
  readonly nodeArguments?: readonly string[]
  readonly serverName?: string
  /** Beside the one at its address, each in YAML. */
  readonly listeners?: readonly string[]
  /** Further YAML, at the top level; may depend on the address. */
  readonly config?: string | ((baseUrl: string) => string)
  readonly output?: 'inherit' | 'ignore'
}

export async function serverProcess(options: ServerProcessOptions): Promise<ServerProcess> {
  const folder = await mkdtemp(join(tmpdir(), 'ganglion-server-'))
  const port = await freePort()
  const config = join(folder, 'homeserver.yaml')
  const baseUrl = `http://${host}:${port}`
  await writeFile(
    config,
    `server_name: ${options.serverName ?? 'test.local'}
data_dir: ${join(folder, 'data')}
listeners: [${[`{ port: ${port}, bind: ${host} }`, ...(options.listeners ?? [])].join(', ')}]
${options.databaseUrl === undefined ? '' : `database: { url: "${options.databaseUrl}", ${options.database ?? ''} }`}
registration: { enabled: true, shared_secret: ${sharedSecret} }
password: { bcrypt_rounds: 4 }
rate_limits: { enabled: false }
log: { level: warn }
${(typeof options.config === 'function' ? options.config(baseUrl) : options.config) ?? ''}
`,
  )
  let server: ChildProcess | undefined

  async function end(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    const running = server
    if (!running || running.exitCode !== null || running.signalCode !== null) return
    const ended = new Promise((resolve) => running.once('exit', resolve))
    running.kill(signal)
    await ended
  }

  return {
    folder,
    baseUrl,
    port,
    get pid() {
      return server?.pid ?? 0
    },
    async start() {
      const beganMs = performance.now()
      const program = options.program ?? 'functions/monolith/server.ts'
      const started = spawn(process.execPath, [...(options.nodeArguments ?? []), program, '--config-path', config], {
        stdio: ['ignore', options.output ?? 'ignore', 'inherit'],
      })
      server = started
      while (performance.now() - beganMs < startTimeoutMs) {
        if (started.exitCode !== null) throw new Error(`the server ended with code ${started.exitCode} at its start`)
        const answer = await fetch(`${baseUrl}/_matrix/client/versions`).catch(() => undefined)
        if (answer?.ok) return performance.now() - beganMs
        await new Promise((resolve) => setTimeout(resolve, 5))
      }
      await end('SIGKILL')
      throw new Error(`the server gave no answer within ${startTimeoutMs} ms`)
    },
    stop: () => end('SIGTERM'),
    kill: () => end('SIGKILL'),
    register: (name, { admin = false } = {}) => registerBySecret(baseUrl, { sharedSecret, name, admin }),
    async close() {
      await end('SIGTERM')
      await rm(folder, { recursive: true, force: true })
    },
  }
}

/** A new account on a server that knows Synapse's registration by a shared secret. */
export async function registerBySecret(
  baseUrl: string,
  {
    sharedSecret: secret,
    name,
    admin,
  }: { readonly sharedSecret: string; readonly name: string; readonly admin: boolean },
): Promise<{ user_id: string; access_token: string; device_id: string; password: string }> {
  const url = `${baseUrl}/_synapse/admin/v1/register`
  const { nonce } = (await (await fetch(url)).json()) as { nonce: string }
  const password = randomBytes(12).toString('hex')
  const mac = createHmac('sha1', secret)
    .update([nonce, name, password, admin ? 'admin' : 'notadmin'].join('\0'))
    .digest('hex')
  const answer = await fetch(url, {
    method: 'POST',
    body: JSON.stringify({ nonce, username: name, password, admin, mac }),
  })
  if (!answer.ok) throw new Error(`registering ${name}: ${answer.status} ${await answer.text()}`)
  const made = (await answer.json()) as { user_id: string; access_token: string; device_id: string }
  return { ...made, password }
}
