/** Random memberships, history visibilities, relations and redactions in one room: what each route and each sync shows
 *  to everybody equals what the specification's rules, applied naively to the whole history, allow.
 *  https://spec.matrix.org/v1.19/client-server-api/#room-history-visibility */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type TestDatabase, testDatabase } from '../support/database.ts'
import { type Answer, HttpClient } from '../support/http-client.ts'
import { type Random, seeded } from '../support/random.ts'
import { type ServerProcess, serverProcess } from '../support/server-process.ts'
import { endOfStay, type ModelEvent, mayOpen, shownTo, stateFor, visibleAt } from './visibility-oracle.ts'

const steps = 80
const encode = encodeURIComponent
const v3 = '/_matrix/client/v3'
const v1 = '/_matrix/client/v1'

interface Person {
  readonly user_id: string
  readonly access_token: string
  since: string | undefined
  forgotten: boolean
  /** Every token that a sync has given, for who goes back in time. */
  readonly tokens: string[]
}
interface Game {
  readonly random: Random
  readonly room: string
  /** Joined throughout. */
  readonly owner: Person
  readonly others: readonly Person[]
  /** Texts that were redacted: nobody may be shown them again. */
  readonly gone: Set<string>
  readonly texts: Map<string, string>
  count: number
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

describe('client-server-api/#room-history-visibility', () => {
  test.each([11, 12, 13, 16])('seed %i: every route shows what the rules allow, and nothing else', async (seed) => {
    const game = await newGame(seed)
    for (let step = 0; step < steps; step++) {
      await act(game)
      await keepToken(game)
      if (game.random.next() < 0.3) await checkSync(game, game.random.pick(game.others))
      if (step === steps / 2) await checkAll(game)
    }
    await checkAll(game)
  })
})

async function newGame(seed: number): Promise<Game> {
  const person = async (name: string) => ({
    ...(await server.register(`v${seed}${name}`)),
    since: undefined,
    forgotten: false,
    tokens: [],
  })
  const owner = await person('owner')
  const others = await Promise.all(['a', 'b', 'c', 'd'].map(person))
  const { room_id } = await http.json<{ room_id: string }>('POST', `${v3}/createRoom`, owner.access_token, {
    preset: 'public_chat',
    visibility: 'public',
    room_version: seed % 2 === 0 ? '12' : '10',
    power_level_content_override: { events: { 'm.room.topic': 0 } },
  })
  return {
    random: seeded(seed),
    room: room_id,
    owner,
    others,
    gone: new Set(),
    texts: new Map(),
    count: 0,
  }
}

async function ask(game: Game, by: Person, method: string, path: string, body?: object): Promise<Answer> {
  const answer = await http.request(method, path, by.access_token, body)
  if (answer.status >= 500) throw new Error(`${method} ${path}: ${answer.status} ${answer.body}`)
  if (method === 'GET') {
    for (const text of game.gone)
      expect(answer.body, `${path} shows ${by.user_id} what was redacted`).not.toContain(text)
  }
  return answer
}

async function act(game: Game): Promise<void> {
  const { random, owner, others } = game
  const room = `${v3}/rooms/${encode(game.room)}`
  const other = random.pick(others)
  const writer = random.pick([owner, other])
  const dice = random.next()
  if (dice < 0.14) {
    const { status } = await ask(game, other, 'POST', `${room}/join`, {})
    if (status === 200) other.forgotten = false
  } else if (dice < 0.24) await ask(game, other, 'POST', `${room}/leave`, {})
  else if (dice < 0.3) await ask(game, owner, 'POST', `${room}/invite`, { user_id: other.user_id })
  else if (dice < 0.33) await ask(game, owner, 'POST', `${room}/kick`, { user_id: other.user_id })
  else if (dice < 0.36) await ask(game, owner, 'POST', `${room}/ban`, { user_id: other.user_id })
  else if (dice < 0.39) await ask(game, owner, 'POST', `${room}/unban`, { user_id: other.user_id })
  else if (dice < 0.43) {
    const { status } = await ask(game, other, 'POST', `${room}/forget`, {})
    if (status === 200) other.forgotten = true
  } else if (dice < 0.54) {
    const history_visibility = random.pick(['joined', 'invited', 'shared', 'world_readable'])
    await ask(game, owner, 'PUT', `${room}/state/m.room.history_visibility/`, { history_visibility })
  } else if (dice < 0.6) {
    const text = `secret-topic-${game.count++}-${game.owner.user_id}`
    await remember(game, text, ask(game, writer, 'PUT', `${room}/state/m.room.topic/`, { topic: text }))
  } else if (dice < 0.68 && game.texts.size > 0) {
    const event_id = random.pick([...game.texts.keys()])
    const { status } = await ask(game, owner, 'PUT', `${room}/redact/${encode(event_id)}/r${game.count++}`, {})
    if (status === 200) {
      const text = game.texts.get(event_id)
      if (text) game.gone.add(text)
      game.texts.delete(event_id)
    }
  } else {
    const text = `secret-message-${game.count++}-${game.owner.user_id}`
    const relation = random.next() < 0.5 && game.texts.size > 0 ? relationTo(game, text) : {}
    const content = { msgtype: 'm.text', body: text, ...relation }
    await remember(game, text, ask(game, writer, 'PUT', `${room}/send/m.room.message/m${game.count++}`, content))
  }
}

function relationTo({ random, texts }: Game, text: string): object {
  const event_id = random.pick([...texts.keys()])
  const rel_type = random.pick(['m.thread', 'm.reference', 'm.replace'])
  const edit = rel_type === 'm.replace' ? { 'm.new_content': { msgtype: 'm.text', body: text } } : {}
  return { 'm.relates_to': { rel_type, event_id }, ...edit }
}

async function remember(game: Game, text: string, answer: Promise<Answer>): Promise<void> {
  const { status, body } = await answer
  if (status === 200) game.texts.set((JSON.parse(body) as { event_id: string }).event_id, text)
}

/** The whole history, oldest first, as who was always there reads it. */
async function historyOf(game: Game): Promise<ModelEvent[]> {
  const path = `${v3}/rooms/${encode(game.room)}/messages?dir=f&limit=500`
  const { body } = await ask(game, game.owner, 'GET', path)
  return (JSON.parse(body) as { chunk: ModelEvent[] }).chunk
}

const ids = (events: readonly { event_id: string }[]) => events.map((event) => event.event_id)

async function checkAll(game: Game): Promise<void> {
  const history = await historyOf(game)
  for (const person of game.others) await checkReads(game, person, history)
  for (const person of game.others) {
    await checkSync(game, person, true)
    for (let i = 0; i < 4; i++) await checkSync(game, { ...person, since: game.random.pick(game.owner.tokens) })
  }
  await ask(game, game.owner, 'GET', `${v3}/publicRooms`)
}

async function checkReads(game: Game, person: Person, history: readonly ModelEvent[]): Promise<void> {
  const room = `${v3}/rooms/${encode(game.room)}`
  const who = `${person.user_id} (${person.forgotten ? 'forgot, ' : ''}${describeStay(history, person.user_id)})`
  const get = (path: string) => ask(game, person, 'GET', path)
  const open = mayOpen(history, person.user_id, person.forgotten)
  const shown = open ? shownTo(history, person.user_id, person.forgotten) : []
  const shownIds = new Set(ids(shown))

  for (const dir of ['f', 'b']) {
    const read: ModelEvent[] = []
    let from = ''
    for (;;) {
      const { status, body } = await get(`${room}/messages?dir=${dir}&limit=7${from && `&from=${from}`}`)
      expect(status, `${who}: /messages`).toBe(open ? 200 : 403)
      if (status !== 200) break
      const page = JSON.parse(body) as { chunk: ModelEvent[]; end?: string }
      read.push(...page.chunk)
      if (page.end === undefined) break
      from = page.end
    }
    expect(ids(dir === 'f' ? read : read.reverse()), `${who}: /messages ${dir}`).toEqual(ids(shown))
    for (const event of read) checkBundle(event, shownIds, who)
  }
  for (const { event_id } of history) {
    const visible = shownIds.has(event_id)
    for (const path of [`${room}/event`, `${v3}/events`]) {
      expect((await get(`${path}/${encode(event_id)}`)).status, `${who}: ${path} of ${event_id}`).toBe(
        visible ? 200 : 404,
      )
    }
    if (game.random.next() > 0.15) continue
    const context = await get(`${room}/context/${encode(event_id)}?limit=6`)
    expect(context.status, `${who}: /context`).toBe(visible ? 200 : open ? 404 : 403)
    const relations = await get(`${v1}/rooms/${encode(game.room)}/relations/${encode(event_id)}`)
    expect(relations.status, `${who}: /relations`).toBe(visible ? 200 : open ? 404 : 403)
    if (!visible) continue
    const { events_before, event, events_after } = JSON.parse(context.body) as Record<string, ModelEvent[]>
    const { chunk } = JSON.parse(relations.body) as { chunk: ModelEvent[] }
    for (const near of [...(events_before ?? []), event, ...(events_after ?? []), ...chunk].flat()) {
      if (!near) continue
      expect(shownIds.has(near.event_id), `${who}: context or relations of ${event_id} show ${near.event_id}`).toBe(
        true,
      )
      checkBundle(near, shownIds, who)
    }
  }
  const threads = await get(`${v1}/rooms/${encode(game.room)}/threads`)
  if (threads.status === 200) {
    for (const root of (JSON.parse(threads.body) as { chunk: ModelEvent[] }).chunk) {
      expect(shownIds.has(root.event_id), `${who}: /threads shows ${root.event_id}`).toBe(true)
      checkBundle(root, shownIds, who)
    }
  } else expect(open).toBe(false)

  const state = stateFor(history, person.user_id, person.forgotten)
  const answered = await get(`${room}/state`)
  expect(answered.status, `${who}: /state`).toBe(open ? 200 : 403)
  if (open) expect(ids(JSON.parse(answered.body)).sort(), `${who}: /state`).toEqual(ids(state).sort())
  const members = await get(`${room}/members`)
  expect(members.status, `${who}: /members`).toBe(open ? 200 : 403)
  if (open) {
    const expected = ids(state.filter((event) => event.type === 'm.room.member')).sort()
    expect(ids((JSON.parse(members.body) as { chunk: ModelEvent[] }).chunk).sort(), `${who}: /members`).toEqual(
      expected,
    )
  }
  const topic = await get(`${room}/state/m.room.topic`)
  const held = state.find((event) => event.type === 'm.room.topic')
  expect(topic.status, `${who}: the topic`).toBe(open ? (held ? 200 : 404) : 403)
  if (open && held) expect(JSON.parse(topic.body), `${who}: the topic`).toEqual(held.content)
  const joined = history.findLast((event) => event.type === 'm.room.member' && event.state_key === person.user_id)
  expect((await get(`${room}/joined_members`)).status, `${who}: /joined_members`).toBe(
    joined?.content.membership === 'join' ? 200 : 403,
  )
}

/** What hangs on an event is for those to see who see it alone. */
function checkBundle(event: ModelEvent, shown: ReadonlySet<string>, who: string): void {
  const relations = event.unsigned?.['m.relations']
  if (!relations) return
  const bundled = [
    ...ids(relations['m.reference']?.chunk ?? []),
    relations['m.replace']?.event_id,
    relations['m.thread']?.latest_event.event_id,
  ]
  for (const id of bundled) {
    if (id) expect(shown.has(id), `${who}: the bundle of ${event.event_id} shows ${id}`).toBe(true)
  }
}

interface SyncRoom {
  readonly timeline?: { readonly events: ModelEvent[] }
  readonly state?: { readonly events: ModelEvent[] }
  readonly state_after?: { readonly events: ModelEvent[] }
  readonly ephemeral?: { readonly events: object[] }
}

async function keepToken({ owner }: Game): Promise<void> {
  const { next_batch } = await http.json<{ next_batch: string }>(
    'GET',
    `${v3}/sync?filter=${nothing}`,
    owner.access_token,
  )
  owner.tokens.push(next_batch)
}
const nothing = encode('{"room":{"rooms":[]}}')

/** One sync; `initial` asks from the beginning, for rooms left as well. */
async function checkSync(game: Game, person: Person, initial = false): Promise<void> {
  const { random } = game
  const timeline = { limit: initial ? 200 : random.pick([1, 5, 50]) }
  const state = { lazy_load_members: random.next() < 0.5 }
  const after = random.next() < 0.3 ? '&use_state_after=true' : ''
  const filter = encode(JSON.stringify({ room: { include_leave: true, timeline, state } }))
  const from = !initial && person.since ? `&since=${person.since}` : ''
  const { body } = await ask(game, person, 'GET', `${v3}/sync?timeout=0&filter=${filter}${from}${after}`)
  const answer = JSON.parse(body) as { next_batch: string; rooms?: Record<string, Record<string, SyncRoom>> }
  if (!initial) person.since = answer.next_batch
  const history = await historyOf(game)
  const who = `${person.user_id} (${describeStay(history, person.user_id)}), ${initial ? 'initial' : 'incremental'} sync`
  for (const section of ['join', 'leave']) {
    const room = answer.rooms?.[section]?.[game.room]
    if (!room) continue
    const shown = new Set<string>()
    const own = (event: ModelEvent) => event.type === 'm.room.member' && event.state_key === person.user_id
    history.forEach((event, at) => {
      if (own(event) || visibleAt(history, at, person.user_id)) shown.add(event.event_id)
    })
    for (const event of room.timeline?.events ?? []) {
      expect(shown.has(event.event_id), `${who}: ${section} shows ${event.type} ${event.event_id}`).toBe(true)
      checkBundle(event, shown, who)
    }
    if (section === 'join') continue
    expect(room.ephemeral?.events ?? [], `${who}: who left is told of nobody's reading or typing`).toEqual([])
    const end = endOfStay(history, person.user_id)
    const before = new Set(ids(history.slice(0, end === undefined ? 0 : end + 1)))
    for (const event of [...(room.state?.events ?? []), ...(room.state_after?.events ?? [])]) {
      expect(own(event) || before.has(event.event_id), `${who}: state after the stay: ${event.type}`).toBe(true)
    }
  }
}

function describeStay(history: readonly ModelEvent[], user: string): string {
  const own = history.flatMap((event, at) => {
    if (event.type === 'm.room.history_visibility') return [`${at}:${event.content.history_visibility}`]
    return event.type === 'm.room.member' && event.state_key === user ? [`${at}:${event.content.membership}`] : []
  })
  return own.join(' ')
}
