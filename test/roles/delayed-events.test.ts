/** MSC4140 over several mains: one is killed while events wait for their time, and each is seen once. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { connectForReading, type ReadSql } from '../../shared/storage/sql.ts'
import { HttpClient } from '../support/http-client.ts'
import { redisInstalled } from '../support/redis.ts'
import { type Account, type TestRoles, testRoles } from '../support/roles.ts'

const type = 'com.example.delayed'
const roomCount = 12
const eventsPerRoom = 12
const stepMs = 350
/** From the time that an event is due to its being sent, where its main was killed meanwhile. */
const backWithinMs = 8_000

interface SyncBody {
  next_batch: string
  rooms?: { join?: Record<string, { timeline: { events: { type: string; content: { n: number; at: number } }[] } }> }
}

let roles: TestRoles
let http: HttpClient
let sql: ReadSql
beforeAll(async () => {
  if (!redisInstalled) return
  roles = await testRoles({ handlers: { client: 2, sync: 1 }, mains: 2 })
  http = new HttpClient('127.0.0.1', Number(new URL(roles.url).port))
  sql = connectForReading({ url: roles.databaseUrl, connections: 1, applicationName: 'test' })
})
afterAll(async () => {
  await sql?.end()
  http?.close()
  await roles?.close()
})

test.runIf(redisInstalled)('a main is killed: each delayed event is sent once, and seen once', async () => {
  const watcher = await roles.register('watcher')
  const rooms = await Promise.all(
    Array.from({ length: roomCount }, async (_, i) => {
      const owner = await roles.register(`owner${i}`)
      const body = { preset: 'public_chat' }
      const made = await http.json<{ room_id: string }>(
        'POST',
        '/_matrix/client/v3/createRoom',
        owner.access_token,
        body,
      )
      await http.json('POST', `/_matrix/client/v3/rooms/${made.room_id}/join`, watcher.access_token, {})
      return { ...made, owner }
    }),
  )
  const first = await sync(watcher, '')
  const scheduled = await Promise.all(
    rooms.map(async ({ room_id, owner }) => {
      const ids: string[] = []
      for (let n = 0; n < eventsPerRoom; n++) {
        const delay = 1_000 + n * stepMs
        const path = `/_matrix/client/v3/rooms/${room_id}/send/${type}/t${n}?org.matrix.msc4140.delay=${delay}`
        const content = { n, at: Date.now() + delay }
        ids.push((await http.json<{ delay_id: string }>('PUT', path, owner.access_token, content)).delay_id)
      }
      return ids
    }),
  )
  // Some were sent, and as many wait.
  const seen = new Map<string, { n: number; lateMs: number }[]>()
  let since = first.next_batch
  let killed: Promise<void> | undefined
  const deadline = Date.now() + 40_000
  const count = () => [...seen.values()].reduce((sum, events) => sum + events.length, 0)
  while (count() < roomCount * eventsPerRoom && Date.now() < deadline) {
    const body = await sync(watcher, `?since=${since}&timeout=1000&filter=${encodeURIComponent(filter)}`)
    since = body.next_batch
    for (const [room_id, { timeline }] of Object.entries(body.rooms?.join ?? {})) {
      for (const event of timeline.events.filter((one) => one.type === type)) {
        const { n, at } = event.content
        seen.set(room_id, [...(seen.get(room_id) ?? []), { n, lateMs: Date.now() - at }])
      }
    }
    if (count() > roomCount * 3) killed ??= roles.of('main')[0]?.kill()
  }
  await killed
  expect(killed, 'nobody was killed').toBeDefined()
  for (const { room_id } of rooms) {
    const events = seen.get(room_id) ?? []
    expect(events.map(({ n }) => n)).toEqual(Array.from({ length: eventsPerRoom }, (_, n) => n))
    for (const { n, lateMs } of events) {
      expect(lateMs, `event ${n}`).toBeLessThan(backWithinMs)
      expect(lateMs, `event ${n} came before its time`).toBeGreaterThanOrEqual(0)
    }
  }
  const rows = await sql<{ delay_id: string }[]>`select delay_id from events where delay_id is not null`
  expect(rows.map((row) => row.delay_id).toSorted()).toEqual(scheduled.flat().toSorted())
  expect(await sql`select from delayed_events where finalised_ts is null or event_id is null`).toHaveLength(0)
})

const filter = JSON.stringify({ room: { timeline: { limit: 100 } } })

function sync(who: Account, query: string): Promise<SyncBody> {
  return http.json<SyncBody>('GET', `/_matrix/client/v3/sync${query}`, who.access_token)
}
