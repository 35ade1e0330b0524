/** A client that applies what it is sent, with a window that moves, configs that change, lost answers, and requests that reach
 *  one handler and then another, ends where the server is. */
import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { RoomId, UserId } from '../../../shared/matrix/ids.ts'
import { memoryRedis } from '../../../shared/redis/connection.ts'
import { keyspace } from '../../../shared/redis/keys.ts'
import { type TestDatabase, testDatabase } from '../../../test/support/database.ts'
import { type SyncAnswer, type SyncFixture, syncFixture } from '../../../test/support/sync-fixture.ts'
import type { SyncRole } from '../role.ts'

let database: TestDatabase
let server: SyncFixture
let other: SyncRole
let runs = 0

beforeAll(async () => {
  database = await testDatabase()
})
afterAll(() => database.drop())

interface Event {
  readonly event_id: string
  readonly type: string
  readonly sender: string
  readonly state_key?: string
}
interface ClientRoom {
  membership: string
  name: string | null
  dm: boolean
  count: number
  joined: number
  receipts: Map<string, string>
  tags: string
  state: Map<string, string>
  members: Map<string, string>
  /** Event ids since the last gap. */
  timeline: string[]
}

/** What asks for everything in the end, so that all of it can be compared. */
const wide = { limit: 4, range: 9, lazy: false }
interface Ask {
  readonly limit: number
  /** Last index of the window. */
  readonly range: number
  readonly lazy: boolean
}

class Client {
  readonly user: UserId
  readonly rooms = new Map<string, ClientRoom>()
  count = 0
  pos: string | undefined

  constructor(user: UserId) {
    this.user = user
  }

  async sync(
    { limit, range, lazy }: Ask,
    how: { readonly lost?: boolean; readonly at?: SyncRole } = {},
  ): Promise<void> {
    const required_state = lazy
      ? [
          ['m.room.member', '$LAZY'],
          ['*', '*'],
        ]
      : [['*', '*']]
    const body = {
      lists: { all: { timeline_limit: limit, required_state, ranges: [[0, range]] } },
      extensions: { account_data: { enabled: true }, receipts: { enabled: true } },
      pos: this.pos,
    }
    const answer = await server.sliding(this.user, body, how.at ? { at: how.at } : {})
    if (!how.lost) this.apply(answer, lazy)
  }

  private apply(answer: SyncAnswer, lazy: boolean): void {
    const first = this.pos === undefined
    this.pos = answer.pos
    this.count = answer.lists.all.count
    for (const [id, part] of Object.entries<SyncAnswer>(answer.rooms)) {
      if (first) expect(part.initial).toBe(true)
      const room = part.initial ? empty() : this.rooms.get(id)
      if (!room) throw new Error(`${id} is told in part, and was not told before`)
      if (part.initial) {
        const known = this.rooms.get(id)
        if (known) Object.assign(room, { receipts: known.receipts, tags: known.tags })
      }
      this.rooms.set(id, room)
      this.applyRoom(room, part, lazy)
    }
    for (const [id, rows] of Object.entries<{ type: string; content: object }[]>(
      answer.extensions.account_data?.rooms ?? {},
    )) {
      for (const row of rows) if (row.type === 'm.tag') this.room(id).tags = JSON.stringify(row.content)
    }
    for (const [id, event] of Object.entries<SyncAnswer>(answer.extensions.receipts?.rooms ?? {})) {
      for (const [event_id, types] of Object.entries<SyncAnswer>(event.content)) {
        for (const user of Object.keys(types['m.read'] ?? {})) this.room(id).receipts.set(user, event_id)
      }
    }
  }

