import { describe, expect, test } from 'vitest'
import { alice, bob, carol, createId, memberPdu, type PduParts, pdu, roomState } from '../../test/support/auth-room.ts'
import type { JsonObject } from '../matrix/json-value.ts'
import { generateSigningKey, signJson } from '../matrix/signatures.ts'
import { checkAuth } from './auth-rules.ts'
import { type RoomRules, type RuleName, roomRules, rulesOf } from './room-versions.ts'

const versions = Object.values(roomRules)
const v8 = rulesOf('8')!
const v12 = rulesOf('12')!
const allowed = { allowed: true }
const known = (version: string) => rulesOf(version) as RoomRules

describe.each(versions)('rooms/v$version m.room.member', (rules) => {
  const is = (name: RuleName, step = '') => {
    const number = rules.ruleNumbers[name]
    return { allowed: false, rule: step === '' ? number : `${number}.${step}`, reason: expect.any(String) }
  }
  /** `rule` undefined: allowed. */
  const expected = (rule: RuleName | undefined, step = '') => (rule === undefined ? allowed : is(rule, step))

  describe('shape', () => {
    test.each<[string, PduParts, RuleName]>([
      ['no state key', { content: { membership: 'join' } }, 'memberShape'],
      ['a state key without a server', { state_key: 'alice', content: { membership: 'invite' } }, 'memberShape'],
      ['no membership', { state_key: alice, content: {} }, 'memberShape'],
      ['an unknown membership', { state_key: alice, content: { membership: 'lurk' } }, 'memberUnknown'],
      ['one that is no string', { state_key: alice, content: { membership: ['join'] } }, 'memberUnknown'],
      ['one that objects have', { state_key: alice, content: { membership: 'constructor' } }, 'memberUnknown'],
    ])('%s', (_, parts, rule) => {
      expect(checkAuth(rules, pdu(rules, { type: 'm.room.member', ...parts }), roomState(rules))).toEqual(is(rule))
    })
  })

  describe('membership: join', () => {
    const join = (joinRule: string | undefined, membership: string | undefined, parts: PduParts = {}) =>
      checkAuth(
        rules,
        memberPdu(rules, bob, 'join', parts),
        roomState(rules, {
          members: { [alice]: 'join', ...(membership === undefined ? {} : { [bob]: membership }) },
          levels: { invite: 10, users: { [carol]: 10 } },
          ...(joinRule === undefined ? {} : { joinRule }),
          more: [memberPdu(rules, carol, 'join')],
        }),
      )

    test.each<[string, string, PduParts, RuleName | undefined]>([
      ['the creator, after the create event', alice, { prev_events: [createId] }, undefined],
      ['the creator, later', alice, { prev_events: ['$later'] }, 'joinOtherwise'],
      ['the creator, after two events', alice, { prev_events: [createId, '$later'] }, 'joinOtherwise'],
      ['somebody else, after the create event', bob, { prev_events: [createId] }, 'joinOtherwise'],
    ])('the first join: %s', (_, user, parts, rule) => {
      const state = roomState(rules, { create: { additional_creators: [bob] }, members: {} })
      expect(checkAuth(rules, memberPdu(rules, user, 'join', parts), state)).toEqual(expected(rule))
    })

    test('under a join rule that is no string nobody joins, not even those who are in', () => {
      for (const join_rule of [null, 5, {}]) {
        const rule = pdu(rules, { type: 'm.room.join_rules', state_key: '', content: { join_rule } })
        const state = roomState(rules, { members: { [alice]: 'join', [bob]: 'join' }, more: [rule] })
        expect(checkAuth(rules, memberPdu(rules, bob, 'join'), state)).toEqual(is('joinOtherwise'))
      }
    })
    test('joining another', () => {
      expect(join('public', 'invite', { sender: alice })).toEqual(is('joinSender'))
    })
    test('changing the name of another', () => {
      expect(join('public', 'join', { sender: alice, content: { displayname: 'x' } })).toEqual(is('joinSender'))
    })

    const knock = rules.knocking ? undefined : 'joinOtherwise'
    const restricted = rules.restrictedJoins ? undefined : 'joinOtherwise'
    const knockRestricted = rules.knockRestricted ? undefined : 'joinOtherwise'
    test.each<[string | undefined, string | undefined, RuleName | undefined]>([
      ['public', undefined, undefined],
      ['public', 'leave', undefined],
      ['public', 'knock', undefined],
      ['public', 'join', undefined],
      ['public', 'ban', 'joinBanned'],
      [undefined, undefined, 'joinOtherwise'],
      [undefined, 'invite', undefined],
      ['invite', undefined, 'joinOtherwise'],
      ['invite', 'leave', 'joinOtherwise'],
      ['invite', 'invite', undefined],
      ['invite', 'join', undefined],
      ['invite', 'ban', 'joinBanned'],
      ['knock', 'invite', knock],
      ['knock', 'join', knock],
      ['knock', 'knock', 'joinOtherwise'],
      ['restricted', 'invite', restricted],
      ['restricted', 'join', restricted],
      ['restricted', 'ban', 'joinBanned'],
      ['knock_restricted', 'invite', knockRestricted],
      ['private', 'invite', 'joinOtherwise'],
      ['constructor', undefined, 'joinOtherwise'],
    ])('join rule %s, membership %s', (joinRule, membership, rule) => {
      expect(join(joinRule, membership)).toEqual(expected(rule))
    })

    test.each<[string, JsonObject[string] | undefined, boolean]>([
      ['nobody', undefined, false],
      ['a member at the invite level', carol, true],
      ['a member below it', '@below:one', false],
      ['one who left', '@gone:one', false],
      ['no user id', 42, false],
    ])('restricted: authorised by %s', (_, authoriser, ok) => {
      const state = (joinRule: string) =>
        roomState(rules, {
          members: { [alice]: 'join', [carol]: 'join', '@below:one': 'join', '@gone:one': 'leave' },
          levels: { invite: 10, users: { [carol]: 10, '@below:one': 9, '@gone:one': 100 } },
          joinRule,
        })
      const content = authoriser === undefined ? {} : { join_authorised_via_users_server: authoriser }
      const check = (joinRule: string) => checkAuth(rules, memberPdu(rules, bob, 'join', { content }), state(joinRule))
      const verdict = ok ? allowed : is('joinRestricted', '2')
      expect(check('restricted')).toEqual(rules.restrictedJoins ? verdict : is('joinOtherwise'))
      expect(check('knock_restricted')).toEqual(rules.knockRestricted ? verdict : is('joinOtherwise'))
      expect(check('invite')).toEqual(is('joinOtherwise'))
    })
  })

  describe('membership: invite', () => {
    const invite = (target: string | undefined, senderMembership: string, level: number) =>
      checkAuth(
        rules,
        memberPdu(rules, carol, 'invite', { sender: bob }),
        roomState(rules, {
          members: { [bob]: senderMembership, ...(target === undefined ? {} : { [carol]: target }) },
          levels: { invite: 10, users: { [bob]: level } },
        }),
      )
    test.each<[string | undefined, string, number, string | undefined]>([
      [undefined, 'join', 10, undefined],
      ['leave', 'join', 10, undefined],
      ['knock', 'join', 10, undefined],
      ['invite', 'join', 10, undefined],
      [undefined, 'join', 9, '5'],
      [undefined, 'leave', 10, '2'],
      [undefined, 'invite', 10, '2'],
      ['join', 'join', 10, '3'],
      ['ban', 'join', 10, '3'],
    ])('of one whose membership is %s by one whose is %s, at level %s', (target, sender, level, step) => {
      expect(invite(target, sender, level)).toEqual(step === undefined ? allowed : is('invite', step))
    })
    test('anybody in the room may, where nothing sets levels', () => {
      const state = roomState(rules, { members: { [bob]: 'join' } })
      expect(checkAuth(rules, memberPdu(rules, carol, 'invite', { sender: bob }), state)).toEqual(allowed)
    })
  })

  describe('membership: leave', () => {
    const knock = rules.knocking ? undefined : '1'
    test.each<[string | undefined, string | undefined]>([
      ['join', undefined],
      ['invite', undefined],
      ['knock', knock],
      ['leave', '1'],
      ['ban', '1'],
      [undefined, '1'],
    ])('of oneself, membership %s', (membership, step) => {
      const state = roomState(rules, { members: membership === undefined ? {} : { [bob]: membership } })
      const verdict = checkAuth(rules, memberPdu(rules, bob, 'leave'), state)
      expect(verdict).toEqual(step === undefined ? allowed : is('leave', step))
    })

    test.each<[string, string, string, number, number, string | undefined]>([
      ['a kick', 'join', 'join', 40, 39, undefined],
      ['an invite taken back', 'join', 'invite', 40, 0, undefined],
      ['below the kick level', 'join', 'join', 39, 0, '5'],
      ['of an equal', 'join', 'join', 40, 40, '5'],
      ['not in the room', 'leave', 'join', 40, 0, '2'],
      ['an unban', 'join', 'ban', 60, 0, undefined],
      ['an unban below the ban level', 'join', 'ban', 59, 0, '3'],
      ['an unban of an equal', 'join', 'ban', 60, 60, '5'],
    ])('of another: %s', (_, sender, target, level, targetLevel, step) => {
      const state = roomState(rules, {
        members: { [bob]: sender, [carol]: target },
        levels: { kick: 40, ban: 60, users: { [bob]: level, [carol]: targetLevel } },
      })
      const verdict = checkAuth(rules, memberPdu(rules, carol, 'leave', { sender: bob }), state)
      expect(verdict).toEqual(step === undefined ? allowed : is('leave', step))
    })
  })

  describe('membership: ban', () => {
    test.each<[string, string, number, number, string | undefined]>([
      ['allowed', 'join', 60, 59, undefined],
      ['below the ban level', 'join', 59, 0, '3'],
      ['of an equal', 'join', 60, 60, '3'],
      ['the sender has left', 'leave', 60, 0, '1'],
    ])('%s', (_, sender, level, targetLevel, step) => {
      const state = roomState(rules, {
        members: { [bob]: sender, [carol]: 'join' },
        levels: { ban: 60, users: { [bob]: level, [carol]: targetLevel } },
      })
      const verdict = checkAuth(rules, memberPdu(rules, carol, 'ban', { sender: bob }), state)
      expect(verdict).toEqual(step === undefined ? allowed : is('ban', step))
    })
  })

  describe('membership: knock', () => {
    test.each<[string, string | undefined, string, string | undefined]>([
      ['knock', undefined, bob, undefined],
      ['knock', 'leave', bob, undefined],
      ['knock', 'knock', bob, undefined],
      ['knock', 'ban', bob, '4'],
      ['knock', 'invite', bob, '4'],
      ['knock', 'join', bob, '4'],
      ['knock', undefined, alice, '2'],
      ['public', undefined, bob, '1'],
      ['invite', undefined, bob, '1'],
      ['restricted', undefined, bob, '1'],
      ['knock_restricted', undefined, bob, rules.knockRestricted ? undefined : '1'],
    ])('join rule %s, membership %s, sent by %s', (joinRule, membership, sender, step) => {
      const members = membership === undefined ? { [alice]: 'join' } : { [alice]: 'join', [bob]: membership }
      const verdict = checkAuth(
        rules,
        memberPdu(rules, bob, 'knock', { sender }),
        roomState(rules, { members, joinRule }),
      )
      const inVersion = step === undefined ? allowed : is('knock', step)
      expect(verdict).toEqual(rules.knocking ? inVersion : is('memberUnknown'))
    })
  })

  test("a member of power 0 changes nobody else's membership", () => {
    const state = roomState(rules, {
      members: { [alice]: 'join', [bob]: 'join', [carol]: 'join' },
      levels: { users: { [alice]: 100 } },
    })
    for (const membership of ['join', 'leave', 'ban', 'knock', 'invite']) {
      for (const target of [alice, carol]) {
        expect(checkAuth(rules, memberPdu(rules, target, membership, { sender: bob }), state).allowed).toBe(false)
      }
    }
  })
})

