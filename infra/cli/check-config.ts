import { parseArgs } from 'node:util'
import { stringify } from 'yaml'
import { loadConfig } from '../../shared/config/load.ts'
import { Config } from '../../shared/config/schema.ts'
import { type SchemaNode, schemaNode } from '../../shared/config/walk.ts'
import { type Command, configHelp, configOption, configPaths } from './command.ts'

export const checkConfig: Command = {
  help: `Usage: ganglion check-config -c homeserver.yaml [--print]

Says what is wrong with a configuration: the file, the key, what was expected. Exit code 2 if it cannot be used.

${configHelp}
      --print              print every key as it will be used, without secrets
                           (durations in milliseconds, sizes in bytes)
      --strict             exit with 1 if a key is unknown`,
  async run(args) {
    const { values } = parseArgs({
      args: [...args],
      options: { ...configOption, print: { type: 'boolean' }, strict: { type: 'boolean' } },
    })
    const { config, warnings } = await loadConfig({ paths: configPaths(values), env: process.env })
    for (const warning of warnings) process.stderr.write(`warning: ${warning}\n`)
    if (values.print) process.stdout.write(stringify(withoutSecrets(config, schemaNode(Config))))
    else process.stdout.write(`The configuration of ${config.server_name} can be used.\n`)
    return values.strict && warnings.length > 0 ? 1 : 0
  },
}

function withoutSecrets(value: unknown, node: SchemaNode | undefined): unknown {
  if (node?.secret) return '[secret]'
  if (Array.isArray(value)) return value.map((item) => withoutSecrets(item, node?.item))
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value).map(([key, child]) => [key, withoutSecrets(child, node?.entries.get(key))]),
  )
}
