/** What `npm run dev` starts with: a server to try things on. It needs no file, keeps everything in ./data, listens on the
 *  loopback address alone, lets anybody register and limits nobody. Files given with -c and GANGLION_… variables still win. */
import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { ConfigError, type LoadedConfig, loadConfig } from '../../shared/config/load.ts'

/** Throws ConfigError. */
export async function loadDevConfig(paths: readonly string[]): Promise<LoadedConfig> {
  const load = (secret?: string) => loadConfig({ paths, env: process.env, base: defaults(secret) })
  // Twice: where the secret is kept is for the configuration to say.
  return load(keptSecret((await load()).config.data_dir))
}

export function tellConfigError(error: ConfigError): void {
  process.stderr.write(`The configuration is not usable:\n${error.problems.map((line) => `  ${line}\n`).join('')}`)
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

export function secretFile(dataDir: string): string {
  return path.join(path.resolve(dataDir), 'registration-shared-secret')
}

/** Made once, so that scripts that use it go on working. */
function keptSecret(dataDir: string): string {
  const file = secretFile(dataDir)
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
