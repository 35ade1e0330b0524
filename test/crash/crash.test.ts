/** The server is killed (SIGKILL) at random points under load and started again: everything it acknowledged is there,
 *  once, and a client's sync goes on from its token without a gap. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type TestDatabase, testDatabase } from '../support/database.ts'
import { HttpClient } from '../support/http-client.ts'
import { seeded } from '../support/random.ts'
import { type ServerProcess, serverProcess } from '../support/server-process.ts'

const kills = Number(process.env.GANGLION_CRASH_KILLS ?? 100)
const senders = 6
const seed = 20_260

let database: TestDatabase
let server: ServerProcess

beforeAll(async () => {
  database = await testDatabase()
  server = await serverProcess({ databaseUrl: database.url })
  await server.start()
})
afterAll(async () => {
  await server?.close()
  await database?.drop()
})

const v3 = '/_matrix/client/v3'
const encode = encodeURIComponent

interface Timeline {
  readonly events: { event_id: string; type: string; content: { body?: string } }[]
  readonly limited?: boolean
}

test(`${kills} kills lose nothing that was acknowledged`, { timeout: 900_000 }, async () => {
  const random = seeded(seed)
  const people = []
  for (let i = 0; i < senders; i++) people.push(await server.register(`crash${i}`))
  const [owner] = people
  if (!owner) throw new Error('no people')
  let http = new HttpClient('127.0.0.1', server.port)
  const { room_id } = await http.json<{ room_id: string }>('POST', `${v3}/createRoom`, owner.access_token, {
    preset: 'public_chat',
  })
  const room = `${v3}/rooms/${encode(room_id)}`
  for (const person of people.slice(1)) await http.json('POST', `${room}/join`, person.access_token, {})

  /** Body → event id, of every send that was answered. */
  const acknowledged = new Map<string, string>()
  /** Per person: the numbers of the last account data asked for and answered, the last receipt, the last membership. */
  const asked = people.map(() => 0)
  const answered = people.map(() => 0)
  const memberships = people.map(() => 'join')
  const inFlight = people.map(() => '')
  let since = (await http.json<{ next_batch: string }>('GET', `${v3}/sync?timeout=0`, owner.access_token)).next_batch
  const seen: string[] = []
  let counter = 0

  const filter = encode(JSON.stringify({ room: { timeline: { limit: 1000 } } }))
  const follow = async () => {
    const path = `${v3}/sync?timeout=0&since=${since}&filter=${filter}`
    const answer = await http.json<{ next_batch: string; rooms?: { join?: Record<string, { timeline: Timeline }> } }>(
      'GET',
      path,
      owner.access_token,
    )
    const timeline = answer.rooms?.join?.[room_id]?.timeline
    expect(timeline?.limited ?? false).toBe(false)
    for (const event of timeline?.events ?? []) if (event.type === 'm.room.message') seen.push(event.event_id)
    since = answer.next_batch
  }

  for (let kill = 0; kill < kills; kill++) {
    let running = true
    const lanes = people.map(async (person, lane) => {
      // What was under way when the server died is repeated with its transaction id: it must not happen twice.
      let body = inFlight[lane] || ''
      while (running) {
        body ||= `crash message ${counter++}`
        inFlight[lane] = body
        const path = `${room}/send/m.room.message/${encode(body)}`
        const sent = await http.json<{ event_id: string }>('PUT', path, person.access_token, {
          msgtype: 'm.text',
          body,
        })
        acknowledged.set(body, sent.event_id)
        inFlight[lane] = ''
        body = ''
        if (counter % 5 === 0) {
          const value = (asked[lane] ?? 0) + 1
          asked[lane] = value
          const data = `${v3}/user/${encode(person.user_id)}/account_data/org.test.crash`
          await http.json('PUT', data, person.access_token, { value })
          answered[lane] = value
          await http.json('POST', `${room}/receipt/m.read/${encode(sent.event_id)}`, person.access_token, {})
        }
        if (lane > 0 && counter % 17 === 0) {
          memberships[lane] = 'unknown'
          await http.json('POST', `${room}/leave`, person.access_token, {})
          memberships[lane] = 'leave'
          // Some kills are to come while the person is out.
          await new Promise((resolve) => setTimeout(resolve, 10))
          memberships[lane] = 'unknown'
          await http.json('POST', `${room}/join`, person.access_token, {})
          memberships[lane] = 'join'
        }
      }
    })
    await new Promise((resolve) => setTimeout(resolve, 20 + random.below(180)))
    const settled = Promise.allSettled(lanes)
    await server.kill()
    running = false
    await settled
    http.close()
    await server.start()
    http = new HttpClient('127.0.0.1', server.port)
    await follow()
    for (const [lane, person] of people.entries()) {
      const member = await http.request(
        'GET',
        `${room}/state/m.room.member/${encode(person.user_id)}`,
        owner.access_token,
      )
      const { membership } = JSON.parse(member.body) as { membership: string }
      if (memberships[lane] !== 'unknown') expect(membership, person.user_id).toBe(memberships[lane])
      if (membership !== 'join') await http.json('POST', `${room}/join`, person.access_token, {})
      memberships[lane] = 'join'
      const data = await http.request(
        'GET',
        `${v3}/user/${encode(person.user_id)}/account_data/org.test.crash`,
        person.access_token,
      )
      const value = data.status === 200 ? (JSON.parse(data.body) as { value: number }).value : 0
      expect(value).toBeGreaterThanOrEqual(answered[lane] ?? 0)
      expect(value).toBeLessThanOrEqual(asked[lane] ?? 0)
    }
  }

  // The last ones under way: repeated, and then acknowledged as well.
  for (const [lane, body] of inFlight.entries()) {
    if (!body) continue
    const path = `${room}/send/m.room.message/${encode(body)}`
    const token = people[lane]?.access_token
    const sent = await http.json<{ event_id: string }>('PUT', path, token, { msgtype: 'm.text', body })
    acknowledged.set(body, sent.event_id)
  }
  await follow()
  const stored = await database.sql<{ event_id: string; content: string; position: number }[]>`
    select event_id, content, position from events where type = 'm.room.message' order by position`
  const bodies = stored.map((row) => (JSON.parse(row.content) as { body: string }).body)
  expect(new Set(bodies).size, 'no message is stored twice').toBe(bodies.length)
  const byBody = new Map(stored.map((row, i) => [bodies[i], row.event_id]))
  for (const [body, eventId] of acknowledged) expect(byBody.get(body), body).toBe(eventId)
  expect(seen, 'sync saw every stored message, once, in order').toEqual(stored.map((row) => row.event_id))
  const [gaps] = await database.sql<{ count: number; last: number }[]>`
    select count(position)::bigint as count, max(position)::bigint as last from events`
  expect(gaps?.count, 'positions have no gaps').toBe(gaps?.last)
  console.log(`${kills} kills, ${acknowledged.size} messages acknowledged, ${stored.length} stored`)
})
