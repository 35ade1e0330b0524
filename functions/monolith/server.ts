/** `node functions/monolith/server.ts -c homeserver.yaml`: the production entry of one process with all roles. */
import { parseArgs } from 'node:util'
import { ConfigError, loadConfig } from '../../shared/config/load.ts'
import { run } from './run.ts'

const { values } = parseArgs({ options: { 'config-path': { type: 'string', short: 'c', multiple: true } } })
const paths = values['config-path'] ?? (process.env.GANGLION_CONFIG_PATH ?? '').split(':').filter((path) => path !== '')

try {
  const { config, warnings } = await loadConfig({ paths, env: process.env })
  const { monolith, log } = await run(config)
  for (const warning of warnings) log.warn({}, warning)
  const started = { addresses: monolith.addresses, server_name: config.server_name, ms: Math.round(performance.now()) }
  log.info(started, 'ready')
} catch (error) {
  if (!(error instanceof ConfigError)) throw error
  process.stderr.write(`The configuration is not usable:\n${error.problems.map((line) => `  ${line}\n`).join('')}`)
  process.exitCode = 2
}
