/** Runs a monolith as the process: signals end it in good order, and what it cannot survive ends it with a reason. */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { Config } from '../../shared/config/schema.ts'
import { createLogger, type Logger } from '../../shared/logging.ts'
import { createMonolith, type Monolith } from './monolith.ts'

/** After the first requests of whoever waited for the start. */
const settleAfterMs = 3_000

/** Resolves once requests are answered; exits the process with 1 when that fails. */
export async function run(config: Config): Promise<{ monolith: Monolith; log: Logger }> {
  const log = createLogger(config.log)
  // From the first moment: what is started is stopped again, also by a signal in the middle of the start.
  const signalled = new Promise<NodeJS.Signals>((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => resolve(signal))
  })
  process.on('uncaughtException', (err) => die(log, err))
  process.on('unhandledRejection', (err) => die(log, err))
  try {
    const monolith = await createMonolith(config, { log })
    signalled.then((signal) => end(monolith, log, 0, { signal }, 'stopping'))
    settle()
    monolith.failed.then((err) => end(monolith, log, 1, { err }, 'cannot go on'))
    return { monolith, log }
  } catch (error) {
    log.error({ err: error }, 'did not start')
    log.flush()
    process.exit(1)
  }
}

/** A start leaves more behind than a resting server holds; without traffic nothing would ever collect it. */
function settle(): void {
  setTimeout(() => {
    setFlagsFromString('--expose-gc')
    const collect = runInNewContext('gc') as (options: object) => void
    // The flavour that also gives memory back which the heap holds in reserve.
    collect({ type: 'major', execution: 'sync', flavor: 'last-resort' })
  }, settleAfterMs).unref()
}

async function end(monolith: Monolith, log: Logger, code: number, fields: object, message: string): Promise<void> {
  if (code === 0) log.info({ ...fields }, message)
  else log.error({ ...fields }, message)
  await monolith.close()
  log.flush()
  process.exit(code)
}

/** A broken invariant: go down, be restarted, have it in the log. */
function die(log: Logger, err: unknown): never {
  log.error({ err }, 'a bug: the process ends')
  log.flush()
  process.exit(70)
}