describe('rooms/v12: creators', () => {
  const state = roomState(v12, {
    create: { additional_creators: [bob] },
    members: { [alice]: 'join', [bob]: 'join', [carol]: 'join' },
    levels: { users: { [carol]: Number.MAX_SAFE_INTEGER } },
  })
  test.each([
    ['kick the most powerful', alice, carol, 'leave', true],
    ['of both kinds', bob, carol, 'ban', true],
    ['cannot be kicked by them', carol, bob, 'leave', false],
    ['nor by each other', alice, bob, 'ban', false],
  ])('%s', (_, sender, target, membership, ok) => {
    expect(checkAuth(v12, memberPdu(v12, target, membership, { sender }), state).allowed).toBe(ok)
  })
})

describe('rooms/v8 4.2 the signature of the authorising server', () => {
  const state = roomState(v8, { members: { [carol]: 'join' }, joinRule: 'restricted' })
  const join = memberPdu(v8, bob, 'join', { content: { join_authorised_via_users_server: carol } })
  test.each([
    ['signed', 'two', true],
    ['signed by another', 'one', false],
  ])('%s', (_, signer, ok) => {
    const verdict = checkAuth(v8, join, state, { isSignedBy: (server) => server === signer })
    expect(verdict).toMatchObject(ok ? allowed : { allowed: false, rule: '4.2.1' })
  })
  test('version 7 knows nothing of it', () => {
    const v7 = known('7')
    const before = roomState(v7, { joinRule: 'public' })
    const event = memberPdu(v7, bob, 'join', { content: { join_authorised_via_users_server: carol } })
    expect(checkAuth(v7, event, before, { isSignedBy: () => false })).toEqual(allowed)
  })
})

