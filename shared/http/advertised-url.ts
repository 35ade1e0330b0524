/** Where other processes reach a listener of this one. */

import { networkInterfaces } from 'node:os'

/** `http://host:port` of a listener on `bind`: where that is every address, the machine's first one that is not the
 *  loopback's. Addresses, not names: a container's own name means nothing to most of its neighbours. */
export function advertisedUrl(listener: {
  readonly bind: string
  readonly port: number
  readonly tls?: boolean
}): string {
  const host = isEveryAddress(listener.bind) ? ownAddress() : listener.bind
  const inUrl = host.includes(':') ? `[${host}]` : host
  return `${listener.tls ? 'https' : 'http'}://${inUrl}:${listener.port}`
}

function isEveryAddress(bind: string): boolean {
  return bind === '' || bind === '0.0.0.0' || bind === '::'
}

function ownAddress(): string {
  const outward = Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .filter((address) => !address.internal && !address.address.startsWith('fe80:'))
  // IPv4 first: where both are there, every neighbour has it.
  return (outward.find((address) => address.family === 'IPv4') ?? outward[0])?.address ?? '127.0.0.1'
}
