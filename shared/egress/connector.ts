/** Opens the connections that requests go over: to an address that was just looked up and checked, and to no other. */
import { readFileSync } from 'node:fs'
import { connect as connectTcp, isIP, type LookupFunction, type Socket } from 'node:net'
import { connect as connectTls, createSecureContext, getCACertificates, type SecureContext } from 'node:tls'
import type { buildConnector } from 'undici'
import type { Clock } from '../clock.ts'
import type { AddressRules } from './address-rules.ts'
import { EgressError } from './egress-error.ts'
import { limitHead } from './head-limit.ts'
import { type Resolved, type Resolver, reachableAddresses } from './resolver.ts'

export interface ConnectorOptions {
  readonly rules: AddressRules
  readonly resolve: Resolver
  readonly connectMs: number
  readonly clock: Clock
  /** PEM certificates that vouch for servers beside the usual ones. */
  readonly caPath?: string | undefined
}

const keepAliveMs = 60_000
/** An address that does not answer within this time is left for the next one. */
const nextAddressMs = 500

/** undici calls it for each new connection: so every one is looked up and checked anew, redirects' too. */
export function createConnector({
  rules,
  resolve,
  connectMs,
  clock,
  caPath,
}: ConnectorOptions): buildConnector.connector {
  const ca = caPath === undefined ? undefined : [...getCACertificates('default'), readFileSync(caPath, 'utf8')]
  // One for all: reading the certificates again for each connection took 25 ms and 1.7 MB.
  let trusted: SecureContext | undefined
  const secureContext = () => {
    trusted ??= createSecureContext(ca ? { ca } : {})
    return trusted
  }

  return ({ hostname: given, protocol, port: givenPort, servername }, callback) => {
    const hostname = given.replace(/^\[|\]$/g, '')
    const secure = protocol === 'https:'
    const name = servername || (isIP(hostname) === 0 ? hostname : undefined)
    const port = givenPort === '' ? (secure ? 443 : 80) : Number(givenPort)
    let socket: Socket | undefined
    let settled = false
    const settle = (error: Error | undefined) => {
      if (settled) return
      settled = true
      stopTimer()
      if (!error && socket && rules.allows(socket.remoteAddress ?? '')) {
        limitHead(socket)
        return callback(null, socket)
      }
      socket?.destroy()
      callback(error ?? new EgressError('denied', `${hostname} was reached at an address that is not allowed`), null)
    }
    const stopTimer = clock.after(connectMs, () =>
      settle(new EgressError('timeout', `No connection to ${hostname} within ${connectMs} ms`)),
    )
    const open = (resolved: Resolved) => {
      if (settled) return
      const to = {
        host: hostname,
        port: resolved.port ?? port,
        lookup: pinned(resolved.addresses),
        autoSelectFamily: true,
        autoSelectFamilyAttemptTimeout: nextAddressMs,
        keepAlive: true,
        keepAliveInitialDelay: keepAliveMs,
        noDelay: true,
      }
      socket = secure
        ? connectTls({
            ...to,
            // The certificate has to have the name of the request, wherever that led to.
            ...(name === undefined ? {} : { servername: name }),
            ALPNProtocols: ['http/1.1'],
            secureContext: secureContext(),
          }).once('secureConnect', () => settle(undefined))
        : connectTcp(to).once('connect', () => settle(undefined))
      socket.on('error', settle).on('close', () => settle(new EgressError('unreachable', `${hostname} hung up`)))
    }
    reachableAddresses({ hostname, port }, resolve, rules).then(open, settle)
  }
}

/** Stands in for the second look-up that a socket would make. A host that is an address itself is connected to as it is. */
function pinned(addresses: readonly string[]): LookupFunction {
  const all = addresses.map((address) => ({ address, family: isIP(address) }))
  return (_hostname, options, callback) => {
    const [first] = all
    if (options.all) callback(null, all)
    else callback(null, first?.address ?? '', first?.family)
  }
}
