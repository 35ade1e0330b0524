/** From a server's name to where its requests go. https://spec.matrix.org/v1.19/server-server-api/#resolving-server-names */
import { isIP } from 'node:net'
import { LRUCache } from 'lru-cache'
import type { Clock } from '../clock.ts'
import type { Egress } from '../egress/egress.ts'
import { entriesUpTo } from '../lru-bound.ts'
import { type ServerName, serverNameParts } from '../matrix/ids.ts'
import { inOrder, type SrvLookup } from './srv.ts'
import { fetchWellKnown } from './well-known.ts'

export interface Target {
  /** What the Host header says, and what the certificate is for; with a port where the server's name has one. */
  readonly host: string
  /** Where the connection goes. An IPv6 address has no brackets. */
  readonly connectTo: { readonly host: string; readonly port: number }
}

export interface Discovery {
  /** Where the server is to be found, in the order in which to try; at least one. Never rejects: what can't be found out
   *  makes the next step of the specification count. */
  targets(server: ServerName): Promise<readonly Target[]>
  /** What the last look found and how, for the doctor: newest steps last. */
  explain(server: ServerName): Promise<readonly string[]>
}

const defaultPort = 8448
const serversMax = 10_000
const wellKnownMs = { default: 24 * 3_600_000, least: 5 * 60_000, most: 48 * 3_600_000 }
/** After the first failure, the second, … */
const failureMs = { first: 60_000, most: 3_600_000 }
/** DNS answers are not told apart by their own lifetimes: node does not give those of SRV records. */
const srvMs = 5 * 60_000

interface Known {
  readonly delegated: ServerName | undefined
  readonly until: number
  /** Failures in a row. */
  readonly failures: number
}
interface KnownSrv {
  readonly targets: readonly Target[]
  readonly until: number
}

export function createDiscovery(deps: {
  readonly egress: Egress
  readonly srv: SrvLookup
  readonly clock: Clock
  readonly random: () => number
}): Discovery {
  const { egress, srv, clock, random } = deps
  const wellKnown = new LRUCache<string, Known>(entriesUpTo(serversMax))
  const records = new LRUCache<string, KnownSrv>(entriesUpTo(serversMax))
  const looking = new Map<string, Promise<Known>>()

  function delegation(hostname: string): Promise<Known> | Known {
    const known = wellKnown.get(hostname)
    if (known && known.until > clock.now()) return known
    const under = looking.get(hostname)
    if (under) return under
    const mine = look(hostname, known).finally(() => looking.delete(hostname))
    looking.set(hostname, mine)
    return mine
  }

  async function look(hostname: string, before: Known | undefined): Promise<Known> {
    const { delegated, maxAgeMs } = await fetchWellKnown(egress, hostname)
    const now = clock.now()
    let known: Known
    if (delegated !== undefined) {
      const lives = Math.min(Math.max(maxAgeMs ?? wellKnownMs.default, wellKnownMs.least), wellKnownMs.most)
      known = { delegated, until: now + lives, failures: 0 }
    } else {
      const failures = (before?.failures ?? 0) + 1
      known = { delegated, until: now + Math.min(failureMs.first * 2 ** (failures - 1), failureMs.most), failures }
    }
    wellKnown.set(hostname, known)
    return known
  }

  /** Of a host name without a port: by SRV records, of either service, else on the default port. */
  async function byRecords(hostname: string, said: string[]): Promise<readonly Target[]> {
    const known = records.get(hostname)
    if (known && known.until > clock.now()) {
      said.push(`${hostname}: as found less than ${srvMs / 60_000} minutes ago`)
      return known.targets
    }
    for (const service of ['_matrix-fed', '_matrix']) {
      const name = `${service}._tcp.${hostname}`
      // What name servers can't say is taken for nothing: the certificate has to be the host's in any case.
      const found = await srv(name).catch(() => undefined)
      said.push(`SRV ${name}: ${found === undefined ? 'the name servers do not say' : `${found.length} records`}`)
      const usable = (found ?? []).filter((record) => record.name !== '' && record.name !== '.')
      if (usable.length === 0) continue
      const targets = inOrder(usable, random).map((record) => ({
        host: hostname,
        connectTo: { host: record.name, port: record.port },
      }))
      records.set(hostname, { targets, until: clock.now() + srvMs })
      return targets
    }
    const targets = [{ host: hostname, connectTo: { host: hostname, port: defaultPort } }]
    records.set(hostname, { targets, until: clock.now() + srvMs })
    return targets
  }

  /** Steps 1, 2 and, of a delegated name, 3.1 and 3.2: what a name says by itself. */
  function direct(name: ServerName, said: string[]): readonly Target[] | undefined {
    const { hostname, port } = serverNameParts(name)
    const bare = hostname.replace(/^\[|\]$/g, '')
    if (isIP(bare) === 0 && port === undefined) return undefined
    said.push(`${name} names ${port === undefined ? 'an address' : 'a port'} itself`)
    return [{ host: name, connectTo: { host: bare, port: port ?? defaultPort } }]
  }

  async function resolve(server: ServerName, said: string[]): Promise<readonly Target[]> {
    const own = direct(server, said)
    if (own) return own
    const found = delegation(server)
    const { delegated } = found instanceof Promise ? await found : found
    said.push(`https://${server}/.well-known/matrix/server: ${delegated ?? 'nothing that counts'}`)
    if (delegated === undefined) return byRecords(server, said)
    return direct(delegated, said) ?? byRecords(delegated, said)
  }

  return {
    targets: (server) => resolve(server, []),
    async explain(server) {
      const said: string[] = []
      const targets = await resolve(server, said)
      return [...said, ...targets.map(({ host, connectTo: to }) => `connects to ${to.host}:${to.port}, as ${host}`)]
    },
  }
}
