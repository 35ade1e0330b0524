import { drive } from '../measure.ts'
import { check, measured, registerMany, type Scenario } from '../scenario.ts'

const devices = 50
const messages = 12_000
const atOnce = 50

interface Inbox {
  readonly next_batch: string
  readonly to_device?: { readonly events: readonly { readonly content: { readonly i: number } }[] }
}

/** Messages from device to device, one a request, fifty at a time; then all inboxes fetched and acknowledged. */
export const toDevice: Scenario = async (bench) => {
  const users = await registerMany(bench, 'device', devices)
  let transaction = 0
  const send = async (i: number) => {
    const from = users[i % devices]
    const to = users[(i + 1) % devices]
    if (!from || !to) throw new Error('no users')
    await bench.http.json('PUT', `/_matrix/client/v3/sendToDevice/m.test/d${transaction++}`, from.token, {
      messages: { [to.id]: { '*': { i } } },
    })
  }
  const received = users.map((): number[] => [])
  const since: string[] = []
  /** What there is, up to the answer that has nothing more. */
  const fetch = async (of: number) => {
    const user = users[of]
    if (!user) throw new Error('no users')
    for (;;) {
      const query = new URLSearchParams({ timeout: '0', ...(since[of] ? { since: since[of] } : {}) })
      const answer = await bench.http.json<Inbox>('GET', `/_matrix/client/v3/sync?${query}`, user.token)
      since[of] = answer.next_batch
      if (!answer.to_device) return
      for (const { content } of answer.to_device.events) received[of]?.push(content.i)
    }
  }
  // Warm up: the first requests compile code and fill caches.
  await drive(1_000, atOnce, send)
  await drive(devices, atOnce, fetch)
  for (const list of received) list.length = 0

  const sent = await measured(bench, `to-device messages, ${atOnce} at a time`, () => drive(messages, atOnce, send))
  const fetched = await measured(bench, 'to-device messages fetched and acknowledged', async () => ({
    ...(await drive(devices, atOnce, fetch)),
    units: messages,
  }))
  const all = received.flat()
  check(all.length === messages, `${all.length} of ${messages} messages came`)
  check(new Set(all).size === messages, 'a message came twice')
  const [left] = await bench.sql<{ count: number }[]>`select count(*)::bigint as count from to_device`
  check(left?.count === 0, `${left?.count} messages were not deleted`)
  return [sent, fetched]
}
