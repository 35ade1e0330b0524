/** `npm run dev`: the database, which stays, and before it a server that is replaced when its sources change. */
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import path from 'node:path'
import { openDatabase } from '../../functions/monolith/database.ts'
import { ConfigError } from '../../shared/config/load.ts'
import { loadDevConfig, tellConfigError } from './dev-config.ts'
import { watchSources } from './watch.ts'

const configExit = 2

/** Resolves to the exit code once it was stopped. */
export async function devOne(options: {
  readonly configPaths: readonly string[]
  readonly watch: boolean
}): Promise<number> {
  // What the configuration lacks is said by the server; here it only tells where the database is.
  const loaded = await loadDevConfig(options.configPaths).catch((error: unknown) => {
    if (!(error instanceof ConfigError)) throw error
    tellConfigError(error)
  })
  if (!loaded) return configExit
  const { config } = loaded
  const stopped = Promise.withResolvers<number>()
  let stopping = false
  let child: ChildProcess | undefined
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.on(signal, () => {
      stopping = true
      if (isRunning(child)) child?.kill('SIGTERM')
      else stopped.resolve(0)
    })
  }

  const fresh = !existsSync(path.join(config.data_dir, 'postgres'))
  const database = await openDatabase(config, (reason) => say(`PostgreSQL ended (${reason}) and is started again`))
  try {
    database.ended?.then((reason) => {
      say(`PostgreSQL ended: ${reason}`)
      stopping = true
      child?.kill('SIGTERM')
      stopped.resolve(1)
    })
    const embedded = config.database.url === undefined
    const described = embedded
      ? `PostgreSQL of its own, in the data folder${fresh ? ', made just now' : ''}`
      : 'as configured'

    const start = (again: boolean) => {
      const started = spawn(
        process.execPath,
        [
          '--max-semi-space-size=8',
          path.join(import.meta.dirname, 'dev-server.ts'),
          ...options.configPaths.flatMap((file) => ['-c', file]),
          '--database',
          described,
          ...(again ? ['--again'] : []),
        ],
        { stdio: 'inherit', env: { ...process.env, ...(embedded ? { GANGLION_DATABASE__URL: database.url } : {}) } },
      )
      child = started
      started.once('exit', (code) => {
        if (child !== started) return
        if (stopping || !options.watch || code === configExit) stopped.resolve(stopping ? 0 : (code ?? 1))
        else say('The server ended; it is started again at the next change of the sources')
      })
    }
    start(false)
    if (options.watch) {
      const restart = async () => {
        const old = child
        child = undefined
        if (isRunning(old)) {
          const gone = new Promise((resolve) => old?.once('exit', resolve))
          old?.kill('SIGTERM')
          await gone
        }
        if (!stopping) start(true)
        else stopped.resolve(0)
      }
      let restarting = Promise.resolve()
      const unwatch = watchSources((files) => {
        say(`${files.slice(0, 3).join(', ')}${files.length > 3 ? ' and more' : ''} changed`)
        restarting = restarting.then(restart)
      })
      stopped.promise.finally(unwatch)
    }
    return await stopped.promise
  } finally {
    await database.stop()
  }
}

function isRunning(child: ChildProcess | undefined): boolean {
  return child !== undefined && child.exitCode === null && child.signalCode === null
}

function say(text: string): void {
  process.stdout.write(`  ${text}\n`)
}
