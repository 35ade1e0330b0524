import { createHmac } from 'node:crypto'
import { createInterface } from 'node:readline/promises'
import { Writable } from 'node:stream'
import { parseArgs } from 'node:util'
import { loadConfig } from '../../shared/config/load.ts'
import { type Command, configHelp, configOption, configPaths, UsageError } from './command.ts'
import { localUrl } from './local-url.ts'

export const registerUser: Command = {
  help: `Usage: ganglion register-user -c homeserver.yaml -u alice [--admin] [--password-file FILE] [--url http://localhost:8008]

Makes an account on the running server, through its shared-secret API (registration.shared_secret must be set).
The password is asked for, or read from a file or, with \`--password-file -\`, from standard input.

${configHelp}
  -k, --shared-secret S    instead of a configuration
  -u, --user NAME          the part of the user id before the colon
  -a, --admin              make the account a server administrator
      --displayname NAME   its display name
      --password-file F    where the password is
      --exists-ok          a name that is taken is no failure
      --url URL            the server; default: the first listener of the configuration`,
  async run(args) {
    const { values } = parseArgs({
      args: [...args],
      options: {
        ...configOption,
        'shared-secret': { type: 'string', short: 'k' },
        user: { type: 'string', short: 'u' },
        admin: { type: 'boolean', short: 'a', default: false },
        displayname: { type: 'string' },
        'password-file': { type: 'string' },
        'exists-ok': { type: 'boolean', default: false },
        url: { type: 'string' },
      },
    })
    if (!values.user) throw new UsageError('--user is needed')
    const { secret, url } = await settings(values)
    const password = await passwordOf(values['password-file'])
    const endpoint = new URL('/_synapse/admin/v1/register', url)

    const { nonce } = await call(endpoint, undefined)
    const mac = createHmac('sha1', secret)
      .update([nonce, values.user, password, values.admin ? 'admin' : 'notadmin'].join('\0'))
      .digest('hex')
    const request = {
      nonce,
      username: values.user,
      password,
      admin: values.admin,
      mac,
      ...(values.displayname === undefined ? {} : { displayname: values.displayname }),
    }
    try {
      const { user_id } = await call(endpoint, request)
      process.stdout.write(`Made ${user_id}.\n`)
      return 0
    } catch (error) {
      if (!(error instanceof Refused)) throw error
      if (error.errcode === 'M_USER_IN_USE' && values['exists-ok']) {
        process.stdout.write(`${values.user} is there already.\n`)
        return 0
      }
      process.stderr.write(`ganglion: the server refused: ${error.message}\n`)
      return 1
    }
  },
}

async function settings(values: {
  'config-path'?: string[]
  'shared-secret'?: string
  url?: string
}): Promise<{ secret: string; url: string }> {
  if (values['shared-secret'] !== undefined) {
    return { secret: values['shared-secret'], url: values.url ?? 'http://localhost:8008' }
  }
  const { config } = await loadConfig({ paths: configPaths(values), env: process.env })
  const secret = config.registration.shared_secret
  if (secret === undefined) throw new UsageError('registration.shared_secret is not set in the configuration')
  const url = values.url ?? localUrl(config)
  if (url === undefined) throw new UsageError('--url is needed: the configuration has no listener without TLS')
  return { secret, url }
}

async function passwordOf(file: string | undefined): Promise<string> {
  if (file !== undefined) {
    const { readFileSync } = await import('node:fs')
    return readFileSync(file === '-' ? 0 : file, 'utf8').replace(/\r?\n$/, '')
  }
  if (!process.stdin.isTTY) throw new UsageError('--password-file is needed where nobody can be asked')
  const terminal = createInterface({ input: process.stdin, output: new Muted(), terminal: true })
  try {
    process.stderr.write('Password: ')
    const first = await terminal.question('')
    process.stderr.write('\nAgain: ')
    const second = await terminal.question('')
    process.stderr.write('\n')
    if (first !== second) throw new UsageError('the two passwords differ')
    if (first === '') throw new UsageError('the password is empty')
    return first
  } finally {
    terminal.close()
  }
}

class Refused extends Error {
  readonly errcode: string
  constructor(errcode: string, message: string) {
    super(`${message} (${errcode})`)
    this.errcode = errcode
  }
}

async function call(endpoint: URL, body: object | undefined): Promise<Record<string, unknown>> {
  let response: Response
  try {
    response = await fetch(
      endpoint,
      body && { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) },
    )
  } catch (cause) {
    throw new UsageError(`${endpoint.origin} does not answer: ${String((cause as Error).cause ?? cause)}`)
  }
  const answer = (await response.json()) as Record<string, unknown>
  if (!response.ok) throw new Refused(String(answer.errcode), String(answer.error))
  return answer
}

/** Swallows what a terminal would show of the password. */
class Muted extends Writable {
  override _write(_chunk: unknown, _encoding: string, done: () => void): void {
    done()
  }
}
