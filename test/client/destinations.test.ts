/** What administrators see of sending to other servers, and may do about it. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type ClientServer, clientServer, type TestClient } from '../support/client-server.ts'

const path = '/_synapse/admin/v1/federation/destinations'
/** Nobody is sent to meanwhile. */
const later = Date.now() + 3_600_000

let server: ClientServer
let admin: TestClient
let user: TestClient
let room_id: string
beforeAll(async () => {
  server = await clientServer()
  admin = await server.register('boss', { admin: true })
  user = await server.register('mere')
  ;({ room_id } = await user.must('POST', 'createRoom', {}))
  const { sql } = server.main.database
  const [room] = await sql<{ room_nid: number; position: number }[]>`
    select room_nid, (select position from streams where name = 'events') as position from rooms where room_id = ${room_id}`
  const { room_nid = 0, position = 0 } = room ?? {}
  await sql`insert into destinations (server_name, shard, cursor, attempts, failing_since_ts, retry_ts, last_error)
    values ('down.example', 1, ${position}, 4, ${later - 60_000}, ${later}, 'unreachable'), ('up.example', 2, ${position}, 0, null, null, null)`
  await sql`insert into memberships (user_id, room_nid, membership, event_nid, position, sender, local)
    values ('@x:down.example', ${room_nid}, 'join', 1, ${position}, '@x:down.example', false)`
  await sql`insert into outbound_events (position, room_nid, event_nid, origin)
    select ${position + 1}, room_nid, event_nid, 'hs1' from events where room_nid = ${room_nid} order by position desc limit 1`
})
afterAll(() => server?.close())

describe('destinations', () => {
  test('are for administrators', async () => {
    expect(await user.ask('GET', path)).toMatchObject({ status: 403 })
    expect(await server.ask('GET', path)).toMatchObject({ status: 401 })
  })

  test('are listed as Synapse lists them, with what is known beside', async () => {
    const { destinations, total } = await admin.must('GET', `${path}?order_by=retry_interval&dir=b`)
    expect(total).toBe(2)
    expect(destinations).toMatchObject([
      {
        destination: 'down.example',
        failure_ts: later - 60_000,
        retry_interval: 8_000,
        retry_last_ts: later - 8_000,
        last_error: 'unreachable',
      },
      { destination: 'up.example', failure_ts: null, retry_interval: 0, retry_last_ts: 0 },
    ])
    expect(await admin.must('GET', `${path}?limit=1`)).toMatchObject({ total: 2, next_token: '1' })
    expect(await admin.must('GET', `${path}?destination=UP`)).toMatchObject({
      total: 1,
      destinations: [{ destination: 'up.example' }],
    })
  })

  test('one tells what waits for it, and its rooms', async () => {
    expect(await admin.must('GET', `${path}/down.example`)).toMatchObject({
      destination: 'down.example',
      waiting: { events: 1, edus: 0, oldest_ts: expect.any(Number) },
    })
    expect(await admin.must('GET', `${path}/down.example/rooms`)).toEqual({
      rooms: [{ room_id, stream_ordering: expect.any(Number) }],
      total: 1,
    })
    expect(await admin.ask('GET', `${path}/nowhere.example`)).toMatchObject({ status: 404 })
  })

  test('are on the status page', async () => {
    expect(await admin.must('GET', '/_synapse/admin/v1/ganglion/status')).toMatchObject({
      destinations: {
        total: 2,
        failing: 1,
        longest: [{ server_name: 'down.example', waiting: { events: 1, edus: 0 } }],
      },
    })
  })

  test('one that fails is tried again at once when it is reset', async () => {
    expect(await admin.ask('POST', `${path}/up.example/reset_connection`)).toMatchObject({ status: 400 })
    await admin.must('POST', `${path}/down.example/reset_connection`)
    expect(await admin.must('GET', `${path}/down.example`)).toMatchObject({ failure_ts: null, retry_interval: 0 })
  })
})
