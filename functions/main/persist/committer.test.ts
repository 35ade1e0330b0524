import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import { fakeClock, systemClock } from '../../../shared/clock.ts'
import type { EventId, RoomId, UserId } from '../../../shared/matrix/ids.ts'
import { createInProcessReplication } from '../../../shared/replication/in-process.ts'
import { connectForWriting } from '../../../shared/storage/sql.ts'
import type { EventRow } from '../../../shared/streams/events.ts'
import { type TestDatabase, testDatabase } from '../../../test/support/database.ts'
import { createCommitter, isRepeatedKey, storedPositions } from './committer.ts'
import { createNids } from './nids.ts'
import type { Committer, EventWrite, Writes } from './writes.ts'

let database: TestDatabase
beforeAll(async () => {
  database = await testDatabase()
})
afterAll(() => database.drop())
const started: Committer[] = []
afterEach(() => Promise.all(started.splice(0).map((committer) => committer.close())))

const alice = '@alice:example.org' as UserId
let made = 0
function message(room_nid: number, over: Partial<EventWrite['row']> = {}, rest: Partial<EventWrite> = {}): EventWrite {
  made++
  return {
    row: {
      event_nid: 1_000_000 + made,
      event_id: `$event${made}` as EventId,
      room_nid,
      room_id: `!room${room_nid}:example.org` as RoomId,
      type: 'm.room.message',
      sender: alice,
      origin_server_ts: 1_700_000_000_000 + made,
      content: `{"body":"he said \\"hi\\" \\\\ ${made}","msgtype":"m.text"}`,
      push: 0,
      ...over,
    },
    envelope: `{"type":"m.room.message","depth":${made},"hashes":{"sha256":"x"}}`,
    depth: made,
    state_root: 1,
    flags: 0,
    visible: true,
    current_state: false,
    ...rest,
  }
}

async function start(over: { writer?: string } = {}) {
  const replication = createInProcessReplication(await storedPositions(database.sql), systemClock)
  const seen: EventRow[] = []
  replication.subscribe('events', (update) => {
    expect(update.rows.map((row) => row.position)).toEqual(
      update.rows.map((_, i) => update.prev + 1 + i) as EventRow['position'][],
    )
    seen.push(...update.rows)
  })
  const fatal: Error[] = []
  const committer = createCommitter({
    sql: database.sql,
    publisher: replication,
    clock: systemClock,
    onFatal: (error) => fatal.push(error),
    ...over,
  })
  started.push(committer)
  return { replication, committer, seen, fatal }
}

function room(room_nid: number): Writes {
  return {
    rooms: [
      {
        room_nid,
        room_id: `!room${room_nid}:example.org`,
        room_version: '12',
        creator: alice,
        created_ts: 1,
        published: false,
      },
    ],
  }
}

