import { afterAll, beforeAll, expect, test } from 'vitest'
import { fakeClock } from '../../../shared/clock.ts'
import { type TestDatabase, testDatabase } from '../../../test/support/database.ts'
import { prune, startPruning } from './prune.ts'

let database: TestDatabase
beforeAll(async () => {
  database = await testDatabase()
})
afterAll(() => database.drop())

const dayMs = 86_400_000
const now = 1_700_000_000_000

test('what has outlived its retention goes, everything else stays', async () => {
  const { sql } = database
  await sql`insert into registration_tokens (token, created_ts) values ('token', 1)`
  await sql`insert into delayed_events (delay_id, shard, user_id, room_id, type, content, delay_ms, scheduled_ts, send_ts)
    values ('scheduled', 1, '@a:x', '!r:x', 't', '{}', 1, 1, 1)`
  for (const [key, age] of [
    ['old', 1.1],
    ['young', 0.9],
  ] as const) {
    const ts = Math.floor(now - age * dayMs)
    await sql`insert into idempotency (scope, key, response, created_ts) values ('s', ${key}, '{}', ${ts})`
    const week = Math.floor(now - 7 * age * dayMs)
    await sql`insert into delayed_events (delay_id, shard, user_id, room_id, type, content, delay_ms, scheduled_ts,
        send_ts, finalised_ts) values (${key}, 1, '@a:x', '!r:x', 't', '{}', 1, ${week}, ${week}, ${week})`
    await sql`insert into registration_token_holds values (${key}, 'token', ${now + (key === 'old' ? -1 : 1)})`
    await sql`insert into uia_sessions (session_id, operation, created_ts) values (${key}, 'x', ${ts})`
    await sql`insert into access_tokens values (${Buffer.from(key)}, '@a:x', 'D', ${ts})`
    await sql`insert into refresh_tokens values (${Buffer.from(key)}, '@a:x', 'D', ${ts})`
    await sql`insert into openid_tokens values (${Buffer.from(key)}, '@a:x', ${now + (key === 'old' ? -1 : 1)})`
    await sql`insert into url_previews values (${key}, 'c', 0, '{}', ${now + (key === 'old' ? -1 : 1)})`
    await sql`insert into login_tokens values (${Buffer.from(key)}, '@a:x', ${now + (key === 'old' ? -1 : 1)})`
  }
  await sql`insert into access_tokens values (${Buffer.from('forever')}, '@a:x', 'D', null)`
  await sql`insert into rooms values (7, '!r:x', '12', '@a:x', 1, false)`
  // Ten events, ten days apart, the newest today; position 4 is missing, as after a purge.
  for (let position = 1; position <= 11; position++) {
    if (position !== 4)
      await sql`insert into events (event_nid, event_id, room_nid, position, depth, type, sender, origin_server_ts,
        content, envelope, state_root)
        values (${position}, ${`$${position}`}, 7, ${position}, 1, 't', '@a:x', ${now - (11 - position) * 12 * dayMs},
        '{}', '{}', 1)`
    await sql`insert into push_deviations (room_nid, position, push) values (7, ${position}, 1)`
  }
  await sql`update streams set position = 11 where name = 'events'`

  await sql`update streams set position = 100005 where name = 'invalidations'`
  for (const position of [1, 5, 6, 100_005])
    await sql`insert into invalidations (position, cache, key) values (${position}, 'profile', '@a:hs')`
  expect(await prune(sql, now)).toEqual({
    idempotency: 1,
    uia_sessions: 1,
    access_tokens: 1,
    refresh_tokens: 1,
    login_tokens: 1,
    openid_tokens: 1,
    url_previews: 1,
    delayed_events: 1,
    registration_token_holds: 1,
    push_deviations: 4,
    invalidations: 2,
  })
  expect((await sql`select position from push_deviations order by 1`).map((row) => row.position)).toEqual([
    5, 6, 7, 8, 9, 10, 11,
  ])
  expect((await sql`select position from invalidations order by 1`).map((row) => row.position)).toEqual([6, 100_005])
  expect(await prune(sql, now)).toMatchObject({ idempotency: 0, push_deviations: 0 })
})

test('it runs by the hour until it is stopped', async () => {
  const { sql } = database
  const clock = fakeClock(now)
  const errors: unknown[] = []
  const stop = startPruning({ sql, clock, onError: (error) => errors.push(error) })
  await sql`insert into idempotency (scope, key, response, created_ts) values ('s', 'k', '{}', 0)`
  clock.advance(60_000)
  await stop()
  expect(await sql`select key from idempotency where key = 'k'`).toEqual([])
  expect(errors).toEqual([])
})