  private applyRoom(room: ClientRoom, part: SyncAnswer, lazy: boolean): void {
    if (part.membership !== undefined) room.membership = part.membership
    if (part.name !== undefined) room.name = part.name
    if (part.is_dm !== undefined) room.dm = part.is_dm
    if (part.notification_count !== undefined) room.count = part.notification_count
    if (part.joined_count !== undefined) room.joined = part.joined_count
    const events: Event[] = part.timeline ?? []
    if (part.limited || part.expanded_timeline) room.timeline = []
    if (part.limited && lazy) room.members.clear()
    for (const event of events) {
      expect(room.timeline, 'nothing is shown twice').not.toContain(event.event_id)
      room.timeline.push(event.event_id)
    }
    for (const event of (part.required_state ?? []) as Event[]) {
      const where = event.type === 'm.room.member' ? room.members : room.state
      where.set(`${event.type}\0${event.state_key}`, event.event_id)
    }
    // Who is not there is shown the end of their membership, and nobody else's.
    if (!lazy || room.membership !== 'join') return
    for (const { sender } of events) {
      expect([...room.members.keys()], 'who wrote is known').toContain(`m.room.member\0${sender}`)
    }
  }

  private room(id: string): ClientRoom {
    const room = this.rooms.get(id)
    if (!room) throw new Error(`an extension tells of ${id}, which was not told`)
    return room
  }
}

function empty(): ClientRoom {
  return {
    membership: '',
    name: null,
    dm: false,
    count: 0,
    joined: 0,
    receipts: new Map(),
    tags: '',
    state: new Map(),
    members: new Map(),
    timeline: [],
  }
}

const whats = [
  'message',
  'message',
  'message',
  'burst',
  'name',
  'topic',
  'join',
  'leave',
  'invite',
  'kick',
  'ban',
] as const
const quiet = ['read', 'direct', 'tag'] as const
const step = fc.record({
  what: fc.constantFrom(...whats, ...quiet, 'restart' as const),
  room: fc.nat({ max: 3 }),
  user: fc.nat({ max: 2 }),
  sync: fc.option(
    fc.record({
      client: fc.nat({ max: 2 }),
      lost: fc.boolean(),
      other: fc.boolean(),
      limit: fc.integer({ min: 0, max: 6 }),
      range: fc.nat({ max: 4 }),
    }),
  ),
})