describe('a commit', () => {
  test('stores every kind of row and publishes it', async () => {
    const { committer, seen, replication } = await start()
    const member = (user: string, membership: string, prev?: string): Partial<EventRow> => ({
      type: 'm.room.member',
      state_key: user,
      member: {
        user_id: user as UserId,
        membership,
        local: true,
        joined_members: 1,
        invited_members: 0,
        ...(prev ? { prev_membership: prev } : {}),
      },
    })
    const root = message(10)
    const reply = message(10, { thread_root: root.row.event_id, rel_type: 'm.thread', relates_to: root.row.event_id })
    const name = message(10, { type: 'm.room.name', state_key: '\0' }, { current_state: true })
    await committer.commit({
      ...room(10),
      events: [
        message(10, member(alice, 'join'), { current_state: true, member_profile: { display_name: 'A\0"\\ü' } }),
        name,
        root,
        reply,
        message(10, {}, { visible: false, flags: 2 }),
        message(10, { deviations: [{ user_id: alice, class_id: 0, push: 3 }], device_id: 'D"', txn_id: 'a\\b' }),
      ],
      heads: [{ room_nid: 10, forward_extremities: [5, 6], state_root: 1, depth: 6 }],
      summaries: [{ room_nid: 10, joined_members: 1, invited_members: 0, name: 'Name' }],
      state: {
        nodes: [{ node_id: Buffer.from('00ff', 'hex'), body: Buffer.from('01', 'hex') }],
        roots: [{ root_id: 1, room_nid: 10, node_id: Buffer.from('00ff', 'hex'), delta: Buffer.alloc(0) }],
      },
      auth_chains: { chains: [{ event_nid: 1, chain_id: 1, sequence: 1 }], links: [] },
      receipts: [1, 2].map((n) => ({
        room_nid: 10,
        room_id: '!room10:example.org' as RoomId,
        user_id: alice,
        receipt_type: 'm.read',
        thread_id: '',
        event_id: `$event${n}` as EventId,
        event_position: n,
        ts: 7,
      })),
      account_data: [{ user_id: alice, room_nid: 0, type: 'm.x', content: '{"a":"\\u0000"}' }],
      invalidations: [{ cache: 'profile', key: alice }],
      idempotency: { scope: 'alice dev', key: 'txn', response: '{"event_id":"$1"}' },
      also: (tx) => [tx`insert into profiles (user_id, display_name) values (${alice}, 'Alice')`],
    })
    expect(seen.map((row) => row.type)).toEqual([
      'm.room.member',
      'm.room.name',
      'm.room.message',
      'm.room.message',
      'm.room.message',
    ])
    expect(replication.positions()).toMatchObject({ events: 5, receipts: 2, account_data: 1, invalidations: 1 })
    const { sql } = database
    expect(await sql`select position, device_id, txn_id from events where room_nid = 10 order by position`).toEqual(
      [1, 2, 3, 4, 5, null].map((position, i) => ({
        position,
        device_id: i === 4 ? 'D"' : null,
        txn_id: i === 4 ? 'a\\b' : null,
      })),
    )
    expect(await sql`select content, envelope, type from events where event_nid = ${root.row.event_nid}`).toEqual([
      { content: root.row.content, envelope: root.envelope, type: 'm.room.message' },
    ])
    expect(await sql`select membership, position, display_name, local, forgotten from memberships`).toEqual([
      { membership: 'join', position: 1, display_name: 'A\uE0000"\\ü', local: true, forgotten: false },
    ])
    expect(await sql`select position, prev_membership from membership_changes`).toEqual([
      { position: 1, prev_membership: null },
    ])
    expect((await sql`select 1 from current_state where room_nid = 10`).length).toBe(2)
    expect(await sql`select forward_extremities::text as f, state_root, depth from room_heads`).toEqual([
      { f: '{5,6}', state_root: 1, depth: 6 },
    ])
    expect(await sql`select latest_nid, latest_position, replies from threads`).toEqual([
      { latest_nid: reply.row.event_nid, latest_position: 4, replies: 1 },
    ])
    expect(await sql`select room_nid, position, push from push_deviations`).toEqual([
      { room_nid: 10, position: 5, push: 3 },
    ])
    expect(await sql`select event_id, position from receipts`).toEqual([{ event_id: '$event2', position: 2 }])
    expect(await sql`select content, position from account_data`).toEqual([{ content: '{"a":"\\u0000"}', position: 1 }])
    expect(await sql`select response from idempotency`).toEqual([{ response: '{"event_id":"$1"}' }])
    expect((await sql`select 1 from profiles`).length).toBe(1)

    // A redaction takes content, relation and thread.
    await committer.commit({
      events: [message(10, { type: 'm.room.redaction', redacts: reply.row.event_id })],
      redactions: [{ event_nid: reply.row.event_nid, content: '{}', envelope: '{"r":1}', redacted_by_nid: 99 }],
      invalidations: [{ cache: 'event', key: reply.row.event_id }],
    })
    expect(
      await sql`select content, redacted_by_nid, thread_root from events where event_nid = ${reply.row.event_nid}`,
    ).toEqual([{ content: '{}', redacted_by_nid: 99, thread_root: null }])
    expect((await sql`select 1 from threads`).length).toBe(0)
  })

  test('a poison write fails alone, and takes down only what was made on top of it', async () => {
    const { committer, seen, fatal } = await start()
    const twice = message(11)
    const head = (room_nid: number) => [{ room_nid, forward_extremities: [1], state_root: 1, depth: 1 }]
    await committer.commit(room(11))
    await committer.commit(room(12))
    const results = await Promise.allSettled([
      committer.commit({ events: [message(11)] }),
      committer.commit({ events: [twice, twice], heads: head(11) }),
      committer.commit({ events: [message(11)], heads: head(11) }),
      committer.commit({ events: [message(12)], heads: head(12) }),
      committer.commit({ also: (tx) => [tx`insert into profiles (user_id) values (${'@alice:example.org'})`] }),
      committer.commit({ events: [message(12)], also: (tx) => [tx`select 1`] }),
    ])
    expect(results.map((result) => result.status)).toEqual([
      'fulfilled',
      'rejected',
      'rejected',
      'fulfilled',
      'rejected',
      'fulfilled',
    ])
    expect(seen.length).toBe(3)
    expect((await database.sql`select 1 from events where room_nid in (11, 12)`).length).toBe(3)
    const key = { idempotency: { scope: 's', key: 'k', response: '{}' } }
    await committer.commit(key)
    expect(await committer.commit(key).then(() => 'stored', isRepeatedKey)).toBe(true)
    expect(fatal).toEqual([])
  })

  test('survives its connection being killed: every acknowledged write is there once, positions are contiguous', async () => {
    const { committer, seen, fatal } = await start()
    const nids = createNids(database.sql)
    await committer.commit(room(13))
    let running = true
    const acknowledged: string[] = []
    const lost: unknown[] = []
    async function writer(slow: boolean): Promise<void> {
      while (running) {
        const event = message(13, { event_nid: await nids.next() })
        await committer
          .commit({
            events: [event],
            idempotency: { scope: 'kill', key: event.row.event_id, response: '{}' },
            ...(slow ? { also: (tx) => [tx`select pg_sleep(0.002)`] } : {}),
          })
          .then(
            () => acknowledged.push(event.row.event_id),
            (error) => lost.push(error),
          )
      }
    }
    const writers = Array.from({ length: 8 }, (_, i) => writer(i === 0))
    for (let kills = 0; kills < 25; kills++) {
      // A batch that is killed again and again is given up on, as it should be: not what is tried here.
      const before = acknowledged.length
      await expect.poll(() => acknowledged.length, { interval: 1, timeout: 10_000 }).toBeGreaterThan(before)
      await new Promise((resolve) => setTimeout(resolve, (kills * 7) % 31))
      await database.read`
        select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid() and query like '%commit%'`
    }
    running = false
    await Promise.all(writers)
    expect(fatal).toEqual([])
    expect(lost).toEqual([])
    const stored = await database.sql<{ event_id: string; position: number }[]>`
      select event_id, position from events where room_nid = 13 order by position`
    expect(stored.map((row) => row.event_id).sort()).toEqual([...acknowledged].sort())
    expect(seen.map((row) => [row.event_id, row.position])).toEqual(stored.map((row) => [row.event_id, row.position]))
    expect(stored.map((row) => row.position)).toEqual(stored.map((_, i) => stored[0]!.position + i))
    expect(acknowledged.length).toBeGreaterThan(10)
  })

  test('with the database away it says so, and goes on when that is back', async () => {
    const clock = fakeClock()
    const replication = createInProcessReplication(await storedPositions(database.sql), clock)
    const committer = createCommitter({ sql: database.sql, publisher: replication, clock, writer: 'away' })
    started.push(committer)
    await committer.commit(room(15))
    const url = new URL(database.url)
    const name = url.pathname.slice(1)
    url.pathname = '/postgres'
    const other = connectForWriting({ url: url.href, connections: 1, applicationName: 'ganglion-test' })
    await other.unsafe(`alter database ${name} allow_connections false`)
    await other`select pg_terminate_backend(pid) from pg_stat_activity where datname = ${name}`
    const inFlight = committer.commit({ events: [message(15)] })
    await new Promise((resolve) => setTimeout(resolve, 150))
    const queued = committer.commit({ events: [message(15)] })
    queued.catch(() => undefined)
    clock.advance(6_000)
    await expect(committer.commit({ events: [message(15)] })).rejects.toMatchObject({ errcode: 'M_UNAVAILABLE' })
    await expect(queued).rejects.toMatchObject({ status: 503 })
    await other.unsafe(`alter database ${name} allow_connections true`)
    await other.end()
    await inFlight
    await committer.commit({ events: [message(15)] })
    expect((await database.sql`select 1 from events where room_nid = 15`).length).toBe(2)
  })

  test('a second process with the same name shuts the first one out', async () => {
    const first = await start({ writer: 'fenced' })
    await first.committer.commit(room(14))
    const second = await start({ writer: 'fenced' })
    await second.committer.commit({ events: [message(14)] })
    await expect(first.committer.commit({ events: [message(14)] })).rejects.toMatchObject({ errcode: 'M_UNAVAILABLE' })
    expect(first.fatal.length).toBe(1)
    await second.committer.commit({ events: [message(14)] })
    expect(second.seen.length).toBe(2)
  })
})

