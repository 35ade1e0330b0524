import { describe, expect, test } from 'vitest'
import type { JsonValue } from '../matrix/json-value.ts'
import { compileInvitePermission, type InviteRule } from './invite-permission.ts'

const alice = '@alice:one.test'
const bob = '@bob:two.test:8448'

function rules(stable: JsonValue | undefined, proposed?: JsonValue): [InviteRule, InviteRule] {
  const contents = new Map<string, string>()
  if (stable !== undefined) contents.set('m.invite_permission_config', JSON.stringify(stable))
  if (proposed !== undefined) contents.set('org.matrix.msc4155.invite_permission_config', JSON.stringify(proposed))
  const permission = compileInvitePermission(contents)
  return [permission.ruleFor(alice), permission.ruleFor(bob)]
}

describe('client-server-api/#invite-permission', () => {
  test.each<[JsonValue | undefined, InviteRule]>([
    [undefined, 'allow'],
    [{}, 'allow'],
    [{ default_action: 'block' }, 'block'],
    [{ default_action: 'allow' }, 'allow'],
    [{ default_action: ['block'] }, 'allow'],
    [null, 'allow'],
    [['block'], 'allow'],
  ])('%j: %s', (content, rule) => expect(rules(content)).toEqual([rule, rule]))

  test('who blocks all blocks those whom a list allows', () => {
    expect(rules({ default_action: 'block' }, { allowed_users: [alice] })).toEqual(['block', 'block'])
    expect(rules({}, { blocked_users: [alice] })).toEqual(['block', 'allow'])
  })
})

describe('MSC4155 invite filtering', () => {
  test.each<[string, JsonValue, InviteRule, InviteRule]>([
    ['a blocked user', { blocked_users: [alice] }, 'block', 'allow'],
    ['an ignored user', { ignored_users: [alice] }, 'ignore', 'allow'],
    ['a blocked server', { blocked_servers: ['one.test'] }, 'block', 'allow'],
    ['an ignored server, with its port', { ignored_servers: ['two.test:8448'] }, 'allow', 'ignore'],
    ['a server without the port that it has', { ignored_servers: ['two.test'] }, 'allow', 'allow'],
    ['servers by pattern', { blocked_servers: ['*.test*'] }, 'block', 'block'],
    ['users by pattern', { blocked_users: ['@?ob:*', '@nobody*'] }, 'allow', 'block'],
    ['a pattern is of the whole id', { blocked_users: ['alice*'] }, 'allow', 'allow'],
    ['an allowed user of a blocked server', { allowed_users: [alice], blocked_servers: ['*'] }, 'allow', 'block'],
    ['a blocked user of an allowed server', { blocked_users: [alice], allowed_servers: ['*'] }, 'block', 'allow'],
    ['allowed before ignored', { ignored_users: [alice], allowed_users: [alice] }, 'allow', 'allow'],
    ['ignored before blocked', { blocked_users: [alice], ignored_users: [alice] }, 'ignore', 'allow'],
    ['ignored before blocked, of servers', { blocked_servers: ['*'], ignored_servers: ['one.*'] }, 'ignore', 'block'],
    ['null', { blocked_users: null, ignored_users: null, blocked_servers: null }, 'allow', 'allow'],
    ['what is no pattern', { blocked_users: [1, null, {}, ''], blocked_servers: 'one.test' }, 'allow', 'allow'],
    ['a pattern longer than any id', { blocked_users: [`@alice:${'*'.repeat(255)}`] }, 'allow', 'allow'],
    ['no object', 'block', 'allow', 'allow'],
  ])('%s', (_, content, ofAlice, ofBob) => expect(rules(undefined, content)).toEqual([ofAlice, ofBob]))
})
