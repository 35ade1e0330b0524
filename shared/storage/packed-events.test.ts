import { afterAll, beforeAll, expect, test } from 'vitest'
import { type TestDatabase, testDatabase } from '../../test/support/database.ts'
import type { RoomId } from '../matrix/ids.ts'
import { timelineBetween } from './events.ts'

let database: TestDatabase
beforeAll(async () => {
  database = await testDatabase()
  await database.sql`insert into events (event_nid, event_id, room_nid, position, depth, type, state_key, sender,
      origin_server_ts, content, envelope, state_root, relates_to, rel_type, device_id, txn_id)
    select i, '$event' || i, 1 + i % 2, i, i, 'm.room.message', null, '@a:test', 1000 + i, '{"body":"' || i || '"}', '', 7,
      case when i = 8 then '$event6' end, case when i = 8 then 'm.reference' end, 'DEVICE', case when i = 6 then '' end
    from generate_series(1, 60) as i`
})
afterAll(() => database.drop())

const room = { room_nid: 1, room_id: '!room:test' as RoomId }

async function page(range: { after: number; upTo: number }, limit: number, direction: 'f' | 'b') {
  return timelineBetween(database.read, room, range, limit, direction)
}

test('a page holds the events of one room in the order asked for, and no more than asked for', async () => {
  expect((await page({ after: 4, upTo: 50 }, 3, 'f')).map((event) => event.position)).toEqual([6, 8, 10])
  expect((await page({ after: 4, upTo: 50 }, 3, 'b')).map((event) => event.position)).toEqual([50, 48, 46])
  expect(await page({ after: 0, upTo: 60 }, 600, 'f')).toHaveLength(30)
})

test('nothing of an event is lost, and null is not the same as empty', async () => {
  const [six, eight] = await page({ after: 4, upTo: 8 }, 5, 'f')
  expect(six).toMatchObject({
    event_nid: 6,
    event_id: '$event6',
    room_id: '!room:test',
    origin_server_ts: 1006,
    content: '{"body":"6"}',
    state_root: 7,
    device_id: 'DEVICE',
    txn_id: '',
    has_children: true,
  })
  expect(six).not.toHaveProperty('state_key')
  expect(eight).toMatchObject({ relates_to: '$event6', rel_type: 'm.reference', has_children: false })
  expect(eight).not.toHaveProperty('txn_id')
})

test('a field that holds the separator forges nothing', async () => {
  await database.sql`insert into events (event_nid, event_id, room_nid, position, depth, type, state_key, sender,
      origin_server_ts, content, envelope, state_root)
    values (100, '$odd', 1, 100, 1, ${'a\u0001=\u0001@admin:test'}, ${'\u0001\u0001'}, '@a:test', 1, '{}', '', 7)`
  const [odd, before] = await page({ after: 50, upTo: 100 }, 2, 'b')
  expect(odd).toMatchObject({ type: 'a\u0001=\u0001@admin:test', state_key: '\u0001\u0001', sender: '@a:test' })
  expect(before).toMatchObject({ position: 60, sender: '@a:test' })
})