describe('several writers', () => {
  test('their positions have no gaps, and each publishes what is its own', async () => {
    const published: { prev: number; position: number }[] = []
    const writers = ['one', 'two', 'three'].map((writer) => {
      const committer = createCommitter({
        sql: database.sql,
        publisher: {
          publish: (_stream, { prev, position }) => published.push({ prev, position }),
          publishEphemeral: () => 0 as never,
        },
        clock: systemClock,
        writer,
      })
      started.push(committer)
      return committer
    })
    const [before] = await database.sql<{ position: number }[]>`select position from streams where name = 'events'`
    await Promise.all(
      Array.from({ length: 300 }, (_, i) => writers[i % 3]?.commit({ events: [message(70 + (i % 3))] })),
    )
    let at = before?.position ?? 0
    for (const { prev, position } of published.sort((x, y) => x.prev - y.prev)) {
      expect(prev).toBe(at)
      at = position
    }
    expect(at).toBe((before?.position ?? 0) + 300)
  })

  test('callers wait until readers can find what they wrote; the next batch does not', async () => {
    const held: PromiseWithResolvers<void>[] = []
    let publications = 0
    const committer = createCommitter({
      sql: database.sql,
      publisher: {
        publish: () => publications++,
        publishEphemeral: () => 0 as never,
        acknowledged() {
          const hold = Promise.withResolvers<void>()
          held.push(hold)
          return hold.promise
        },
      },
      clock: systemClock,
      writer: 'held',
    })
    started.push(committer)
    const answered: number[] = []
    const first = committer.commit({ events: [message(80)] }).then(() => answered.push(1))
    await vi.waitFor(() => expect(publications).toBe(1))
    const second = committer.commit({ events: [message(80)] }).then(() => answered.push(2))
    await vi.waitFor(() => expect(publications).toBe(2))
    expect(answered).toEqual([])
    held[0]?.resolve()
    await first
    expect(answered).toEqual([1])
    held[1]?.resolve()
    await second
  })
})
