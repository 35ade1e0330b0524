/** The Worker in workerd, by wrangler's local mode or alone: no account, no token, nothing sent anywhere. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { freePort } from '../../infra/dev/free-port.ts'
import { until } from './support.ts'

const root = path.resolve(import.meta.dirname, '../..')
export const wrangler = path.join(root, 'node_modules/.bin/wrangler')
const workerd = path.join(root, 'node_modules/.bin/workerd')

/** For every run of wrangler: it asks nobody for updates, tells nobody that it ran, and finds no credentials. */
export function quietEnvironment(): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(([name]) => !/^(?:CLOUDFLARE|CF|WRANGLER)_/.test(name))
  return {
    ...Object.fromEntries(kept),
    WRANGLER_SEND_METRICS: 'false',
    WRANGLER_HIDE_BANNER: 'true',
    WRANGLER_SEND_ERROR_REPORTS: 'false',
    CLOUDFLARE_CF_FETCH_ENABLED: 'false',
    CI: '1',
  }
}

export interface RunningWorker {
  readonly url: string
  readonly port: number
  close(): Promise<void>
}

/** By `wrangler dev`; `variables` as in wrangler.toml's `vars`. */
export async function startWorker(variables: Readonly<Record<string, string>>): Promise<RunningWorker> {
  const port = await freePort()
  const vars = Object.entries(variables).flatMap(([name, value]) => ['--var', `${name}:${value}`])
  const options = ['--local', '--env=', '--ip', '127.0.0.1', '--port', String(port), '--inspector-port', '0']
  return run(port, [wrangler, 'dev', ...options, '--show-interactive-dev-session=false', ...vars])
}

/** What `wrangler deploy` would send, in workerd without wrangler's own proxy before it, which keeps to itself that a
 *  client left. */
export async function startBareWorker(variables: Readonly<Record<string, string>>): Promise<RunningWorker> {
  const folder = mkdtempSync(path.join(tmpdir(), 'ganglion-workerd-'))
  const built = spawnSync(wrangler, ['deploy', '--dry-run', '--env=', '--outdir', folder], {
    cwd: root,
    env: quietEnvironment(),
    encoding: 'utf8',
  })
  if (built.status !== 0) throw new Error(`wrangler does not build the Worker:\n${built.stdout}${built.stderr}`)
  const port = await freePort()
  const bindings = Object.entries(variables).map(([name, text]) => `(name = "${name}", text = "${text}")`)
  const { compatibility_date: date, compatibility_flags: flags } = parse(
    readFileSync(path.join(root, 'wrangler.toml'), 'utf8'),
  )
  writeFileSync(
    path.join(folder, 'config.capnp'),
    `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "edge", worker = .edge), (name = "internet", network = (allow = ["public", "private"]))],
  sockets = [(name = "http", address = "127.0.0.1:${port}", http = (), service = "edge")],
);
const edge :Workerd.Worker = (
  modules = [(name = "worker.js", esModule = embed "worker.js")],
  compatibilityDate = "${date}", compatibilityFlags = [${flags.map((flag) => `"${flag}"`).join(', ')}],
  bindings = [${bindings.join(', ')}],
);
`,
  )
  const worker = await run(port, [workerd, 'serve', path.join(folder, 'config.capnp')])
  return {
    ...worker,
    async close() {
      await worker.close()
      rmSync(folder, { recursive: true })
    },
  }
}

/** The two keys of wrangler.toml that workerd itself has to know. */
function parse(toml: string): { compatibility_date: string; compatibility_flags: string[] } {
  const date = /^compatibility_date = "([^"]+)"$/m.exec(toml)?.[1]
  const flags = /^compatibility_flags = \[([^\]]*)\]$/m.exec(toml)?.[1]
  if (date === undefined || flags === undefined) throw new Error('wrangler.toml names no date or no flags')
  return {
    compatibility_date: date,
    compatibility_flags: [...flags.matchAll(/"([^"]+)"/g)].map(([, flag = '']) => flag),
  }
}

async function run(port: number, [program = '', ...args]: readonly string[]): Promise<RunningWorker> {
  const running: ChildProcess = spawn(program, args, {
    cwd: root,
    env: quietEnvironment(),
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let said = ''
  for (const stream of [running.stdout, running.stderr]) {
    stream?.on('data', (chunk: Buffer) => {
      said = (said + chunk.toString()).slice(-4_000)
    })
  }
  const url = `http://127.0.0.1:${port}`
  async function close(): Promise<void> {
    if (running.exitCode !== null) return
    const ended = new Promise((resolve) => running.once('exit', resolve))
    running.kill('SIGTERM')
    const kill = setTimeout(() => running.kill('SIGKILL'), 5_000)
    await ended
    clearTimeout(kill)
  }
  try {
    await until(async () => {
      if (running.exitCode !== null) throw new Error(`it ended with ${running.exitCode}`)
      return (await fetch(`${url}/health`).catch(() => undefined))?.ok === true
    }, 'workerd starts')
  } catch (error) {
    await close()
    throw new Error(`the Worker did not start:\n${said}`, { cause: error })
  }
  return { url, port, close }
}
