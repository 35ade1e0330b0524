import { afterEach, describe, expect, test } from 'vitest'
import { type Clock, fakeClock } from '../../../shared/clock.ts'
import type { EventId, RoomId, UserId } from '../../../shared/matrix/ids.ts'
import { type TestMain, testMain } from '../../../test/support/main.ts'
import type { Committer } from '../persist/writes.ts'
import type { Draft } from './append.ts'
import { createRoomEngine, type RoomEngine } from './engine.ts'
import type { StalledTask } from './room-queues.ts'

let main: TestMain
afterEach(() => main.drop())

/** Another engine on main's database, whose commits the test can stop. */
async function engine(options: { clock?: Clock; warmRoomsBytes?: number } = {}) {
  main = await testMain()
  const alice = await main.user('alice')
  const { deps } = main.rooms
  const stalls: StalledTask[] = []
  const gate: { before: Promise<void> | undefined } = { before: undefined }
  const committer: Committer = {
    async commit(writes) {
      if (gate.before) await gate.before
      await deps.committer.commit(writes)
    },
    close: () => deps.committer.close(),
  }
  const rooms = createRoomEngine({ ...deps, committer, onStall: (stalled) => stalls.push(stalled), ...options })
  const room_id = async () => (await main.commands.createRoom({ user_id: alice, preset: 'public_chat' })).room_id
  return { rooms, alice, gate, stalls, room_id }
}
const message = (sender: UserId, body = 'x'): Draft => ({ type: 'm.room.message', sender, content: { body } })
const send = (rooms: RoomEngine, room_id: RoomId, sender: UserId, body?: string) =>
  rooms.run(room_id, 'send', async ({ append }) => (await append(message(sender, body))).pdu.event_id)
const chainOf = async (room_id: RoomId) => {
  const rows = await main.database.sql<{ event_id: EventId; envelope: string }[]>`
    select event_id, envelope from events join rooms using (room_nid) where room_id = ${room_id} order by position`
  return rows.map((row) => ({ id: row.event_id, previous: JSON.parse(row.envelope).prev_events as EventId[] }))
}

describe('the room engine', () => {
  test('a commit that fails tells its caller; what was built on it is tried again on the stored room', async () => {
    const { rooms, alice, room_id } = await engine()
    const room = await room_id()
    await send(rooms, room, alice)
    const poisoned = rooms.run(room, 'poisoned', async ({ append, write }) => {
      await append(message(alice, 'poison'))
      write({ also: (tx) => [tx`select 1 / 0`] })
    })
    const others = Array.from({ length: 5 }, (_, i) => send(rooms, room, alice, `message ${i}`))
    await expect(poisoned).rejects.toThrow('division by zero')
    const ids = await Promise.all(others)
    const chain = await chainOf(room)
    expect(chain.slice(-5).map((event) => event.id)).toEqual(ids)
    expect(chain.slice(1).map((event) => event.previous)).toEqual(chain.slice(0, -1).map((event) => [event.id]))
  })

  test('a task that half succeeded leaves no trace', async () => {
    const { rooms, alice, room_id } = await engine()
    const room = await room_id()
    const before = await chainOf(room)
    await expect(rooms.sendMany(room, [message(alice), message('@nobody:hs1' as UserId)])).rejects.toMatchObject({
      errcode: 'M_FORBIDDEN',
    })
    const id = await send(rooms, room, alice)
    expect(await chainOf(room)).toEqual([...before, { id, previous: [before.at(-1)?.id] }])
  })

  test('a task that hangs is reported and its room goes on, others never wait', async () => {
    const clock = fakeClock()
    const { rooms, alice, stalls, room_id } = await engine({ clock })
    const [stuck, other] = [await room_id(), await room_id()]
    const hung = Promise.withResolvers<void>()
    const late = rooms.run(stuck, 'hanging', async ({ append }) => {
      await hung.promise
      return append(message(alice))
    })
    const waiting = send(rooms, stuck, alice)
    await send(rooms, other, alice)
    expect(stalls).toEqual([])
    clock.advance(30_000)
    await waiting
    expect(stalls).toMatchObject([{ room_id: stuck, holder: 'hanging', waiting: 1 }])
    hung.resolve()
    // It wakes on a copy that is no longer the room, and runs again on the one that is.
    await late
    const chain = await chainOf(stuck)
    expect(chain.slice(1).map((event) => event.previous)).toEqual(chain.slice(0, -1).map((event) => [event.id]))
  })

  test('a task that is given up on while its room is read does not write on what was read', async () => {
    const clock = fakeClock()
    const { rooms, alice, stalls, room_id } = await engine({ clock })
    const room = await room_id()
    const first = send(rooms, room, alice, 'first')
    const second = send(rooms, room, alice, 'second')
    await expect.poll(() => rooms.stats.busyRooms).toBe(1)
    // The database takes its time: nothing of the room is in memory yet.
    expect(rooms.stats.warmRooms).toBe(0)
    clock.advance(30_000)
    expect(stalls).toMatchObject([{ room_id: room, waiting: 1 }])
    await Promise.all([first, second])
    const chain = await chainOf(room)
    expect(chain.slice(1).map((event) => event.previous)).toEqual(chain.slice(0, -1).map((event) => [event.id]))
    expect(rooms.stats.warmRooms).toBe(1)
  })

  test('rooms beyond the budget are forgotten, never one in use', async () => {
    const { rooms, alice, gate, room_id } = await engine({ warmRoomsBytes: 1 })
    const ids = await Promise.all(Array.from({ length: 4 }, room_id))
    const open = Promise.withResolvers<void>()
    gate.before = open.promise
    const sends = ids.flatMap((id) => [send(rooms, id, alice), send(rooms, id, alice)])
    await expect.poll(() => rooms.stats.warmRooms).toBe(4)
    gate.before = undefined
    open.resolve()
    await Promise.all(sends)
    await send(rooms, ids[0]!, alice)
    expect(rooms.stats.warmRooms).toBe(1)
  })

  test('sendMany is one commit', async () => {
    const { rooms, alice, room_id } = await engine()
    const room = await room_id()
    const before = (await chainOf(room)).length
    const ids = await rooms.sendMany(room, [message(alice, 'a'), message(alice, 'b'), message(alice, 'c')])
    expect((await chainOf(room)).slice(before).map((event) => event.id)).toEqual(ids)
  })
})
