import { parseArgs } from 'node:util'
import { loadConfig } from '../../shared/config/load.ts'
import { type Command, configHelp, configOption, configPaths, UsageError } from './command.ts'
import { localUrl } from './local-url.ts'

const answersWithinMs = 4_000

/** What containers and supervisors run that cannot ask over HTTP themselves. */
export const health: Command = {
  help: `Usage: ganglion health [-c homeserver.yaml] [--ready] [--url http://localhost:8008]

Asks the process on this machine whether it lives (/health) or, with --ready, whether it can serve; ends with 0 if so.

${configHelp}
      --ready              ask /ready, and print what is in the way
      --url URL            the process; default: the first listener of the configuration`,
  async run(args) {
    const { values } = parseArgs({
      args: [...args],
      options: { ...configOption, ready: { type: 'boolean', default: false }, url: { type: 'string' } },
    })
    const url = values.url ?? (await configured(configPaths(values)))
    const path = values.ready ? '/ready' : '/health'
    try {
      const response = await fetch(new URL(path, url), { signal: AbortSignal.timeout(answersWithinMs) })
      const text = await response.text()
      process.stdout.write(`${text.trimEnd()}\n`)
      return response.ok ? 0 : 1
    } catch (error) {
      process.stderr.write(`${url} does not answer: ${(error as Error).message}\n`)
      return 1
    }
  },
}

async function configured(paths: readonly string[]): Promise<string> {
  const { config } = await loadConfig({ paths, env: process.env })
  const url = localUrl(config)
  if (url === undefined) throw new UsageError('--url is needed: the configuration has no listener without TLS')
  return url
}
