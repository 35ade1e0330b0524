import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { parseArgs } from 'node:util'
import * as v from 'valibot'
import { ServerName } from '../../shared/matrix/ids.ts'
import { generateSigningKey, serialiseSigningKey } from '../../shared/matrix/signatures.ts'
import { type Command, UsageError } from './command.ts'

export const generateConfig: Command = {
  help: `Usage: ganglion generate-config --server-name example.org [--output homeserver.yaml] [--data-dir ./data]

Writes a configuration that can be used as it is, with fresh secrets, and the server's signing key beside it.
What exists is never overwritten.

      --server-name NAME   the part of every user id after the colon; it can never be changed
      --output FILE        default: homeserver.yaml
      --data-dir DIR       where the server keeps its data; default: ./data
      --database-url URL   an existing PostgreSQL; without it the server runs one of its own in the data folder`,
  run(args) {
    const { values } = parseArgs({
      args: [...args],
      options: {
        'server-name': { type: 'string' },
        output: { type: 'string', default: 'homeserver.yaml' },
        'data-dir': { type: 'string', default: './data' },
        'database-url': { type: 'string' },
      },
    })
    const serverName = v.safeParse(ServerName, values['server-name'])
    if (!serverName.success) throw new UsageError('--server-name is needed: a host name such as example.org')
    const keyFile = path.join(values['data-dir'], 'signing.key')
    if (existsSync(values.output)) throw new UsageError(`${values.output} is there already`)

    mkdirSync(values['data-dir'], { recursive: true })
    if (!existsSync(keyFile))
      writeFileSync(keyFile, serialiseSigningKey(generateSigningKey()), { mode: 0o600, flag: 'wx' })
    const text = configText(serverName.output, values['data-dir'], values['database-url'])
    writeFileSync(values.output, text, { mode: 0o600, flag: 'wx' })
    process.stdout.write(`Wrote ${values.output}; the signing key is ${keyFile}. Keep both to yourself.\n`)
    return 0
  },
}

function configText(serverName: string, dataDir: string, databaseUrl: string | undefined): string {
  const database =
    databaseUrl === undefined
      ? '# An embedded PostgreSQL runs in data_dir. For one of your own:\n# database:\n#   url: postgres://ganglion:password@localhost/ganglion'
      : `database:\n  url: ${JSON.stringify(databaseUrl)}`
  return `# All keys, their defaults and units: docs/configuration.md

server_name: ${JSON.stringify(serverName)}
data_dir: ${JSON.stringify(dataDir)}

listeners:
  - port: 8008
    bind: 127.0.0.1

# Proxies in front of this server, whose X-Forwarded-For is believed.
trusted_proxies: [127.0.0.1, "::1"]

${database}

registration:
  enabled: false
  # For \`ganglion register-user\`.
  shared_secret: ${randomBytes(32).toString('base64url')}

log:
  level: info
  format: json
`
}
