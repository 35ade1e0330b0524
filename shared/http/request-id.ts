/** One id a request, from the edge to main: the header `x-request-id`, believed where a trusted proxy sends it, made where
 *  nobody does. */
import { randomBytes } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'
import { requestIdFrom, requestIdHeader } from '../request-context.ts'
import { type Peer, trustedPeers } from './request-info.ts'

/** Makes ids that are unique across processes and restarts: what this process is called, and a count. */
export function requestIdMaker(): () => string {
  const processName = randomBytes(4).toString('hex')
  let count = 0
  return () => `${processName}-${(++count).toString(36)}`
}

export interface IncomingTrust {
  readonly requestId: string
  /** True where the peer is a proxy or process of ours, whose headers are believed. */
  readonly trusted: boolean
}

/** `trustedProxies` as in the configuration: addresses or ranges. Throws for anything else. */
export function requestIdsBehind(
  trustedProxies: readonly string[],
): (incoming: Peer & { readonly headers: IncomingHttpHeaders }) => IncomingTrust {
  const make = requestIdMaker()
  const isTrusted = trustedPeers(trustedProxies)
  return (incoming) => {
    const trusted = isTrusted(incoming)
    return { requestId: (trusted ? requestIdFrom(incoming.headers[requestIdHeader]) : undefined) ?? make(), trusted }
  }
}