describe.each(versions)('rooms/v$version third-party invites', (rules) => {
  const key = generateSigningKey('0')
  const other = generateSigningKey('0')
  const signed = signJson({ mxid: carol, token: 'token', sender: alice }, 'identity.example', key)
  const issued = (content: JsonObject, sender: string = alice) =>
    pdu(rules, { type: 'm.room.third_party_invite', state_key: 'token', event_id: '$3pid', sender, content })
  const keysOf = (...keys: (typeof key)[]) => ({
    public_keys: keys.map((one) => ({ public_key: one.publicKeyBase64 })),
  })
  const single = { public_key: key.publicKeyBase64 }

  test.each<[string, JsonObject[string], JsonObject | undefined, string | undefined, string?]>([
    ['a single key', { signed }, single, undefined],
    ['one key of a list', { signed }, { public_key: other.publicKeyBase64, ...keysOf(other, key) }, undefined],
    ['the target is banned', { signed }, single, '1.1', 'ban'],
    ['no object', 'x', single, '1.2'],
    ['no signed', {}, single, '1.2'],
    ['no mxid', { signed: { token: 'token' } }, single, '1.3'],
    ['no token', { signed: { mxid: carol } }, single, '1.3'],
    ['signed for another user', { signed: { ...signed, mxid: bob } }, single, '1.4'],
    ['no such invite in the room', { signed: { ...signed, token: 'other' } }, single, '1.5'],
    ['taken back', { signed }, {}, '1.8'],
    ['signed by another key', { signed }, keysOf(other), '1.8'],
    ['changed after signing', { signed: { ...signed, sender: bob } }, single, '1.8'],
    ['without signatures', { signed: { mxid: carol, token: 'token' } }, single, '1.8'],
    ['a key that is none', { signed }, { public_key: 'AAAA', public_keys: [1, null, {}] }, '1.8'],
  ])('%s', (_, third_party_invite, content, step, membership) => {
    const state = roomState(rules, {
      members: { [alice]: 'join', ...(membership === undefined ? {} : { [carol]: membership }) },
      more: content === undefined ? [] : [issued(content)],
    })
    const invite = memberPdu(rules, carol, 'invite', { sender: alice, content: { third_party_invite } })
    const rule = `${rules.ruleNumbers.invite}.${step}`
    expect(checkAuth(rules, invite, state)).toMatchObject(step === undefined ? allowed : { allowed: false, rule })
  })

  test('made by another user', () => {
    const state = roomState(rules, { members: { [alice]: 'join' }, more: [issued(single, bob)] })
    const invite = memberPdu(rules, carol, 'invite', { sender: alice, content: { third_party_invite: { signed } } })
    expect(checkAuth(rules, invite, state)).toMatchObject({ rule: `${rules.ruleNumbers.invite}.1.6` })
  })
})
