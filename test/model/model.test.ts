/** Many users and rooms, random actions and sync stalls: what each client has put together from sync alone equals what
 *  the server answers when asked directly, and all see every event once, in one order. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type TestDatabase, testDatabase } from '../support/database.ts'
import { HttpClient } from '../support/http-client.ts'
import { type Random, seeded } from '../support/random.ts'
import { type ServerProcess, serverProcess } from '../support/server-process.ts'
import { SyncModel } from './sync-model.ts'

const users = 8
const steps = 150
const atOnce = 4

interface Person {
  readonly user_id: string
  readonly access_token: string
  readonly model: SyncModel
}

let database: TestDatabase
let server: ServerProcess
let http: HttpClient

beforeAll(async () => {
  database = await testDatabase()
  server = await serverProcess({ databaseUrl: database.url })
  await server.start()
  http = new HttpClient('127.0.0.1', server.port)
})
afterAll(async () => {
  http?.close()
  await server?.close()
  await database?.drop()
})

const encode = encodeURIComponent
const v3 = '/_matrix/client/v3'

describe('client-server-api/#syncing', () => {
  test.each([1, 2, 3, 4, 5, 6])('seed %i: models built from sync equal the server', async (seed) => {
    const random = seeded(seed)
    const people: Person[] = []
    for (let i = 0; i < users; i++) {
      const account = await server.register(`s${seed}u${i}`)
      people.push({ ...account, model: new SyncModel(http, account) })
    }
    const rooms: string[] = []
    let actions = 0
    for (let step = 0; step < steps; step++) {
      await Promise.all(
        Array.from({ length: 1 + random.below(atOnce) }, () => act(random, people, rooms, `${seed}-${actions++}`)),
      )
    }
    for (const person of people) while (await person.model.sync({ timeline_limit: 5 }));
    for (const person of people) await compare(person, seed)
    compareOrders(people)
  })
})

/** One random action; the server may refuse it, but only with a Matrix error. */
async function act(random: Random, people: readonly Person[], rooms: string[], name: string): Promise<void> {
  const person = random.pick(people)
  const target = random.pick(people)
  const dice = random.next()
  if (rooms.length === 0 || dice < 0.03) {
    const preset = random.pick(['public_chat', 'private_chat'])
    const made = await ask(person, 'POST', `${v3}/createRoom`, { preset, name })
    if (typeof made.room_id === 'string') rooms.push(made.room_id)
    return
  }
  const room = `${v3}/rooms/${encode(random.pick(rooms))}`
  const member = (action: string) => ask(person, 'POST', `${room}/${action}`, { user_id: target.user_id })
  if (dice < 0.13) await ask(person, 'POST', `${room}/join`, {})
  else if (dice < 0.2) await member('invite')
  else if (dice < 0.24) await ask(person, 'POST', `${room}/leave`, {})
  else if (dice < 0.26) await member('kick')
  else if (dice < 0.28) await member('ban')
  else if (dice < 0.3) await member('unban')
  else if (dice < 0.36) await ask(person, 'PUT', `${room}/state/m.room.topic/`, { topic: name })
  else if (dice < 0.4)
    await ask(person, 'PUT', `${v3}/user/${encode(person.user_id)}/account_data/org.test.${random.below(4)}`, { name })
  else if (dice < 0.7)
    await ask(person, 'PUT', `${room}/send/m.room.message/${name}`, { msgtype: 'm.text', body: name })
  else await person.model.sync({ timeline_limit: random.pick([1, 2, 5, 20]) })
}

async function ask(person: Person, method: string, path: string, body: object): Promise<Record<string, unknown>> {
  const answer = await http.request(method, path, person.access_token, body)
  const parsed = JSON.parse(answer.body) as Record<string, unknown>
  if (answer.status === 200) return parsed
  if (answer.status >= 500) throw new Error(`${method} ${path}: ${answer.status} ${answer.body}`)
  expect(parsed.errcode, `${method} ${path}`).toMatch(/^M_/)
  return {}
}

async function compare({ user_id, access_token, model }: Person, seed: number): Promise<void> {
  const who = `seed ${seed}, ${user_id}`
  const { joined_rooms } = await http.json<{ joined_rooms: string[] }>('GET', `${v3}/joined_rooms`, access_token)
  expect([...model.joined.keys()].sort(), `${who}: joined rooms`).toEqual(joined_rooms.sort())
  for (const [id, room] of model.joined) {
    const state = await http.json<{ event_id: string; type: string; state_key: string }[]>(
      'GET',
      `${v3}/rooms/${encode(id)}/state`,
      access_token,
    )
    const expected = new Map(state.map((event) => [`${event.type}\0${event.state_key}`, event.event_id]))
    expect(Object.fromEntries(room.state), `${who}: state of ${id}`).toEqual(Object.fromEntries(expected))
    expect(new Set(room.timeline).size, `${who}: an event came twice in ${id}`).toBe(room.timeline.length)
  }
  for (const [type, content] of model.accountData) {
    if (!type.startsWith('org.test.')) continue
    const path = `${v3}/user/${encode(user_id)}/account_data/${type}`
    expect(content, `${who}: ${type}`).toEqual(await http.json('GET', path, access_token))
  }
}

/** Each timeline is a run of the same sequence, up to its end. */
function compareOrders(people: readonly Person[]): void {
  const longest = new Map<string, string[]>()
  for (const { model } of people) {
    for (const [id, { timeline }] of model.joined) {
      if (timeline.length > (longest.get(id)?.length ?? 0)) longest.set(id, timeline)
    }
  }
  for (const { user_id, model } of people) {
    for (const [id, { timeline }] of model.joined) {
      expect(longest.get(id)?.slice(-timeline.length), `${user_id}: order of events in ${id}`).toEqual(timeline)
    }
  }
}