test.each([
  { memory: 'ample', limits: {} },
  { memory: 'forgetful', limits: { sync_cache: 4_000 } },
])('a model built from sliding syncs equals the server ($memory memory)', { timeout: 120_000 }, async ({ limits }) => {
  server = await syncFixture(database, limits, { redis: memoryRedis(), keys: keyspace('model') })
  other = server.start()
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 20, maxLength: 50 }), async (steps) => {
      const run = ++runs
      const users = ['alice', 'bob', 'carol'].map((name) => `@${name}-s${run}:test` as UserId)
      const [alice] = users as [UserId]
      const rooms: RoomId[] = []
      for (let i = 0; i < 4; i++) {
        const id = await server.room(`!s${run}-${i}`)
        rooms.push(id)
        await server.send({ room: id, type: 'm.room.create', state_key: '', sender: alice, content: {} })
        await server.member(id, alice, 'join')
      }
      const clients = users.map((user) => new Client(user))
      // The second one loads members lazily all the time: what it is to know depends on it.
      const lazy = (client: number) => client === 1
      const direct = new Map<UserId, RoomId[]>()
      const tags = new Map<string, string>()
      const read = new Map<string, string>()
      const last = new Map<RoomId, Awaited<ReturnType<SyncFixture['message']>>>()
      const membership = (room: RoomId, user: UserId) => server.stateOf(room).get(`m.room.member\0${user}`)?.membership

      for (const { what, room: r, user: u, sync } of steps) {
        const room = rooms[r] as RoomId
        const user = users[u] as UserId
        const now = membership(room, user)
        const joined = now === 'join'
        if (what === 'message' && joined) last.set(room, await server.message(room, user, 'm'))
        else if (what === 'burst' && joined) {
          for (let i = 0; i < 5; i++) last.set(room, await server.message(room, user, 'b'))
        } else if ((what === 'name' || what === 'topic') && joined) {
          const content = { [what]: `${what} ${server.replication.positions().events}` }
          await server.send({ room, type: `m.room.${what}`, state_key: '', sender: user, content })
        } else if (what === 'join' && !joined) await server.member(room, user, 'join')
        else if (what === 'leave' && user !== alice && (joined || now === 'invite'))
          await server.member(room, user, 'leave')
        else if (what === 'invite' && !joined) await server.member(room, user, 'invite', alice)
        else if (what === 'kick' && joined && user !== alice) await server.member(room, user, 'leave', alice)
        else if (what === 'ban' && user !== alice) await server.member(room, user, 'ban', alice)
        else if (what === 'read' && joined) {
          const event_id = last.get(room)
          if (event_id) {
            await server.receipt({ room, user, event_id })
            read.set(`${room} ${user}`, event_id)
          }
        } else if (what === 'direct') {
          const list = direct.get(user)?.includes(room) ? [] : [room]
          direct.set(user, list)
          await server.accountData(user, 'm.direct', { '@x:test': list })
        } else if (what === 'tag' && joined) {
          const content = { tags: { [`u.${server.replication.positions().account_data}`]: {} } }
          tags.set(`${room} ${user}`, JSON.stringify(content))
          await server.accountData(user, 'm.tag', content, room)
        } else if (what === 'restart') server.restart()
        if (!sync) continue
        const ask = { limit: sync.limit, range: sync.range, lazy: lazy(sync.client) }
        await clients[sync.client]?.sync(ask, { lost: sync.lost, ...(sync.other ? { at: other } : {}) })
      }

      for (const [i, client] of clients.entries()) {
        const ask = { ...wide, lazy: lazy(i) }
        await client.sync(ask)
        await client.sync(ask, { at: other })
        for (const room of rooms) {
          const real = membership(room, client.user)
          const known = client.rooms.get(room)
          if (real === 'join' || real === 'invite') expect(known?.membership).toBe(real)
          if (real !== 'join' || !known) continue
          const state = [...server.stateOf(room)].map(([key, value]) => [key, value.event_id] as const)
          const isMember = ([key]: readonly [string, string]) => key.startsWith('m.room.member\0')
          expect(Object.fromEntries(known.state)).toEqual(Object.fromEntries(state.filter((one) => !isMember(one))))
          const members = new Map(state.filter(isMember))
          if (lazy(i)) for (const [key, event_id] of known.members) expect(event_id).toBe(members.get(key))
          else expect(Object.fromEntries(known.members)).toEqual(Object.fromEntries(members))
          expect(known.joined).toBe(
            [...members.keys()].filter((key) => server.stateOf(room).get(key)?.membership === 'join').length,
          )
          const named = server.stateOf(room).get('m.room.name\0')
          expect(known.name).toBe(named ? (JSON.parse(named.content) as { name: string }).name : null)
          expect(known.dm).toBe(direct.get(client.user)?.includes(room) ?? false)
          expect(known.tags).toBe(tags.get(`${room} ${client.user}`) ?? '')
          for (const [user, event_id] of known.receipts) expect(event_id).toBe(read.get(`${room} ${user}`))
          expect(known.receipts.get(client.user)).toBe(read.get(`${room} ${client.user}`))
          const rows = await database.sql<{ event_id: string }[]>`
            select event_id from events e join rooms r using (room_nid) where r.room_id = ${room} order by position`
          const all = rows.map((row) => row.event_id)
          expect(known.timeline).toEqual(all.slice(all.length - known.timeline.length))
          const { rooms: v3 } = await server.sync(client.user, { full_state: true })
          expect(known.count).toBe(v3.join[room].unread_notifications.notification_count)
        }
      }
      expect(server.errors).toEqual([])
    }),
    { numRuns: 6, endOnFailure: true },
  )
  other.close()
  server.close()
})
