/** What a handler may know of the request beside its parsed parts; each piece is worked out when it is asked for. */
import type { IncomingMessage } from 'node:http'
import { BlockList, isIP } from 'node:net'
import type { RequestInfo } from './route.ts'

const knownAddressesMax = 4_096

/** The part of node's request that the address is read from; absent where no socket is (tests). */
export interface Peer {
  readonly socket?: { readonly remoteAddress?: string | undefined } | undefined
}

/** Gives the client's address: the right-most hop of X-Forwarded-For that no trusted proxy wrote. */
export type ClientAddress = (peer: Peer | undefined, forwardedFor: string | null) => string

/** `trustedProxies` are addresses or CIDR ranges; throws for anything else. */
export function clientAddressBehind(trustedProxies: readonly string[]): ClientAddress {
  const isTrusted = trustedAddresses(trustedProxies)
  return (peer, forwardedFor) => {
    const direct = addressOf(peer)
    if (trustedProxies.length === 0 || !forwardedFor || !isTrusted(direct)) return direct
    const hops = forwardedFor.split(',').map((hop) => plainAddress(hop.trim()))
    let client = direct
    for (const hop of hops.reverse()) {
      if (isIP(hop) === 0) break
      client = hop
      if (!isTrusted(hop)) break
    }
    return client
  }
}

/** True for a peer whose word on the request is believed. Throws like `clientAddressBehind`. */
export function trustedPeers(trustedProxies: readonly string[]): (peer: Peer | undefined) => boolean {
  const isTrusted = trustedAddresses(trustedProxies)
  return trustedProxies.length === 0 ? () => false : (peer) => isTrusted(addressOf(peer))
}

/** A peer without an address came through a Unix socket: it is this machine. */
function addressOf(peer: Peer | undefined): string {
  return plainAddress(peer?.socket?.remoteAddress ?? '127.0.0.1')
}

function trustedAddresses(trustedProxies: readonly string[]): (address: string) => boolean {
  const trusted = new BlockList()
  for (const entry of trustedProxies) {
    const [address = '', prefix] = entry.split('/')
    const family = isIP(address)
    if (family === 0) throw new Error(`trusted_proxies: ${entry} is neither an address nor a range`)
    const type = family === 6 ? 'ipv6' : 'ipv4'
    if (prefix === undefined) trusted.addAddress(address, type)
    else trusted.addSubnet(address, Number(prefix), type)
  }
  // The few proxies there are ask with every request.
  const known = new Map<string, boolean>()
  return (address) => {
    const before = known.get(address)
    if (before !== undefined) return before
    const family = isIP(address)
    const isTrusted = family !== 0 && trusted.check(address, family === 6 ? 'ipv6' : 'ipv4')
    if (known.size >= knownAddressesMax) known.clear()
    known.set(address, isTrusted)
    return isTrusted
  }
}

/** Without brackets, port and the IPv4-in-IPv6 prefix. */
function plainAddress(text: string): string {
  const bracketed = /^\[([^\]]+)\](?::\d+)?$/.exec(text)?.[1]
  const withPort = /^(\d+\.\d+\.\d+\.\d+):\d+$/.exec(text)?.[1]
  const address = bracketed ?? withPort ?? text
  return address.startsWith('::ffff:') && address.includes('.') ? address.slice(7) : address
}

export class LazyRequestInfo implements RequestInfo {
  readonly #request: Request
  readonly #incoming: IncomingMessage | undefined
  readonly #clientAddress: ClientAddress
  readonly #search: string
  #ip: string | undefined
  #searchParams: URLSearchParams | undefined

  constructor(request: Request, incoming: IncomingMessage | undefined, clientAddress: ClientAddress, search: string) {
    this.#request = request
    this.#incoming = incoming
    this.#clientAddress = clientAddress
    this.#search = search
  }
  get method(): string {
    return this.#request.method
  }
  get ip(): string {
    this.#ip ??= this.#clientAddress(this.#incoming, this.#request.headers.get('x-forwarded-for'))
    return this.#ip
  }
  get userAgent(): string | undefined {
    return this.#request.headers.get('user-agent') ?? undefined
  }
  get signal(): AbortSignal {
    return this.#request.signal
  }
  get searchParams(): URLSearchParams {
    this.#searchParams ??= new URLSearchParams(this.#search)
    return this.#searchParams
  }
  header(name: string): string | undefined {
    return this.#request.headers.get(name) ?? undefined
  }
  body(): AsyncIterable<Uint8Array> {
    // Node's own where there is one: a web stream costs a multiple.
    if (this.#incoming) return this.#incoming.iterator({ destroyOnReturn: false })
    return this.#request.body ?? noBytes()
  }
}

async function* noBytes(): AsyncGenerator<Uint8Array> {}
