#!/usr/bin/env node
/** `ganglion <command>`: everything an operator does beside running the server. Exit codes: 0 done, 1 it failed, 2 the
 *  command line or the configuration is wrong. */
import { ConfigError } from '../../shared/config/load.ts'
import { type Command, UsageError } from './command.ts'

/** Loaded when it is called for: the help must not wait for a database driver. */
const commands: Readonly<Record<string, { summary: string; load: () => Promise<Command> }>> = {
  'generate-config': {
    summary: 'write a configuration with its secrets',
    load: async () => (await import('./generate-config.ts')).generateConfig,
  },
  'check-config': {
    summary: 'say what is wrong with a configuration, or print it as it will be used',
    load: async () => (await import('./check-config.ts')).checkConfig,
  },
  'register-user': {
    summary: 'make an account on a running server, by its shared secret',
    load: async () => (await import('./register-user.ts')).registerUser,
  },
  'generate-signing-key': {
    summary: 'make a key by which the server signs its events',
    load: async () => (await import('./generate-signing-key.ts')).generateSigningKeyFile,
  },
  health: {
    summary: 'ask the process on this machine whether it lives, or can serve',
    load: async () => (await import('./health.ts')).health,
  },
  migrate: {
    summary: 'bring the database up to date, or say what that would do',
    load: async () => (await import('./migrate.ts')).migrateDatabase,
  },
  doctor: {
    summary: 'say whether other servers find, trust and understand this one, or another',
    load: async () => (await import('./doctor.ts')).doctor,
  },
  explain: {
    summary: 'say what became of an event: checks, storage, and which servers have it',
    load: async () => (await import('./explain.ts')).explain,
  },
  'resolve-state': {
    summary: 'resolve state sets given as JSON lines on standard input',
    load: async () => (await import('./resolve-state.ts')).resolveState,
  },
  'redis-gateway': {
    summary: 'offer a Redis over HTTP to handlers that speak nothing else',
    load: async () => (await import('./redis-gateway.ts')).redisGateway,
  },
  'proxy-config': {
    summary: 'print a configuration of nginx, HAProxy, Caddy or Traefik that routes as the edge does',
    load: async () => (await import('./proxy-config.ts')).proxyConfig,
  },
  'generate-docs': {
    summary: 'write docs/configuration.md and docs/config.schema.json from the schema',
    load: async () => (await import('./generate-docs.ts')).generateDocs,
  },
}

async function main(args: readonly string[]): Promise<number> {
  const [name = '', ...rest] = args
  if (name === '' || name === 'help' || name === '--help' || name === '-h') {
    process.stdout.write(help())
    return name === '' ? 2 : 0
  }
  const entry = commands[name]
  if (!entry) throw new UsageError(`there is no command ${name}\n\n${help()}`)
  const command = await entry.load()
  if (rest.includes('--help') || rest.includes('-h')) {
    process.stdout.write(`${command.help.trim()}\n`)
    return 0
  }
  return command.run(rest)
}

function help(): string {
  const width = Math.max(...Object.keys(commands).map((name) => name.length))
  const lines = Object.entries(commands).map(([name, { summary }]) => `  ${name.padEnd(width)}  ${summary}`)
  return `Usage: ganglion <command> [options]\n\n${lines.join('\n')}\n\n\`ganglion <command> --help\` tells more.\n`
}

try {
  process.exitCode = await main(process.argv.slice(2))
} catch (error) {
  process.stderr.write(`${told(error)}\n`)
  process.exitCode = error instanceof UsageError || error instanceof ConfigError || isParseArgsError(error) ? 2 : 1
}

function told(error: unknown): string {
  if (error instanceof ConfigError) return ['The configuration cannot be used:', ...error.problems].join('\n  ')
  if (error instanceof UsageError || isParseArgsError(error)) return `ganglion: ${(error as Error).message}`
  return `ganglion: ${error instanceof Error ? error.stack : String(error)}`
}

function isParseArgsError(error: unknown): boolean {
  return String((error as { code?: unknown }).code).startsWith('ERR_PARSE_ARGS_')
}
