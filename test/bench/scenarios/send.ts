import { drive } from '../measure.ts'
import { check, createRoom, join, measured, registerMany, type Scenario, send } from '../scenario.ts'

/** Events into one room of 10, 10 at a time; into 50 rooms, 20 at a time. */
export const sends: Scenario = async (bench) => {
  const users = await registerMany(bench, 'sender', 10)
  const [owner] = users
  if (!owner) throw new Error('no users')
  const room = await createRoom(bench, owner)
  for (const user of users.slice(1)) await join(bench, user, room)
  const ids = new Set<string>()
  const into = (rooms: readonly string[]) => async (i: number) => {
    const user = users[i % users.length] ?? owner
    ids.add(await send(bench, user, rooms[i % rooms.length] ?? room, `message ${i}`))
  }
  // Warm up: the first requests compile code and fill caches.
  await drive(1_000, 10, into([room]))
  ids.clear()
  const one = await measured(bench, 'send, one room of 10, 10 at a time', () => drive(8_000, 10, into([room])))
  check(ids.size === 8_000, `${ids.size} distinct events of 8000`)
  const [stored] = await bench.sql<{ count: number }[]>`
    select count(distinct position)::bigint as count from events where event_id in ${bench.sql([...ids])}`
  check(stored?.count === 8_000, `${stored?.count} of 8000 events have a position of their own`)

  const rooms: string[] = []
  for (let i = 0; i < 50; i++) rooms.push(await createRoom(bench, owner))
  for (const user of users.slice(1)) await drive(rooms.length, 8, (i) => join(bench, user, rooms[i] ?? room))
  await drive(1_000, 20, into(rooms))
  ids.clear()
  const many = await measured(bench, 'send, 50 rooms, 20 at a time', () => drive(8_000, 20, into(rooms)))
  check(ids.size === 8_000, `${ids.size} distinct events of 8000`)
  return [one, many]
}
