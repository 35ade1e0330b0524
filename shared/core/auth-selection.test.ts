import { describe, expect, test } from 'vitest'
import { alice, bob, carol, type PduParts, pdu } from '../../test/support/auth-room.ts'
import { authEventKeys } from './auth-selection.ts'
import { roomRules } from './room-versions.ts'

describe.each(Object.values(roomRules))('server-server-api: auth events selection, rooms/v$version', (rules) => {
  const member = (membership: string, parts: PduParts = {}): PduParts => ({
    type: 'm.room.member',
    state_key: bob,
    ...parts,
    content: { membership, ...parts.content },
  })
  const base = [
    ...(rules.roomIdIsCreateHash ? [] : ['m.room.create|']),
    'm.room.power_levels|',
    `m.room.member|${alice}`,
  ]
  const authorised = rules.restrictedJoins ? [`m.room.member|${carol}`] : []
  const signed = { third_party_invite: { signed: { token: 't' } } }

  test.each<[string, PduParts, string[]]>([
    ['a message', {}, base],
    ['a state event', { type: 'm.room.name', state_key: '' }, base],
    ['a join', member('join', { state_key: alice }), [...base, 'm.room.join_rules|']],
    ['an invite', member('invite'), [...base, `m.room.member|${bob}`, 'm.room.join_rules|']],
    ['a knock', member('knock', { state_key: alice }), [...base, 'm.room.join_rules|']],
    ['a leave', member('leave', { state_key: alice }), base],
    ['a ban', member('ban'), [...base, `m.room.member|${bob}`]],
    [
      'a third-party invite',
      member('invite', { content: signed }),
      [...base, `m.room.member|${bob}`, 'm.room.join_rules|', 'm.room.third_party_invite|t'],
    ],
    ['a ban that names a third-party invite', member('ban', { content: signed }), [...base, `m.room.member|${bob}`]],
    [
      'an invite whose token is no string',
      member('invite', { content: { third_party_invite: { signed: { token: 1 } } } }),
      [...base, `m.room.member|${bob}`, 'm.room.join_rules|'],
    ],
    [
      'a restricted join',
      member('join', { state_key: alice, content: { join_authorised_via_users_server: carol } }),
      [...base, 'm.room.join_rules|', ...authorised],
    ],
    [
      'one that names the joining user',
      member('join', { state_key: alice, content: { join_authorised_via_users_server: alice } }),
      [...base, 'm.room.join_rules|'],
    ],
  ])('%s', (_, parts, keys) => {
    expect(authEventKeys(rules, pdu(rules, parts)).map((key) => key.join('|'))).toEqual(keys)
  })

  test('the create event names none', () => {
    expect(authEventKeys(rules, pdu(rules, { type: 'm.room.create', state_key: '' }))).toEqual([])
  })
})
