/** Which addresses requests to the outside may go to. By itself an address is reachable when it is a public one of a single
 *  host; everything with a special meaning is not, in whatever form it is written. The configuration makes exceptions. */
import ipaddr from 'ipaddr.js'

type Address = ipaddr.IPv4 | ipaddr.IPv6
interface Range {
  readonly network: Address
  readonly prefix: number
}

/** Public by their number, and yet the address of a cloud's own services to the machines in it. */
const alsoSpecial = ['168.63.129.16/32'].map(parseRange)
/** All unicast addresses that are given out for IPv6; what lies outside has a special meaning, or none yet. */
const global6 = parseRange('2000::/3')
/** The interface ids that hold an IPv4 address to tunnel to, RFC 5214. */
const isatap = new Set([0x0000_5efe, 0x0200_5efe])

export interface AddressRules {
  /** For an address in text as sockets and resolvers give it; what is no address is never allowed. */
  allows(address: string): boolean
}

/** Where ranges of both lists hold an address, the narrower one counts; of two alike, the denied one. */
export function addressRules(lists: {
  readonly allowed_ranges: readonly string[]
  readonly denied_ranges: readonly string[]
}): AddressRules {
  const allowed = lists.allowed_ranges.map(parseRange)
  const denied = lists.denied_ranges.map(parseRange)

  const allows = (address: Address): boolean => {
    // An IPv4 address in the clothes of IPv6 is that IPv4 address, to the lists too.
    if (address instanceof ipaddr.IPv6 && address.isIPv4MappedAddress()) return allows(address.toIPv4Address())
    const allowedBy = narrowest(allowed, address)
    const deniedBy = narrowest(denied, address)
    if (allowedBy > deniedBy) return true
    if (deniedBy >= 0) return false
    if (!isPublic(address)) return false
    const tunnelled = tunnelledAddress(address)
    return tunnelled === undefined || allows(tunnelled)
  }

  return { allows: (text) => ipaddr.isValid(text) && allows(ipaddr.parse(text)) }
}

function isPublic(address: Address): boolean {
  if (contains(alsoSpecial, address)) return false
  // Behind the NAT64 of this network is an IPv4 address, which is looked at by itself.
  if (address instanceof ipaddr.IPv6)
    return isNat64(address) || (holds(global6, address) && address.range() === 'unicast')
  return address.range() === 'unicast'
}

/** 64:ff9b::/96; the range for local use, 64:ff9b:1::/48, may map in any way. */
function isNat64(address: ipaddr.IPv6): boolean {
  const { parts } = address
  return parts[0] === 0x64 && parts[1] === 0xff9b && parts.slice(2, 6).every((part) => part === 0)
}

/** The IPv4 address that a router makes of this one on the way. */
function tunnelledAddress(address: Address): ipaddr.IPv4 | undefined {
  if (!(address instanceof ipaddr.IPv6)) return undefined
  const [, , , , high = 0, low = 0] = address.parts
  if (!isNat64(address) && !isatap.has(high * 0x1_0000 + low)) return undefined
  return new ipaddr.IPv4(address.toByteArray().slice(12))
}

/** The longest prefix that holds the address; -1 for none. */
function narrowest(ranges: readonly Range[], address: Address): number {
  return ranges.reduce((best, range) => (range.prefix > best && holds(range, address) ? range.prefix : best), -1)
}

function contains(ranges: readonly Range[], address: Address): boolean {
  return ranges.some((range) => holds(range, address))
}

function holds({ network, prefix }: Range, address: Address): boolean {
  return network.kind() === address.kind() && address.match(network, prefix)
}

/** An address or a CIDR range; the configuration's schema has seen to its form. */
function parseRange(text: string): Range {
  const [network, prefix] = ipaddr.parseCIDR(text.includes('/') ? text : `${text}/${text.includes(':') ? '128' : '32'}`)
  if (network instanceof ipaddr.IPv6 && network.isIPv4MappedAddress() && prefix >= 96) {
    return { network: network.toIPv4Address(), prefix: prefix - 96 }
  }
  return { network, prefix }
}
