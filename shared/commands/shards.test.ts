import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { newToken } from '../auth/tokens.ts'
import type { RoomId, UserId } from '../matrix/ids.ts'
import { type AnyCommand, shardOfCommand } from './define.ts'
import { commands } from './registry.ts'
import { ephemeralShard, shardCount, shardOf, shardOfKey, shardOfToken } from './shards.ts'

const table: Readonly<Record<string, AnyCommand>> = commands

describe('shards', () => {
  test('every key has one, the same each time, in range', () =>
    fc.assert(
      fc.property(fc.string(), (key) => {
        const shard = shardOf(key)
        expect(Number.isInteger(shard) && shard >= 0 && shard < shardCount).toBe(true)
        expect(shardOf(key)).toBe(shard)
        expect(shardOfKey(key)).toBe(shard)
      }),
    ))

  test('they never change: processes of two versions work side by side', () => {
    expect(['!room:example.org', '@alice:example.org', ''].map(shardOf)).toEqual([55, 26, 4])
  })

  test('keys spread over all of them', () => {
    const counts = new Array<number>(shardCount).fill(0)
    for (let i = 0; i < 64_000; i++) counts[shardOf(`!room${i}:hs1`)]!++
    expect(Math.min(...counts)).toBeGreaterThan(800)
    expect(Math.max(...counts)).toBeLessThan(1_200)
  })

  test("a token leads to its user's shard", () =>
    fc.assert(
      fc.property(fc.string(), fc.constantFrom('gat', 'grt', 'glt'), (name, kind) => {
        const user = `@${name}:hs1` as UserId
        expect(shardOfToken(newToken(kind, user))).toBe(shardOf(user))
      }),
    ))

  test.each(['', 'token', 'gat_', 'gat_xyz123_a', 'syt_abc_def'])('%j is no token: any main', (text) => {
    expect(shardOfToken(text)).toBeUndefined()
  })
})

describe('which main gets which command', () => {
  const user_id = '@alice:hs1' as UserId
  const room_id = '!room:hs1' as RoomId
  const shard = (name: string, request: object) => shardOfCommand(table[name] as AnyCommand, request)

  test('a room is written by its owner, a user by theirs', () => {
    expect(shard('sendEvent', { room_id, user_id })).toBe(shardOf(room_id))
    expect(shard('changeMembership', { room_id, user_id })).toBe(shardOf(room_id))
    expect(shard('setAccountData', { user_id, room_id })).toBe(shardOf(user_id))
    expect(shard('createRoom', { user_id })).toBe(shardOf(user_id))
  })

  test("a user's sessions are changed in one place, whatever names them", () => {
    const password = { type: 'm.login.password', user_id, password: '' }
    expect(shard('login', { credentials: password })).toBe(shardOf(user_id))
    expect(shard('login', { credentials: { type: 'm.login.token', token: newToken('glt', user_id) } })).toBe(
      shardOf(user_id),
    )
    expect(shard('refreshSession', { refresh_token: newToken('grt', user_id) })).toBe(shardOf(user_id))
    expect(shard('deleteDevices', { user_id })).toBe(shardOf(user_id))
  })

  test('typing and presence go to one main', () => {
    expect(shard('setTyping', { room_id, user_id })).toBe(ephemeralShard)
    expect(shard('setPresence', { user_id })).toBe(ephemeralShard)
  })

  // What they change is nobody's in particular, and decided by its rows: any main may do it.
  const anywhere = new Set([
    'claimUrlPreview',
    'storeUrlPreview',
    'completeMedia',
    'completeThumbnail',
    'noteMediaAccess',
    'submitThreepidToken',
    'agreeAtRegistration',
    'createRegistrationToken',
    'updateRegistrationToken',
    'deleteRegistrationToken',
    'storeServerKeys',
    'serverAlive',
    'receiveEdus',
  ])
  test.each([...anywhere])('%s: any main', (name) => {
    expect(shard(name, { user_id, room_id })).toBeUndefined()
  })

  test.each(Object.keys(commands).filter((name) => !anywhere.has(name)))(
    '%s: whoever has a user or a room has a shard',
    (name) => {
      const credentials = { type: 'm.login.password', user_id }
      const refresh_token = newToken('grt', user_id)
      expect(shard(name, { user_id, room_id, credentials, refresh_token, reporter: user_id, shard: 5 })).toBeTypeOf(
        'number',
      )
    },
  )
})
