import { drive, residentMb } from '../measure.ts'
import { check, createRoom, measured, registerMany, type Scenario, send, sync } from '../scenario.ts'

const rooms = 300

/** Sync with nothing new; initial sync of an account of 300 rooms, first and repeated. */
export const syncs: Scenario = async (bench) => {
  const [user] = await registerMany(bench, 'syncer', 1)
  if (!user) throw new Error('no user')
  const made: string[] = []
  await drive(rooms, 8, async (i) => {
    made.push(await createRoom(bench, user, { name: `Room ${i}`, topic: `What room ${i} is about` }))
  })
  await drive(rooms * 8, 16, async (i) => {
    await send(bench, user, made[i % rooms] ?? '', `message ${i} with some words that make it as long as messages are`)
  })

  // A fresh process: what the first sync after a start costs.
  await bench.restart()
  const before = await residentMb(bench.processes.map(({ pid }) => pid))
  let bytes = 0
  const initial = async () => {
    const answer = await bench.http.request('GET', '/_matrix/client/v3/sync?timeout=0', user.token)
    const parsed = JSON.parse(answer.body) as { rooms: { join: Record<string, unknown> } }
    check(Object.keys(parsed.rooms.join).length === rooms, `${Object.keys(parsed.rooms.join).length} rooms of ${rooms}`)
    bytes = answer.body.length
  }
  const first = await measured(bench, `initial sync of ${rooms} rooms, first`, () => drive(1, 1, initial))
  const after = await residentMb(bench.processes.map(({ pid }) => pid))
  const again = await measured(bench, `initial sync of ${rooms} rooms, repeated`, () => drive(10, 1, initial))

  const { next_batch } = await sync(bench, user, { timeout: '0' })
  const empty = async () => {
    const answer = await bench.http.request('GET', `/_matrix/client/v3/sync?timeout=0&since=${next_batch}`, user.token)
    check(
      answer.status === 200 && !answer.body.includes('"join"'),
      `an empty sync answered ${answer.body.slice(0, 100)}`,
    )
  }
  await drive(4_000, 16, empty)
  const idle = await measured(bench, 'sync with nothing new', () => drive(40_000, 16, empty), true)
  const memory = `${(bytes / 1e6).toFixed(2)} MB; memory ${before.toFixed(0)} → ${after.toFixed(0)} MB`
  return [{ ...first, note: memory }, again, idle]
}
