import type { Sample } from '../measure.ts'
import { check, createRoom, join, measured, pause, registerMany, type Scenario, send, sync } from '../scenario.ts'

const members = 100
const messages = 100
const perSecond = 5

/** 100 members long-poll while 5 messages a second are sent: from the send to the last member's answer. */
export const delivery: Scenario = async (bench) => {
  const users = await registerMany(bench, 'listener', members)
  const [owner] = users
  if (!owner) throw new Error('no users')
  const room = await createRoom(bench, owner)
  for (const user of users.slice(1)) await join(bench, user, room)

  const received = new Map<string, number>()
  const waiting = new Map<string, { beganMs: number; done: (ms: number) => void }>()
  let stop = false
  const listen = async (user: (typeof users)[number]) => {
    let since = (await sync(bench, user, { timeout: '0' })).next_batch
    while (!stop) {
      const answer = await sync(bench, user, { since, timeout: '5000' })
      since = answer.next_batch
      for (const event of answer.rooms?.join?.[room]?.timeline?.events ?? []) {
        if (event.type !== 'm.room.message') continue
        const count = (received.get(event.event_id) ?? 0) + 1
        received.set(event.event_id, count)
        settle(event.event_id)
      }
    }
  }
  const settle = (eventId: string) => {
    const wait = waiting.get(eventId)
    if (wait && received.get(eventId) === members) wait.done(performance.now() - wait.beganMs)
  }
  const listeners = users.map(listen)
  await pause(2_000)

  const row = await measured(
    bench,
    `delivery to ${members} long polls, ${perSecond}/s`,
    async () => {
      const startMs = performance.now()
      const latencies: Promise<number>[] = []
      for (let i = 0; i < messages; i++) {
        await pause(Math.max(0, startMs + (i * 1000) / perSecond - performance.now()))
        latencies.push(
          new Promise((resolve, reject) => {
            const beganMs = performance.now()
            send(bench, owner, room, `delivered ${i}`).then((eventId) => {
              waiting.set(eventId, { beganMs, done: resolve })
              settle(eventId)
            }, reject)
          }),
        )
      }
      const sample: Sample = { latenciesMs: await Promise.all(latencies), elapsedMs: performance.now() - startMs }
      return { ...sample, units: messages * members }
    },
    true,
  )
  stop = true
  // One more message lets the long polls go at once.
  await send(bench, owner, room, 'the end')
  await Promise.all(listeners)
  for (const [id, count] of received)
    check(count === members, `${id} was delivered ${count} times to ${members} members`)
  return [row]
}
