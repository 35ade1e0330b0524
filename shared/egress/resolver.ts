/** From the host of a URL to the addresses that a connection may go to. */
import { lookup } from 'node:dns/promises'
import { isIP } from 'node:net'
import type { AddressRules } from './address-rules.ts'
import { EgressError } from './egress-error.ts'

export interface Target {
  /** Lower case, punycode; an IPv6 address without its brackets. */
  readonly hostname: string
  readonly port: number
}

export interface Resolved {
  /** In the order in which they are tried. */
  readonly addresses: readonly string[]
  /** Where it is another one than the URL's, as SRV records may say. */
  readonly port?: number
}

/** Looks a host up. What it returns is checked by whoever asks; the certificate has to be that of the URL's host whatever
 *  comes out of it. Rejects or returns no address where there is none. */
export type Resolver = (target: Target) => Promise<Resolved>

/** As the operating system does: its hosts file counts. Node runs no more than half of its threads on this, so that slow name
 *  servers hold nothing else up. */
export const systemResolver: Resolver = async ({ hostname }) => {
  const found = await lookup(hostname, { all: true, order: 'verbatim' })
  return { addresses: found.map(({ address }) => address) }
}

/** The addresses of a host that may be connected to; throws EgressError where there is none. What it says of a host with
 *  denied addresses alone names none of them: they are the inside of somebody's network. */
export async function reachableAddresses(target: Target, resolve: Resolver, rules: AddressRules): Promise<Resolved> {
  const { hostname } = target
  const resolved = isIP(hostname) === 0 ? await resolve(target) : { addresses: [hostname] }
  if (resolved.addresses.length === 0) throw new EgressError('unresolved', `${hostname} has no address`)
  const addresses = resolved.addresses.filter((address) => isIP(address) !== 0 && rules.allows(address))
  if (addresses.length === 0) throw new EgressError('denied', `${hostname} has no address that may be reached`)
  return { ...resolved, addresses }
}
