import { expect, test, vi } from 'vitest'
import { fakeClock } from '../clock.ts'
import type { RequestInfo } from '../http/route.ts'
import type { UserId } from '../matrix/ids.ts'
import { createInProcessReplication } from '../replication/in-process.ts'
import type { ReadSql } from '../storage/sql.ts'
import type { AccessTokenRow } from '../storage/tokens.ts'
import type { StreamPosition } from '../streams/define.ts'
import { createAuthenticate, seenIntervalMs } from './authenticate.ts'
import { isWellFormedToken, newToken, tokenHash, userTag } from './tokens.ts'

const alice = '@alice:hs' as UserId
const request = { ip: '192.0.2.1', userAgent: 'agent' } as RequestInfo

function setUp(row: Partial<AccessTokenRow> = {}) {
  const clock = fakeClock()
  const replication = createInProcessReplication({}, clock)
  const stored = {
    user_id: alice,
    device_id: 'D',
    expires_ts: null,
    supersedes: false,
    admin: false,
    kind: 'user',
    deactivated: false,
    last_seen_ts: clock.now(),
    ...row,
  }
  /** Queries are answered in order. */
  const answers: ((rows: unknown[]) => void)[] = []
  const queries = vi.fn(() => new Promise((resolve) => answers.push(resolve)))
  const deviceSeen = vi.fn()
  const confirmRefresh = vi.fn(async () => ({}))
  const sql = queries as unknown as ReadSql
  return {
    clock,
    queries,
    deviceSeen,
    confirmRefresh,
    authenticate: createAuthenticate({ sql, clock, replication, deviceSeen, confirmRefresh }),
    answer: (rows: unknown[] = [stored]) => answers.shift()?.(rows),
    forget(cache: 'access_token' | 'user_tokens', key: string) {
      const prev = replication.positions().invalidations
      const position = (prev + 1) as StreamPosition
      replication.publish('invalidations', { prev, position, rows: [{ position, cache, key }] })
    },
  }
}

test('tokens tell their kind and user, and garbage is told apart', () => {
  const token = newToken('gat', alice)
  expect(token.startsWith(`gat_${userTag(alice)}_`)).toBe(true)
  expect(isWellFormedToken(token, 'gat')).toBe(true)
  expect(isWellFormedToken(token, 'grt')).toBe(false)
  for (const changed of ['', 'gat', `${token}0`, token.replace(/.$/, 'g'), token.replace('gat_', 'gat_x')]) {
    expect(isWellFormedToken(changed, 'gat')).toBe(false)
  }
  expect(newToken('gat', alice)).not.toBe(token)
})

test('a known token is answered without a promise and without a query', async () => {
  const { authenticate, answer, queries } = setUp()
  const token = newToken('gat', alice)
  const both = [authenticate(token, request), authenticate(token, request)]
  answer()
  const [first] = await Promise.all(both)
  expect(first).toMatchObject({ user_id: alice, device_id: 'D', guest: false, token_hash: tokenHash(token) })
  expect(authenticate(token, request)).toBe(first)
  expect(queries).toHaveBeenCalledTimes(1)
})

test('what can be no token is not asked for', () => {
  const { authenticate, queries } = setUp()
  expect(() => authenticate('gat_x', request)).toThrow(expect.objectContaining({ errcode: 'M_UNKNOWN_TOKEN' }))
  expect(queries).not.toHaveBeenCalled()
})

test.each(['access_token', 'user_tokens'] as const)('%s: forgotten, also while it is read', async (cache) => {
  const { authenticate, answer, forget, queries } = setUp()
  const token = newToken('gat', alice)
  const key = cache === 'access_token' ? tokenHash(token) : alice
  const early = authenticate(token, request)
  forget(cache, key)
  answer()
  await early
  const again = authenticate(token, request)
  expect(again).toBeInstanceOf(Promise)
  answer()
  await again
  expect(authenticate(token, request)).not.toBeInstanceOf(Promise)
  forget(cache, key)
  const gone = authenticate(token, request)
  answer([])
  await expect(gone).rejects.toMatchObject({ errcode: 'M_UNKNOWN_TOKEN', status: 401 })
  expect(queries).toHaveBeenCalledTimes(3)
})

test('who asks after a logout does not get what was read before it', async () => {
  const { authenticate, answer, forget } = setUp()
  const token = newToken('gat', alice)
  const before = authenticate(token, request)
  forget('access_token', tokenHash(token))
  const after = authenticate(token, request)
  answer()
  answer([])
  await before
  await expect(after).rejects.toMatchObject({ errcode: 'M_UNKNOWN_TOKEN' })
})

test('the first use of a refreshed token is confirmed before it is answered', async () => {
  const { authenticate, answer, confirmRefresh } = setUp({ supersedes: true, expires_ts: 2_000_000_000_000 })
  const token = newToken('gat', alice)
  const used = authenticate(token, request)
  answer()
  await used
  expect(confirmRefresh).toHaveBeenCalledExactlyOnceWith({ user_id: alice, token_hash: tokenHash(token) })
})

test('a visit is told once in a while', async () => {
  const { authenticate, answer, clock, deviceSeen } = setUp()
  const token = newToken('gat', alice)
  const first = authenticate(token, request)
  answer()
  await first
  expect(deviceSeen).not.toHaveBeenCalled()
  clock.advance(seenIntervalMs)
  authenticate(token, request)
  authenticate(token, request)
  expect(deviceSeen).toHaveBeenCalledExactlyOnceWith({
    user_id: alice,
    device_id: 'D',
    ip: '192.0.2.1',
    agent: 'agent',
    ts: clock.now(),
  })
})
