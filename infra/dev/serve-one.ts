/** One process with all roles, with the settings of `npm run dev`, and a greeting that says what they are. */
import path from 'node:path'
import { parseArgs } from 'node:util'
import { createMonolith } from '../../functions/monolith/monolith.ts'
import { ConfigError } from '../../shared/config/load.ts'
import type { Config } from '../../shared/config/schema.ts'
import { createLogger } from '../../shared/logging.ts'
import { runConfigured } from '../../shared/role/run-process.ts'
import { loadDevConfig, secretFile, tellConfigError } from './dev-config.ts'

const { values } = parseArgs({
  options: {
    'config-path': { type: 'string', short: 'c', multiple: true, default: [] },
    /** How the database came about, for the greeting. */
    database: { type: 'string', default: 'as configured' },
    /** Not the first server of this session: it says that it is back, and no more. */
    again: { type: 'boolean', default: false },
  },
})

try {
  const { config, warnings } = await loadDevConfig(values['config-path'])
  const { addresses } = await runConfigured(config, createLogger(config.log), (_, log) =>
    createMonolith(config, { log }),
  )
  const ready = `  Ganglion is ready after ${Math.round(performance.now())} ms: ${addresses.join(' ')}`
  const lines = [
    ...warnings.map((warning) => `Warning: ${warning}`),
    ...(values.again ? [ready] : greeting(config, ready)),
  ]
  process.stdout.write(`${lines.join('\n')}\n`)
} catch (error) {
  if (!(error instanceof ConfigError)) throw error
  tellConfigError(error)
  process.exitCode = 2
}

function greeting(config: Config, ready: string): string[] {
  return [
    '',
    ready,
    '',
    `  server name   ${config.server_name} (users are @name:${config.server_name})`,
    `  data          ${path.resolve(config.data_dir)}; delete the folder to start afresh`,
    `  database      ${values.database}`,
    `  registration  ${config.registration.enabled ? 'open to everybody' : 'closed'}`,
    `  shared secret ${secretFile(config.data_dir)}`,
    `  rate limits   ${config.rate_limits.enabled ? 'on' : 'off'}`,
    '',
    '  Reachable from this machine alone. This is for trying things out: do not put it on a network.',
    '  A change of the sources restarts it; Ctrl-C stops it.',
    '',
  ]
}
