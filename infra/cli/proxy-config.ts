import { parseArgs } from 'node:util'
import { loadConfig } from '../../shared/config/load.ts'
import type { Config } from '../../shared/config/schema.ts'
import type { Role } from '../../shared/http/route.ts'
import { roles } from '../../shared/http/route-table.ts'
import { type Command, configHelp, configOption, UsageError } from './command.ts'
import { caddyConfig } from './proxy-config/caddy.ts'
import { haproxyConfig } from './proxy-config/haproxy.ts'
import { nginxConfig } from './proxy-config/nginx.ts'
import type { HandlersOfRole, ProxySettings } from './proxy-config/rules.ts'
import { traefikConfig } from './proxy-config/traefik.ts'

const generators: Readonly<Record<string, (settings: ProxySettings) => string>> = {
  nginx: nginxConfig,
  haproxy: haproxyConfig,
  caddy: caddyConfig,
  traefik: traefikConfig,
}
const defaultPort = 8008

export const proxyConfig: Command = {
  help: `Usage: ganglion proxy-config nginx|haproxy|caddy|traefik [-c homeserver.yaml] [--upstream ROLE=URL …] [--port N]

Prints a configuration of that proxy which does what the edge does: each request to its role, by the same table.
Handlers are those of edge.upstreams, or of --upstream, which wins for its role. What is not for the outside (metrics,
commands) is not passed on.

${configHelp}
      --upstream ROLE=URL  a handler of sync, client, federation or media; repeatable
      --port N             where the proxy listens for plain HTTP; default ${defaultPort}`,
  async run(args) {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: { ...configOption, upstream: { type: 'string', multiple: true }, port: { type: 'string' } },
    })
    const [name = '', ...more] = positionals
    const generate = generators[name]
    if (!generate || more.length > 0) {
      throw new UsageError(`which proxy? One of ${Object.keys(generators).join(', ')}`)
    }
    const port = values.port === undefined ? defaultPort : Number(values.port)
    if (!(Number.isInteger(port) && port > 0 && port < 65_536))
      throw new UsageError('--port: expected a number of a port')
    const { config } = await loadConfig({
      paths: values['config-path'] ?? [],
      env: process.env,
      // Nothing of it depends on the server's name.
      base: { server_name: 'localhost' },
    })
    const handlers = handlersFrom(config, values.upstream ?? [])
    process.stdout.write(generate({ handlers, port, bodyBytesMax: config.edge.body_limits }))
    return 0
  },
}

function handlersFrom(config: Config, given: readonly string[]): HandlersOfRole {
  const named = new Map<Role, string[]>()
  for (const text of given) {
    const [, role, url] = /^(\w+)=(https?:\/\/[^/?#@\s]+)\/?$/.exec(text) ?? []
    const known = roles.find((each) => each === role)
    if (known === undefined || url === undefined) {
      throw new UsageError(`--upstream ${text}: expected one such as sync=http://10.0.0.5:8008`)
    }
    named.set(known, [...(named.get(known) ?? []), url])
  }
  const handlers = Object.fromEntries(
    roles.map((role) => [role, named.get(role) ?? config.edge.upstreams[role] ?? []]),
  ) as unknown as HandlersOfRole
  const missing = roles.filter((role) => handlers[role].length === 0)
  if (missing.length === roles.length) throw new UsageError('no handlers: set edge.upstreams, or give --upstream')
  if (missing.length > 0) process.stderr.write(`no handlers of ${missing.join(', ')}: their requests get 503\n`)
  return handlers
}
