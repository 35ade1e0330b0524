/** What `npm run dev` runs: a server to try things on. It needs no file, keeps everything in ./data, listens on the loopback address
 *  alone, lets anybody register and limits nobody. Files given with -c and GANGLION_… variables still win. */
import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { ConfigError, loadConfig } from '../../shared/config/load.ts'
import type { Config } from '../../shared/config/schema.ts'
import { createLogger } from '../../shared/logging.ts'
import { runConfigured } from '../../shared/role/run-process.ts'
import { createMonolith } from './monolith.ts'

const { values } = parseArgs({
  options: { 'config-path': { type: 'string', short: 'c', multiple: true, default: [] } },
})

try {
  const load = (secret?: string) =>
    loadConfig({ paths: values['config-path'], env: process.env, base: defaults(secret) })
  // Twice: where the secret is kept is for the configuration to say.
  const { config, warnings } = await load(keptSecret((await load()).config.data_dir))
  const fresh = !existsSync(path.join(config.data_dir, 'postgres'))
  const { addresses } = await runConfigured(config, createLogger(config.log), (_, log) =>
    createMonolith(config, { log }),
  )
  const lines = [...warnings.map((warning) => `Warning: ${warning}`), ...greeting(config, addresses, fresh)]
  process.stdout.write(`${lines.join('\n')}\n`)
} catch (error) {
  if (!(error instanceof ConfigError)) throw error
  process.stderr.write(`The configuration is not usable:\n${error.problems.map((line) => `  ${line}\n`).join('')}`)
  process.exitCode = 2
}

function defaults(secret?: string): Record<string, unknown> {
  return {
    server_name: 'localhost',
    data_dir: process.env.GANGLION_DATA_DIR ?? './data',
    listeners: [{ port: 8008, bind: '127.0.0.1' }],
    registration: { enabled: true, guests: true, ...(secret === undefined ? {} : { shared_secret: secret }) },
    password: { bcrypt_rounds: 4, minimum_length: 1 },
    rate_limits: { enabled: false },
    log: { level: 'info', format: 'pretty' },
  }
}

/** Made once, so that scripts that use it go on working. */
function keptSecret(dataDir: string): string {
  const file = path.join(dataDir, 'registration-shared-secret')
  try {
    if (!existsSync(file)) {
      mkdirSync(dataDir, { recursive: true })
      writeFileSync(file, `${randomBytes(24).toString('base64url')}\n`, { mode: 0o600 })
    }
    return readFileSync(file, 'utf8').trim()
  } catch (error) {
    throw new ConfigError([
      `data_dir: this user cannot write to ${path.resolve(dataDir)} (${(error as Error).message})`,
    ])
  }
}

function greeting(config: Config, addresses: readonly string[], fresh: boolean): string[] {
  const data = path.resolve(config.data_dir)
  return [
    '',
    `  Ganglion is ready after ${Math.round(performance.now())} ms: ${addresses.join(' ')}`,
    '',
    `  server name   ${config.server_name} (users are @name:${config.server_name})`,
    `  data          ${data}${fresh ? ', made just now' : ''}; delete the folder to start afresh`,
    `  database      ${config.database.url === undefined ? 'PostgreSQL of its own, in the data folder' : 'as configured'}`,
    `  registration  ${config.registration.enabled ? 'open to everybody' : 'closed'}`,
    `  shared secret ${path.join(data, 'registration-shared-secret')}`,
    `  rate limits   ${config.rate_limits.enabled ? 'on' : 'off'}`,
    '',
    '  Reachable from this machine alone. This is for trying things out: do not put it on a network.',
    '  Ctrl-C stops it.',
    '',
  ]
}
