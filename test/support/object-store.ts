/** A real S3-compatible server of its own for a test: versitygw over a folder, on a free port of this machine. */
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises'
import { homedir, tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { freePort } from '../../infra/dev/free-port.ts'
import { markerName } from '../../shared/media/store-marker.ts'

/** The version that .ci/run installs. */
const program = path.join(
  process.env.XDG_CACHE_HOME ?? path.join(homedir(), '.cache'),
  'ganglion-tools',
  'versitygw-v1.8.0',
)

/** Whether it can be started here; where not, says so once a file and the tests that need it are left out. */
export const objectStoreInstalled: boolean = existsSync(program)
if (!objectStoreInstalled) console.warn(`left out, since there is no ${program}: tests with an object store`)

const bucket = 'media'
const startTimeoutMs = 10_000

export interface ObjectStore {
  /** For `media.s3`. */
  readonly settings: {
    readonly endpoint: string
    readonly bucket: string
    readonly access_key_id: string
    readonly secret_access_key: string
  }
  start(): Promise<void>
  /** SIGKILL, and waits. */
  kill(): Promise<void>
  /** Names of the objects that are there. */
  objects(): Promise<string[]>
  /** Files of uploads in parts that are not complete. */
  parts(): Promise<string[]>
  stop(): Promise<void>
}

export async function startObjectStore(): Promise<ObjectStore> {
  const folder = await mkdtemp(path.join(tmpdir(), 'ganglion-objects-'))
  const port = await freePort()
  for (const name of [`data/${bucket}`, 'attributes']) await mkdir(path.join(folder, name), { recursive: true })
  let server: ChildProcess | undefined
  const settings = {
    endpoint: `http://127.0.0.1:${port}`,
    bucket,
    access_key_id: 'ganglion',
    secret_access_key: 'only-for-tests',
  }

  async function start(): Promise<void> {
    const { access_key_id, secret_access_key } = settings
    const own = ['--access', access_key_id, '--secret', secret_access_key, '--port', `127.0.0.1:${port}`, '--quiet']
    const data = ['posix', '--sidecar', path.join(folder, 'attributes'), path.join(folder, 'data')]
    const started = spawn(program, [...own, ...data], { stdio: 'ignore' })
    server = started
    const deadline = performance.now() + startTimeoutMs
    while (performance.now() < deadline) {
      if (started.exitCode !== null) throw new Error(`the object store ended with code ${started.exitCode}`)
      if (await fetch(settings.endpoint).catch(() => undefined)) return
      await sleep(20)
    }
    throw new Error('the object store does not answer')
  }

  async function kill(): Promise<void> {
    if (!server || server.exitCode !== null || server.signalCode !== null) return
    const ended = new Promise((resolve) => server?.once('exit', resolve))
    server.kill('SIGKILL')
    await ended
  }

  async function files(): Promise<string[]> {
    const root = path.join(folder, 'data', bucket)
    const entries = await readdir(root, { recursive: true, withFileTypes: true }).catch(() => [])
    return entries
      .filter((entry) => entry.isFile())
      .map((entry) => path.relative(root, path.join(entry.parentPath, entry.name)))
      .sort()
  }

  await start()
  return {
    settings,
    start,
    kill,
    objects: async () => (await files()).filter((name) => !name.startsWith('.sgwtmp') && name !== markerName),
    parts: async () => (await files()).filter((name) => name.startsWith('.sgwtmp')),
    async stop() {
      await kill()
      await rm(folder, { recursive: true, force: true })
    },
  }
}
