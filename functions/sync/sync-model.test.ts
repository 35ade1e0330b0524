/** A client that applies what it is sent, with stalls, lost answers and servers that restart, ends where the server is. */
import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { RoomId, UserId } from '../../shared/matrix/ids.ts'
import { type TestDatabase, testDatabase } from '../../test/support/database.ts'
import { type SyncAnswer, type SyncFixture, syncFixture } from '../../test/support/sync-fixture.ts'

let database: TestDatabase
let server: SyncFixture
let runs = 0

beforeAll(async () => {
  database = await testDatabase()
})
afterAll(() => database.drop())

interface ClientEvent {
  event_id: string
  type: string
  state_key?: string
}
interface ClientRoom {
  membership: 'join' | 'invite' | 'leave'
  state: Map<string, string>
  /** Event ids since the last gap. */
  timeline: string[]
  unread: number
}

/** What a client knows, as the specification says to build it. */
class Client {
  readonly user: UserId
  readonly filter: string
  readonly stateAfter: boolean
  readonly rooms = new Map<string, ClientRoom>()
  since: string | undefined

  constructor(user: UserId, filter: string, stateAfter: boolean) {
    this.user = user
    this.filter = filter
    this.stateAfter = stateAfter
  }

  async sync(lost: boolean): Promise<void> {
    const query = { filter: this.filter, since: this.since, use_state_after: this.stateAfter }
    const answer = await server.sync(this.user, query, this.filter)
    if (!lost) this.apply(answer)
  }

  private apply(answer: SyncAnswer): void {
    this.since = answer.next_batch
    for (const membership of ['join', 'leave'] as const) {
      for (const [id, part] of Object.entries<SyncAnswer>(answer.rooms?.[membership] ?? {})) {
        const room = this.room(id)
        room.membership = membership
        const events: ClientEvent[] = part.timeline.events
        if (part.timeline.limited) room.timeline = []
        for (const event of events) {
          expect(room.timeline, 'nothing is shown twice').not.toContain(event.event_id)
          room.timeline.push(event.event_id)
        }
        const key = this.stateAfter ? 'state_after' : 'state'
        const changed: ClientEvent[] = this.stateAfter ? part[key].events : [...part[key].events, ...events]
        for (const event of changed) {
          if (event.state_key !== undefined) room.state.set(`${event.type}\0${event.state_key}`, event.event_id)
        }
        if (part.unread_notifications) room.unread = part.unread_notifications.notification_count
      }
    }
    for (const id of Object.keys(answer.rooms?.invite ?? {})) this.room(id).membership = 'invite'
  }

  private room(id: string): ClientRoom {
    const known = this.rooms.get(id)
    if (known) return known
    const made: ClientRoom = { membership: 'leave', state: new Map(), timeline: [], unread: 0 }
    this.rooms.set(id, made)
    return made
  }
}

const step = fc.record({
  what: fc.constantFrom(
    ...([
      'message',
      'message',
      'message',
      'burst',
      'name',
      'join',
      'leave',
      'invite',
      'ban',
      'read',
      'restart',
    ] as const),
  ),
  room: fc.nat({ max: 2 }),
  user: fc.nat({ max: 2 }),
  sync: fc.option(fc.record({ client: fc.nat({ max: 3 }), lost: fc.boolean(), meanwhile: fc.boolean() })),
})

test.each([
  { memory: 'ample', limits: {} },
  { memory: 'forgetful', limits: { sync_cache: 4_000 } },
])(
  'a model built from incremental syncs equals the server ($memory memory)',
  { timeout: 240_000 },
  async ({ limits }) => {
    server = await syncFixture(database, limits)
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 20, maxLength: 60 }), async (steps) => {
        const run = ++runs
        const users = ['alice', 'bob', 'carol'].map((name) => `@${name}-${run}:test` as UserId)
        const [alice] = users as [UserId]
        const rooms: RoomId[] = []
        for (let i = 0; i < 3; i++) {
          const id = await server.room(`!m${run}-${i}`)
          rooms.push(id)
          await server.send({ room: id, type: 'm.room.create', state_key: '', sender: alice, content: {} })
          await server.member(id, alice, 'join')
        }
        const clients = [
          new Client(alice, '{"room":{"timeline":{"limit":5}}}', false),
          new Client(users[1] as UserId, '', false),
          new Client(users[2] as UserId, '{"room":{"timeline":{"limit":2}}}', true),
          new Client(users[1] as UserId, '{"room":{"timeline":{"limit":3,"types":["m.room.message"]}}}', false),
        ]
        const membership = (room: RoomId, user: UserId) =>
          server.stateOf(room).get(`m.room.member\0${user}`)?.membership
        const last = new Map<RoomId, Awaited<ReturnType<SyncFixture['message']>>>()

        for (const { what, room: r, user: u, sync } of steps) {
          const room = rooms[r] as RoomId
          const user = users[u] as UserId
          const joined = membership(room, user) === 'join'
          const underway = sync?.meanwhile ? clients[sync.client]?.sync(sync.lost) : undefined
          if (what === 'message' && joined) last.set(room, await server.message(room, user, 'm'))
          else if (what === 'burst' && joined)
            for (let i = 0; i < 7; i++) last.set(room, await server.message(room, user, 'b'))
          else if (what === 'name' && joined) {
            await server.send({ room, type: 'm.room.name', state_key: '', sender: user, content: { name: `n${runs}` } })
          } else if (what === 'join' && !joined) await server.member(room, user, 'join')
          else if (what === 'leave' && joined && user !== alice) await server.member(room, user, 'leave')
          else if (what === 'invite' && !joined) await server.member(room, user, 'invite', alice)
          else if (what === 'ban' && user !== alice) await server.member(room, user, 'ban', alice)
          else if (what === 'read' && joined) {
            const event_id = last.get(room)
            if (event_id) await server.receipt({ room, user, event_id })
          } else if (what === 'restart' && !underway) server.restart()
          await underway
          if (sync && !sync.meanwhile) await clients[sync.client]?.sync(sync.lost)
        }

        for (const client of clients) {
          await client.sync(false)
          await client.sync(false)
          for (const room of rooms) {
            const real = membership(room, client.user)
            const known = client.rooms.get(room)
            if (real === 'join' || real === 'invite') expect(known?.membership).toBe(real)
            else expect(known?.membership ?? 'leave').toBe('leave')
            if (real !== 'join' || !known) continue
            const state = [...server.stateOf(room)].map(([key, value]) => [key, value.event_id])
            expect(Object.fromEntries(known.state)).toEqual(Object.fromEntries(state))
            if (client.filter.includes('types')) continue
            const rows = await database.sql<{ event_id: string }[]>`
            select event_id from events e join rooms r using (room_nid) where r.room_id = ${room} order by position`
            const all = rows.map((row) => row.event_id)
            expect(known.timeline).toEqual(all.slice(all.length - known.timeline.length))
          }
        }
        // Counts that were moved on in memory are those that the database tells.
        const full = { full_state: true }
        const before = await Promise.all(users.map((user) => server.sync(user, full)))
        server.restart()
        const after = await Promise.all(users.map((user) => server.sync(user, full)))
        const counts = (answer: SyncAnswer) =>
          Object.entries<SyncAnswer>(answer.rooms?.join ?? {})
            .map(([id, part]) => [id, part.unread_notifications, part.summary])
            .sort()
        expect(before.map(counts)).toEqual(after.map(counts))
        expect(server.errors).toEqual([])
      }),
      { numRuns: 25 },
    )
    server.close()
  },
)
