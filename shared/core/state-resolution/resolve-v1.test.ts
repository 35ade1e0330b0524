import { describe, expect, test } from 'vitest'
import { ForkedRoom, users } from '../../../test/support/forked-room.ts'
import type { EventId, UserId } from '../../matrix/ids.ts'
import { type RoomRules, rulesOf } from '../room-versions.ts'
import { resolveState } from './resolve.ts'
import { type StateMap, stateKey } from './state-sets.ts'

const [alice, bob, carol] = users as [UserId, UserId, UserId]

/** A public room of alice (100), bob (50) and carol, forked. Events are deeper the later they are sent. */
function forked() {
  const room = new ForkedRoom(rulesOf('1') as RoomRules)
  for (const user of [bob, carol]) {
    room.send(0, { type: 'm.room.member', state_key: user, sender: user, content: { membership: 'join' } })
  }
  room.branches.push(room.branches[0] as StateMap)
  return {
    room,
    resolved: (type: string, key = '') =>
      resolveState(room.rules, room.branches, room.event).get(stateKey(`m.room.${type}`, key)),
    topic: (branch: number, sender: UserId) =>
      room.send(branch, { type: 'm.room.topic', state_key: '', sender, content: { topic: 'x' } }),
    levels: (branch: number, sender: UserId, levels: Record<string, number>) =>
      room.send(branch, {
        type: 'm.room.power_levels',
        state_key: '',
        sender,
        content: { users: { [alice]: 100, ...levels } },
      }),
    member: (branch: number, sender: UserId, target: UserId, membership: string) =>
      room.send(branch, { type: 'm.room.member', state_key: target, sender, content: { membership } }),
  }
}

describe('rooms/v1 state resolution', () => {
  test('of other state the deepest event counts', () => {
    const { resolved, topic } = forked()
    topic(0, alice)
    const deeper = topic(1, bob)
    expect(resolved('topic')).toBe(deeper)
  })

  test('as far as the resolved power levels allow it', () => {
    const { resolved, topic, levels } = forked()
    const shallower = topic(0, alice)
    levels(0, alice, {})
    topic(1, bob)
    expect(resolved('topic')).toBe(shallower)
  })

  test('power levels: from the shallowest on, each that the one before allows', () => {
    const { resolved, levels } = forked()
    levels(0, alice, { [bob]: 50, [carol]: 10 })
    const second = levels(1, bob, { [bob]: 50, [carol]: 50 })
    expect(resolved('power_levels')).toBe(second)

    const other = forked()
    const demotion = other.levels(0, alice, {})
    other.levels(1, bob, { [bob]: 50, [carol]: 50 })
    expect(other.resolved('power_levels')).toBe(demotion)
  })

  test('levels under another state key are state like any other', () => {
    const { resolved, room, levels } = forked()
    const other = (branch: number, sender: UserId) =>
      room.send(branch, { type: 'm.room.power_levels', state_key: 'x', sender, content: {} })
    other(0, alice)
    levels(0, alice, { [bob]: 60 })
    const deeper = other(1, bob)
    expect(resolved('power_levels', 'x')).toBe(deeper)
  })

  test('members: a ban that is allowed after a join wins over it, and the other way round it stays', () => {
    const { resolved, member } = forked()
    member(0, carol, carol, 'leave')
    const ban = member(1, alice, carol, 'ban')
    expect(resolved('member', carol)).toBe(ban)

    const other = forked()
    const first = other.member(0, alice, carol, 'ban')
    other.member(1, carol, carol, 'leave')
    other.member(1, carol, carol, 'join')
    expect(other.resolved('member', carol)).toBe(first)
  })

  test('a key that one fork lacks is no conflict', () => {
    const { resolved, topic, levels } = forked()
    const only = topic(0, bob)
    levels(1, alice, {})
    expect(resolved('topic')).toBe(only)
  })

  test('if no event is allowed, the shallowest stays', () => {
    const { resolved, topic, levels, room } = forked()
    const shallower = topic(0, bob)
    topic(1, bob)
    const id = levels(0, alice, {}) as EventId
    const key = stateKey('m.room.power_levels', '')
    room.branches[1] = new Map(room.branches[1]).set(key, id)
    expect(resolved('topic')).toBe(shallower)
  })
})
