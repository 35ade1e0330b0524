/** Where Redis is, from one URL:
 *
 *  | URL | what |
 *  | --- | --- |
 *  | `redis://[user:password@]host[:6379][/database]`, `rediss://…` | one server, over TCP or TLS |
 *  | `redis+unix:///path/to/socket[?database=N]` | one server on this machine |
 *  | `redis+sentinel://[user:password@]host[:26379][,host…]/master-name[/database]`, `rediss+sentinel://…` | whichever server Sentinel says is the master; `?sentinel_username=…&sentinel_password=…` for Sentinel itself |
 *  | `redis+cluster://[user:password@]host[:6379][,host…]`, `rediss+cluster://…` | a cluster; some of its nodes are enough |
 *  | `https://host`, `http://host` | Upstash's REST API, or the gateway of `infra/redis-gateway` |
 *  | `memory:` | none: kept in this process |
 */
import { RedisUrlError } from './errors.ts'

export interface Address {
  readonly host: string
  readonly port: number
}

export interface Credentials {
  readonly username?: string | undefined
  readonly password?: string | undefined
}

export type RedisUrl =
  | ({
      readonly kind: 'node'
      readonly tls: boolean
      readonly at: Address | { readonly path: string }
      readonly database: number
    } & Credentials)
  | ({
      readonly kind: 'sentinel'
      readonly tls: boolean
      readonly sentinels: readonly Address[]
      readonly sentinelCredentials: Credentials
      readonly master: string
      readonly database: number
    } & Credentials)
  | ({ readonly kind: 'cluster'; readonly tls: boolean; readonly seeds: readonly Address[] } & Credentials)
  | { readonly kind: 'rest'; readonly url: string }
  | { readonly kind: 'memory' }

// Several hosts make no URL in the sense of the URL class, so they are taken apart here.
const shape = /^(rediss?)(?:\+(sentinel|cluster|unix))?:\/\/(?:([^@/]*)@)?([^/?#]*)(\/[^?#]*)?(?:\?([^#]*))?$/

/** Throws RedisUrlError, which says what is wrong without quoting the URL. */
export function parseRedisUrl(url: string): RedisUrl {
  if (url === 'memory:' || url === 'memory://') return { kind: 'memory' }
  if (/^https?:\/\//.test(url)) return restUrl(url)
  const match = shape.exec(url)
  if (!match) {
    throw new RedisUrlError(
      'expected redis://, rediss://, redis+unix://, redis+sentinel://, redis+cluster://, https:// or memory:',
    )
  }
  const [, scheme, kind, userInfo, hosts = '', path = '', query = ''] = match
  const tls = scheme === 'rediss'
  const [username, password] = credentialsIn(userInfo)
  const parameters = new URLSearchParams(query)
  const segments = path
    .split('/')
    .filter((segment) => segment !== '')
    .map(decoded)
  switch (kind) {
    case 'unix':
      if (path === '') throw new RedisUrlError('a path of a socket is missing')
      return {
        kind: 'node',
        tls: false,
        at: { path: decoded(path) },
        username,
        password,
        database: databaseNumber(parameters.get('database') ?? undefined),
      }
    case 'sentinel': {
      const [master, database, ...rest] = segments
      if (master === undefined || rest.length > 0)
        throw new RedisUrlError('expected /master-name after the Sentinel hosts')
      return {
        kind: 'sentinel',
        tls,
        sentinels: addresses(hosts, 26379),
        sentinelCredentials: {
          username: parameters.get('sentinel_username') ?? undefined,
          password: parameters.get('sentinel_password') ?? undefined,
        },
        master,
        username,
        password,
        database: databaseNumber(database),
      }
    }
    case 'cluster':
      if (segments.length > 0) throw new RedisUrlError('a cluster has no databases')
      return { kind: 'cluster', tls, seeds: addresses(hosts, 6379), username, password }
    default: {
      const [at, another] = addresses(hosts, 6379)
      if (!at || another || segments.length > 1) throw new RedisUrlError('expected one host and at most a database')
      return { kind: 'node', tls, at, username, password, database: databaseNumber(segments[0]) }
    }
  }
}

function restUrl(url: string): RedisUrl {
  const parsed = URL.parse(url)
  if (!parsed) throw new RedisUrlError('this is no URL')
  if (parsed.username !== '' || parsed.password !== '') throw new RedisUrlError('a token belongs in redis.token')
  if (parsed.search !== '' || parsed.hash !== '') throw new RedisUrlError('expected neither ? nor # in it')
  return { kind: 'rest', url: parsed.href.replace(/\/$/, '') }
}

function credentialsIn(userInfo: string | undefined): [string | undefined, string | undefined] {
  if (userInfo === undefined || userInfo === '') return [undefined, undefined]
  const colon = userInfo.indexOf(':')
  if (colon === -1) return [decoded(userInfo), undefined]
  return [colon === 0 ? undefined : decoded(userInfo.slice(0, colon)), decoded(userInfo.slice(colon + 1))]
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    throw new RedisUrlError('a % in it is followed by no two hexadecimal digits')
  }
}

function addresses(hosts: string, defaultPort: number): Address[] {
  return hosts.split(',').map((text) => {
    const match = /^(\[[0-9a-fA-F:.]+\]|[^\s:[\]]+)(?::(\d{1,5}))?$/.exec(text)
    if (!match) throw new RedisUrlError('a host is missing or malformed')
    const port = match[2] === undefined ? defaultPort : Number(match[2])
    if (port < 1 || port > 65535) throw new RedisUrlError('a port is out of range')
    return { host: (match[1] ?? '').replace(/^\[|\]$/g, ''), port }
  })
}

function databaseNumber(text: string | undefined): number {
  if (text === undefined) return 0
  if (!/^\d{1,5}$/.test(text)) throw new RedisUrlError('a database is a number')
  return Number(text)
}
