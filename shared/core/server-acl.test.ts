import { describe, expect, test } from 'vitest'
import type { JsonValue } from '../matrix/json-value.ts'
import { serverAcl } from './server-acl.ts'

const all = ['*']

describe('client-server-api/#mroomserver_acl', () => {
  test.each<{ rule: string; content: JsonValue | undefined; server: string; allowed: boolean }>([
    { rule: '1 no event', content: undefined, server: 'evil.com', allowed: true },
    { rule: '2 IPv4', content: { allow: all, allow_ip_literals: false }, server: '192.0.2.1', allowed: false },
    {
      rule: '2 with a port',
      content: { allow: all, allow_ip_literals: false },
      server: '192.0.2.1:80',
      allowed: false,
    },
    { rule: '2 IPv6', content: { allow: all, allow_ip_literals: false }, server: '[2001:db8::1]', allowed: false },
    { rule: '2 IPv6, port', content: { allow: all, allow_ip_literals: false }, server: '[::1]:8448', allowed: false },
    { rule: '2 a name', content: { allow: all, allow_ip_literals: false }, server: '1.2.3.4.com', allowed: true },
    { rule: '2 allowed by default', content: { allow: all }, server: '192.0.2.1', allowed: true },
    { rule: '2 no boolean', content: { allow: all, allow_ip_literals: 'false' }, server: '[::1]', allowed: true },
    { rule: '3 denied', content: { allow: all, deny: ['evil.com'] }, server: 'evil.com', allowed: false },
    { rule: '3 whatever port', content: { allow: all, deny: ['evil.com'] }, server: 'evil.com:1234', allowed: false },
    {
      rule: '3 IPv6 by pattern',
      content: { allow: all, deny: ['[2001:*'] },
      server: '[2001:db8::1]:1',
      allowed: false,
    },
    { rule: '3 the whole IPv6', content: { allow: all, deny: ['[::1]'] }, server: '[::1]', allowed: false },
    { rule: '3 before 4', content: { allow: ['evil.com'], deny: ['evil.com'] }, server: 'evil.com', allowed: false },
    { rule: '3 the whole name', content: { allow: all, deny: ['evil.com'] }, server: 'a.evil.com', allowed: true },
    { rule: '3 * over dots', content: { allow: all, deny: ['*.evil.com'] }, server: 'a.b.evil.com', allowed: false },
    { rule: '3 * is not the dot', content: { allow: all, deny: ['*.evil.com'] }, server: 'evil.com', allowed: true },
    { rule: '3 ? is one', content: { allow: all, deny: ['evil?.com'] }, server: 'evil1.com', allowed: false },
    { rule: '3 ? is not none', content: { allow: all, deny: ['evil?.com'] }, server: 'evil.com', allowed: true },
    { rule: '3 a dot is a dot', content: { allow: all, deny: ['evil.com'] }, server: 'evilxcom', allowed: true },
    { rule: '3 case', content: { allow: all, deny: ['EVIL.com'] }, server: 'evil.COM', allowed: false },
    { rule: '3 no pattern', content: { allow: all, deny: [7, null, 'evil.com'] }, server: 'evil.com', allowed: false },
    { rule: '3 no list', content: { allow: all, deny: 'evil.com' }, server: 'evil.com', allowed: true },
    { rule: '4 allowed', content: { allow: ['good.com'] }, server: 'good.com', allowed: true },
    { rule: '4 case', content: { allow: ['Good.COM'] }, server: 'gOOD.com:8448', allowed: true },
    { rule: '5 not listed', content: { allow: ['good.com'] }, server: 'other.com', allowed: false },
    { rule: '5 no allow', content: { deny: [] }, server: 'good.com', allowed: false },
    { rule: '5 no list', content: { allow: '*' }, server: 'good.com', allowed: false },
    { rule: '5 no object', content: 'x', server: 'good.com', allowed: false },
  ])('$rule: $server', ({ content, server, allowed }) => {
    expect(serverAcl(content).allows(server)).toBe(allowed)
  })
})
