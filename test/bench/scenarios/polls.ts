import type { User } from '../environment.ts'
import { drive, percentile, residentMb } from '../measure.ts'
import { check, createRoom, join, pause, type Row, type Scenario, send, sync } from '../scenario.ts'
import { insertUsers } from '../seed.ts'

const idle = 10_000
const members = 1_000
const messages = 5

/** 10,000 long polls wait, and 1,000 of them get a message: memory of the process that they wait at, and the time from the
 *  send to each answer. */
export const polls: Scenario = async (bench) => {
  const users = await insertUsers(bench, 'poller', idle)
  const [owner] = users
  if (!owner) throw new Error('no users')
  const room = await createRoom(bench, owner)
  await drive(members - 1, 8, async (i) => join(bench, users[i + 1] as User, room))
  const since: string[] = []
  await drive(idle, 16, async (i) => {
    since[i] = (await sync(bench, users[i] as User, { timeout: '0', set_presence: 'offline' })).next_batch
  })

  const rows: Row[] = []
  const latenciesMs: number[] = []
  let wakes = 0
  let beganMs = 0
  let done = () => {}
  let stop = false
  const listen = async (user: User, i: number) => {
    while (!stop) {
      const answer = await sync(bench, user, { since: since[i] ?? '', timeout: '600000', set_presence: 'offline' })
      since[i] = answer.next_batch
      const events = answer.rooms?.join?.[room]?.timeline?.events ?? []
      if (events.length === 0 || beganMs === 0) continue
      latenciesMs.push(performance.now() - beganMs)
      if (++wakes === members) done()
    }
  }
  const listeners = users.map(listen)
  await pause(15_000)
  const holders = bench.processes.filter(({ name }) => /^(server|sync|edge)/.test(name))
  const memory = await Promise.all(
    holders.map(async ({ name, pid }) => `${name} ${(await residentMb([pid])).toFixed(0)} MB`),
  )
  for (let i = 0; i < messages; i++) {
    wakes = 0
    const all = new Promise<void>((resolve) => {
      done = resolve
    })
    beganMs = performance.now()
    await Promise.all([send(bench, owner, room, `wake ${i}`), all])
    beganMs = 0
    await pause(2_000)
  }
  check(latenciesMs.length === members * messages, `${latenciesMs.length} wake-ups`)
  rows.push({
    scenario: `${idle} long polls, ${members} of them woken`,
    count: latenciesMs.length,
    p50Ms: percentile(latenciesMs, 50),
    p99Ms: percentile(latenciesMs, 99),
    note: memory.join(', '),
  })
  stop = true
  bench.http.close()
  void Promise.allSettled(listeners)
  return rows
}
