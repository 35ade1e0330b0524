import { setTimeout } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { loadConfig } from '../../shared/config/load.ts'
import { type Command, configHelp, configOption, configPaths, UsageError } from './command.ts'
import { localUrl } from './local-url.ts'

const answersWithinMs = 4_000
const askedAgainMs = 200

/** What containers and supervisors run that cannot ask over HTTP themselves. */
export const health: Command = {
  help: `Usage: ganglion health [-c homeserver.yaml] [--ready] [--wait SECONDS] [--url http://localhost:8008]

Asks the process on this machine whether it lives (/health) or, with --ready, whether it can serve; ends with 0 if so.

${configHelp}
      --ready              ask /ready, and print what is in the way
      --wait SECONDS       ask again for so long; default: 0, ask once
      --url URL            the process; default: the first listener of the configuration`,
  async run(args) {
    const { values } = parseArgs({
      args: [...args],
      options: {
        ...configOption,
        ready: { type: 'boolean', default: false },
        wait: { type: 'string', default: '0' },
        url: { type: 'string' },
      },
    })
    const waitMs = Number(values.wait) * 1_000
    if (!(waitMs >= 0 && waitMs <= 3_600_000)) throw new UsageError('--wait: expected seconds, at most an hour')
    const endpoint = new URL(values.ready ? '/ready' : '/health', values.url ?? (await configured(configPaths(values))))
    const deadline = performance.now() + waitMs
    for (;;) {
      const answer = await ask(endpoint)
      if (answer.well || performance.now() + askedAgainMs > deadline) {
        process[answer.well ? 'stdout' : 'stderr'].write(`${answer.text.trimEnd()}\n`)
        return answer.well ? 0 : 1
      }
      await setTimeout(askedAgainMs)
    }
  },
}

async function ask(endpoint: URL): Promise<{ well: boolean; text: string }> {
  try {
    const response = await fetch(endpoint, { signal: AbortSignal.timeout(answersWithinMs) })
    return { well: response.ok, text: await response.text() }
  } catch (error) {
    const { message, cause } = error as Error
    return {
      well: false,
      text: `${endpoint.origin} does not answer: ${cause instanceof Error ? cause.message : message}`,
    }
  }
}

async function configured(paths: readonly string[]): Promise<string> {
  const { config } = await loadConfig({ paths, env: process.env })
  const url = localUrl(config)
  if (url === undefined) throw new UsageError('--url is needed: the configuration has no listener without TLS')
  return url
}
