/** Runs one role as the process: its configuration, its signals, its end. */
import { performance } from 'node:perf_hooks'
import { parseArgs } from 'node:util'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { ConfigError, loadConfig } from '../config/load.ts'
import type { Config } from '../config/schema.ts'
import { createLogger, type Logger } from '../logging.ts'

export interface Running {
  /** Such as `http://127.0.0.1:8008`. */
  readonly addresses: readonly string[]
  /** Settles when the process cannot go on; then `close` has still to be called. */
  readonly failed?: Promise<Error>
  /** Answers what is under way, stops what was started. */
  close(): Promise<void>
}

export type Start = (config: Config, log: Logger) => Promise<Running>

/** After the first requests of whoever waited for the start. */
const settleAfterMs = 3_000
/** Of the time since it was looked at before, at most so much was work. */
const quietUtilization = 0.05
const usageExit = 2
const bugExit = 70

/** Loads the configuration that `-c` or GANGLION_CONFIG_PATH names, starts, and lives until a signal or a failure. Exits
 *  with 2 where the configuration is not usable, with 1 where the start fails, and with 0 after SIGTERM or SIGINT. */
export async function runProcess(role: string, start: Start): Promise<void> {
  const loaded = await loadConfig({ paths: configPaths(), env: process.env }).catch(refuse)
  if (!loaded) return
  const { config, warnings } = loaded
  const log = createLogger(config.log)
  for (const warning of warnings) log.warn({}, warning)
  const { addresses } = await runConfigured(config, log, start)
  log.info({ role, addresses, server_name: config.server_name, ms: Math.round(performance.now()) }, 'ready')
}

/** The same with a configuration that is there. Resolves once requests are answered. */
export async function runConfigured(config: Config, log: Logger, start: Start): Promise<Running> {
  // From the first moment: what is started is stopped again, also by a signal in the middle of the start.
  const signalled = new Promise<NodeJS.Signals>((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => resolve(signal))
  })
  process.on('uncaughtException', (err) => die(log, err))
  process.on('unhandledRejection', (err) => die(log, err))
  try {
    const running = await start(config, log)
    signalled.then((signal) => end(running, log, 0, { signal }, 'stopping'))
    running.failed?.then((err) => end(running, log, 1, { err }, 'cannot go on'))
    settle()
    return running
  } catch (error) {
    if (error instanceof ConfigError) {
      refuse(error)
      process.exit(usageExit)
    }
    log.error({ err: error }, 'did not start')
    log.flush()
    process.exit(1)
  }
}

function configPaths(): string[] {
  const { values } = parseArgs({ options: { 'config-path': { type: 'string', short: 'c', multiple: true } } })
  return values['config-path'] ?? (process.env.GANGLION_CONFIG_PATH ?? '').split(':').filter((path) => path !== '')
}

/** Says what is wrong with the configuration; anything else is thrown on. */
function refuse(error: unknown): undefined {
  if (!(error instanceof ConfigError)) throw error
  process.stderr.write(`The configuration is not usable:\n${error.problems.map((line) => `  ${line}\n`).join('')}`)
  process.exitCode = usageExit
  return undefined
}

/** A start leaves more behind than a resting server holds; without traffic nothing would ever collect it. With traffic it is
 *  collected anyway, and a pause would be met by all who come back after the start: then it waits for a quiet moment. */
function settle(): void {
  let before = performance.eventLoopUtilization()
  const looking = setInterval(() => {
    const { utilization } = performance.eventLoopUtilization(before)
    before = performance.eventLoopUtilization()
    if (utilization > quietUtilization) return
    clearInterval(looking)
    setFlagsFromString('--expose-gc')
    const collect = runInNewContext('gc') as (options: object) => void
    // The flavour that also gives memory back which the heap holds in reserve.
    collect({ type: 'major', execution: 'sync', flavor: 'last-resort' })
  }, settleAfterMs).unref()
}

async function end(
  running: Running,
  log: Logger,
  code: number,
  fields: Readonly<Record<string, unknown>>,
  message: string,
): Promise<void> {
  if (code === 0) log.info({ ...fields }, message)
  else log.error({ ...fields }, message)
  await running.close()
  log.flush()
  process.exit(code)
}

/** A broken invariant: go down, be restarted, have it in the log. */
function die(log: Logger, err: unknown): never {
  log.error({ err }, 'a bug: the process ends')
  log.flush()
  process.exit(bugExit)
}
