/** `ganglion explain EVENT_ID`: when an event came, what the checks said, and who has got it. Reads the database alone. */
import { parseArgs } from 'node:util'
import * as v from 'valibot'
import { embeddedDatabaseUrl } from '../../functions/monolith/database.ts'
import { loadConfig } from '../../shared/config/load.ts'
import { EventId } from '../../shared/matrix/ids.ts'
import { connectForReading } from '../../shared/storage/sql.ts'
import { type Command, configHelp, configOption, configPaths, UsageError } from './command.ts'
import { type Step, storyOf } from './explain/story.ts'

export const explain: Command = {
  help: `Usage: ganglion explain EVENT_ID -c homeserver.yaml

Says of one event when it was received, what the checks came to, when and how it was stored, where it was published, and of
each server that it goes to whether it has it, and if not, why. Reads the database; with an embedded one, while the server
runs. Quote the id: it begins with a dollar sign.

${configHelp}
      --json               one step a line: {"step", "what", "at", "to"}

Exit code 1 if this server knows nothing of the event.`,
  async run(args) {
    const { values, positionals } = parseArgs({
      args: [...args],
      options: { ...configOption, json: { type: 'boolean', default: false } },
      allowPositionals: true,
    })
    const [given, ...more] = positionals
    if (given === undefined || more.length > 0) throw new UsageError("explain takes one event id; quote it: '$…'")
    const parsed = v.safeParse(EventId, given)
    if (!parsed.success) throw new UsageError(`${given} is no event id; quote it: '$…'`)
    const event_id = parsed.output
    const { config } = await loadConfig({ paths: configPaths(values), env: process.env })
    const { read_url, url, prepare } = config.database
    const database = read_url ?? url ?? (await embeddedDatabaseUrl(config))
    if (database === undefined) throw new UsageError('the embedded database does not run: start the server')
    const sql = connectForReading({ url: database, connections: 2, applicationName: 'ganglion-explain', prepare })
    try {
      const story = await storyOf(sql, { event_id, server_name: config.server_name, now: Date.now() })
      if (!story) {
        process.stderr.write(`${event_id} is not known here, and does not wait either\n`)
        return 1
      }
      process.stdout.write(story.map((step) => (values.json ? `${JSON.stringify(step)}\n` : told(step))).join(''))
      return 0
    } finally {
      await sql.end()
    }
  },
}

function told({ step, what, at, to }: Step): string {
  const when = at === undefined ? ' '.repeat(24) : new Date(at).toISOString()
  return `${when}  ${step.padEnd(9)}  ${to === undefined ? '' : `${to}: `}${what}\n`
}
