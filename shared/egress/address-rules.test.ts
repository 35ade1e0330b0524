import { describe, expect, test } from 'vitest'
import { addressRules } from './address-rules.ts'

const none = { allowed_ranges: [], denied_ranges: [] }

describe('which addresses requests to the outside may go to', () => {
  test.each([
    ['8.8.8.8', true, 'a public address'],
    ['2606:4700::1111', true, 'a public address'],
    ['0.0.0.0', false, 'this host'],
    ['0.1.2.3', false, 'this network'],
    ['10.0.0.1', false, 'private'],
    ['100.64.0.1', false, 'carrier-grade NAT'],
    ['100.100.100.200', false, "a cloud's metadata in that range"],
    ['127.0.0.1', false, 'loopback'],
    ['127.255.255.254', false, 'loopback'],
    ['169.254.169.254', false, "clouds' metadata, link-local"],
    ['168.63.129.16', false, "a cloud's services at a public address"],
    ['172.16.0.1', false, 'private'],
    ['172.32.0.1', true, 'just above the private ones'],
    ['192.0.0.192', false, 'protocol assignments'],
    ['192.0.2.1', false, 'documentation'],
    ['192.88.99.1', false, 'relays of 6to4'],
    ['192.168.0.1', false, 'private'],
    ['198.18.0.1', false, 'benchmarks'],
    ['224.0.0.1', false, 'multicast'],
    ['240.0.0.1', false, 'reserved'],
    ['255.255.255.255', false, 'broadcast'],
    ['::', false, 'unspecified'],
    ['::1', false, 'loopback'],
    ['::ffff:127.0.0.1', false, 'a mapped loopback address'],
    ['::ffff:8.8.8.8', true, 'a mapped public address'],
    ['::127.0.0.1', false, 'an IPv4-compatible address'],
    ['::ffff:0:10.0.0.1', false, 'a translated address'],
    ['64:ff9b::10.0.0.1', false, 'a private address behind NAT64'],
    ['64:ff9b::8.8.8.8', true, 'a public address behind NAT64'],
    ['64:ff9b:1::8.8.8.8', false, 'NAT64 of a local kind'],
    ['100::1', false, 'discarded'],
    ['2001::1', false, 'Teredo'],
    ['2001:db8::1', false, 'documentation'],
    ['2002:7f00:1::', false, '6to4'],
    ['2606:4700::5efe:10.0.0.1', false, 'ISATAP to a private address'],
    ['3fff::1', false, 'documentation'],
    ['4000::1', false, 'not given out'],
    ['fd00:ec2::254', false, "a cloud's metadata, unique local"],
    ['fe80::1', false, 'link-local'],
    ['fec0::1', false, 'site-local'],
    ['ff02::1', false, 'multicast'],
    ['localhost', false, 'no address'],
    ['', false, 'no address'],
  ])('%s: %s, %s', (address, allowed) => {
    expect(addressRules(none).allows(address)).toBe(allowed)
  })

  test.each([
    { allowed: ['10.0.0.0/8'], denied: [], address: '10.1.2.3', allows: true },
    { allowed: ['10.0.0.0/8'], denied: [], address: '192.168.0.1', allows: false },
    { allowed: ['10.0.0.0/8'], denied: ['10.1.0.0/16'], address: '10.1.2.3', allows: false },
    { allowed: ['10.1.2.3'], denied: ['10.0.0.0/8'], address: '10.1.2.3', allows: true },
    { allowed: ['10.1.2.3'], denied: ['10.1.2.3'], address: '10.1.2.3', allows: false },
    { allowed: [], denied: ['0.0.0.0/0', '::/0'], address: '8.8.8.8', allows: false },
    { allowed: ['10.0.0.0/8'], denied: [], address: '::ffff:10.0.0.1', allows: true },
    { allowed: ['::ffff:10.0.0.0/104'], denied: [], address: '10.0.0.1', allows: true },
    { allowed: ['10.0.0.0/8'], denied: [], address: '64:ff9b::10.0.0.1', allows: true },
    { allowed: [], denied: ['8.8.8.8'], address: '64:ff9b::8.8.8.8', allows: false },
    { allowed: ['fd00::/8'], denied: [], address: 'fd12::1', allows: true },
  ])('allowed $allowed, denied $denied: $address → $allows', ({ allowed, denied, address, allows }) => {
    expect(addressRules({ allowed_ranges: allowed, denied_ranges: denied }).allows(address)).toBe(allows)
  })
})
