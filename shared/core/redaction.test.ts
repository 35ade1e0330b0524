import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { alice, bob, carol, roomState } from '../../test/support/auth-room.ts'
import type { JsonObject } from '../matrix/json-value.ts'
import { redactContent, redactionApplies, redactPdu, redactStored } from './redaction.ts'
import { roomRules, rulesOf } from './room-versions.ts'

const versions = Object.values(roomRules)
// The version of a proposal is named by the one that it goes beyond.
const from = (first: number) => (version: string) => Number(version.split('.').at(-1)) >= first

describe.each(versions)('rooms/v$version redactions', (rules) => {
  const since = (first: number) => from(first)(rules.version)
  const whole: JsonObject = {
    event_id: '$x',
    type: 'm.room.message',
    room_id: '!r',
    sender: '@a:b',
    state_key: '',
    content: { body: 'x' },
    hashes: {},
    signatures: {},
    depth: 1,
    prev_events: [],
    prev_state: [],
    auth_events: [],
    origin: 'b',
    origin_server_ts: 1,
    membership: 'join',
    redacts: '$y',
    unsigned: {},
    'm.custom': 1,
  }

  test('top-level keys', () => {
    const gone = ['redacts', 'unsigned', 'm.custom', ...(since(11) ? ['prev_state', 'origin', 'membership'] : [])]
    const kept = Object.keys(whole).filter((key) => !gone.includes(key))
    expect(Object.keys(redactPdu(rules, whole))).toEqual(kept)
    expect(redactPdu(rules, whole).content).toEqual({})
  })

  const levels = ['ban', 'events', 'events_default', 'kick', 'redact', 'state_default', 'users', 'users_default']
  test.each<[string, string[]]>([
    ['m.room.member', since(9) ? ['membership', 'join_authorised_via_users_server'] : ['membership']],
    ['m.room.create', since(11) ? ['creator', 'm.federate', 'other'] : ['creator']],
    ['m.room.join_rules', since(8) ? ['join_rule', 'allow'] : ['join_rule']],
    ['m.room.power_levels', since(11) ? [...levels, 'invite'] : levels],
    ['m.room.aliases', since(6) ? [] : ['aliases']],
    ['m.room.history_visibility', ['history_visibility']],
    ['m.room.redaction', since(11) ? ['redacts'] : []],
    ['m.room.name', []],
    ['constructor', []],
    ['__proto__', []],
  ])('content of %s', (type, kept) => {
    const keys = ['membership', 'join_authorised_via_users_server', 'displayname', 'creator', 'm.federate', 'other']
    keys.push('join_rule', 'allow', ...levels, 'invite', 'notifications', 'aliases', 'history_visibility', 'redacts')
    const only = type === 'm.room.create' ? ['creator', 'm.federate', 'other'] : keys
    const content = Object.fromEntries(only.map((key) => [key, `value of ${key}`]))
    expect(Object.keys(redactContent(rules, type, content)).toSorted()).toEqual(kept.toSorted())
  })

  test('third_party_invite keeps its signed alone, from version 11 on', () => {
    const content = { membership: 'invite', third_party_invite: { display_name: 'x', signed: { token: 't' } } }
    const expected = since(11) ? { third_party_invite: { signed: { token: 't' } } } : {}
    expect(redactContent(rules, 'm.room.member', content)).toEqual({ membership: 'invite', ...expected })
    const unsigned = { membership: 'invite', third_party_invite: { display_name: 'x' } }
    expect(redactContent(rules, 'm.room.member', unsigned)).toEqual({
      membership: 'invite',
      ...(since(11) ? { third_party_invite: {} } : {}),
    })
    for (const third_party_invite of [null, 'x', []]) {
      expect(redactContent(rules, 'm.room.member', { third_party_invite })).toEqual({})
    }
  })

  test('redacting twice is redacting once', () => {
    const types = [...Object.keys(rules.redaction.content), 'm.room.message']
    const keys = fc.constantFrom(...[...rules.redaction.keys], ...Object.values(rules.redaction.content).flat(), 'x')
    fc.assert(
      fc.property(
        fc.constantFrom(...types),
        fc.dictionary(keys, fc.jsonValue() as fc.Arbitrary<JsonObject>),
        fc.dictionary(keys, fc.jsonValue() as fc.Arbitrary<JsonObject>),
        (type, top, content) => {
          const once = redactPdu(rules, { ...top, type, content })
          expect(redactPdu(rules, once)).toEqual(once)
        },
      ),
    )
  })

  test('of a stored event', () => {
    const envelope = JSON.stringify({ ...whole, type: 'm.room.member', content: undefined })
    const stored = { type: 'm.room.member', envelope, content: '{"membership":"join","displayname":"A"}' }
    const redacted = redactStored(rules, stored)
    expect(redacted.content).toBe('{"membership":"join"}')
    expect(JSON.parse(redacted.envelope)).not.toHaveProperty('unsigned')
    expect(JSON.parse(redacted.envelope)).not.toHaveProperty('content')
    expect(redactStored(rules, { type: 'm.room.member', ...redacted })).toEqual(redacted)
  })
})

describe('rooms/v11 handling redactions', () => {
  const rules = rulesOf('11')!
  const state = roomState(rules, { levels: { redact: 50, users: { [carol]: 50, [bob]: 49 } } })
  test.each([
    ["another server's moderator", carol, alice, true],
    ['the same server', bob, alice, true],
    ['one step below the redact level, of another server', bob, carol, false],
    ['their own event', carol, carol, true],
  ])('%s', (_, sender, author, applies) => {
    expect(redactionApplies(rules, { sender }, { sender: author }, state)).toBe(applies)
    expect(redactionApplies(rulesOf('2')!, { sender }, { sender: author }, state)).toBe(true)
  })
})
