/** client-server-api/#send-to-device-messaging: «A message is delivered exactly once to each client device», whatever dies.
 *  Mains and handlers are killed while messages flow; GANGLION_TO_DEVICE says how many, GANGLION_TO_DEVICE_KILLS how often at
 *  least. */
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { roleOf } from '../../shared/http/route-table.ts'
import { connectForReading } from '../../shared/storage/sql.ts'
import { HttpClient } from '../support/http-client.ts'
import { seeded } from '../support/random.ts'
import { redisInstalled } from '../support/redis.ts'
import { type Account, type TestRoles, testRoles } from '../support/roles.ts'

const messagesMin = Number(process.env.GANGLION_TO_DEVICE ?? 600)
const killsMin = Number(process.env.GANGLION_TO_DEVICE_KILLS ?? 4)
const seed = 20_270
const senders = 6
const receivers = 3
const v3 = '/_matrix/client/v3'

if (!redisInstalled) console.log('redis-server is not installed: roles as processes of their own are not tried')

let roles: TestRoles
let people: Account[]
const clients = new Map<string, HttpClient>()
beforeAll(async () => {
  if (!redisInstalled) return
  roles = await testRoles({ handlers: { client: 2, sync: 2 }, mains: 2, edge: false })
  people = await Promise.all(Array.from({ length: senders + receivers }, (_, i) => roles.register(`device${i}`)))
})
afterAll(async () => {
  for (const client of clients.values()) client.close()
  await roles?.close()
})

interface Sync {
  readonly next_batch: string
  readonly to_device?: {
    readonly events: readonly { readonly sender: string; readonly content: { readonly n: number } }[]
  }
}

const random = seeded(seed)

/** Asks whichever handler of the role, again and again, until one has answered. */
async function insist<T>(method: string, path: string, token: string, body?: unknown): Promise<T> {
  const role = roleOf(method, path)?.role ?? 'client'
  for (;;) {
    const url = random.pick(roles.of(role)).url
    let client = clients.get(url)
    if (!client) {
      const { hostname, port } = new URL(url)
      client = new HttpClient(hostname, Number(port))
      clients.set(url, client)
    }
    try {
      return await client.json<T>(method, path, token, body)
    } catch (error) {
      // Somebody was killed: nobody listens, the connection broke, or who answers lacks somebody.
      if (/: 4\d\d /.test(String(error))) throw error
      await sleep(20)
    }
  }
}

test.runIf(redisInstalled)(
  `${messagesMin} messages, ${killsMin} kills: none is lost, doubled or out of order`,
  { timeout: 3_600_000 },
  async () => {
    const from = people.slice(0, senders)
    const to = people.slice(senders)
    let kills = 0
    let sent = 0
    let sending = true

    let failure: unknown
    const killer = (async () => {
      while (sending) {
        await sleep(100 + random.below(200))
        const victim = random.pick([...roles.of('main'), ...roles.of('client'), ...roles.of('sync')])
        await victim.kill()
        kills++
        await victim.start()
      }
    })().catch((error: unknown) => {
      failure = error
    })

    const counts = from.map(() => 0)
    const lanes = from.map(async (sender, i) => {
      for (let n = 0; (sent < messagesMin || kills < killsMin) && !failure; n++) {
        await insist('PUT', `${v3}/sendToDevice/m.test/${n}`, sender.access_token, {
          messages: Object.fromEntries(to.map(({ user_id }) => [user_id, { '*': { n } }])),
        })
        counts[i] = n + 1
        sent += to.length
      }
    })

    const received = to.map(() => new Map<string, number[]>(from.map(({ user_id }) => [user_id, []])))
    const tokens: (string | undefined)[] = []
    const syncPath = (since: string | undefined, timeout = 0) =>
      `${v3}/sync?timeout=${timeout}${since ? `&since=${since}` : ''}`
    const readers = to.map(async (device, i) => {
      let since: string | undefined
      for (;;) {
        const last = !sending
        const answer: Sync = await insist('GET', syncPath(since, last ? 0 : 500), device.access_token)
        since = answer.next_batch
        tokens[i] = since
        for (const { sender, content } of answer.to_device?.events ?? []) received[i]?.get(sender)?.push(content.n)
        // What was acknowledged is seen by the next request; with nothing more in it, all is here, and acknowledged.
        if (last && !answer.to_device) return
      }
    })

    await Promise.all(lanes)
    sending = false
    await killer
    // Who was killed has to come back.
    expect(failure).toBeUndefined()
    await Promise.all(readers)
    for (const device of received) {
      for (const [i, { user_id }] of from.entries()) {
        expect(device.get(user_id), `from ${user_id}`).toEqual(Array.from({ length: counts[i] ?? 0 }, (_, n) => n))
      }
    }
    const sql = connectForReading({ url: roles.databaseUrl, connections: 1, applicationName: 'test' })
    // An acknowledgement whose main was killed is made again by the device's next sync.
    for (let rest = Number.POSITIVE_INFINITY; rest > 0; ) {
      await Promise.all(to.map((device, i) => insist('GET', syncPath(tokens[i]), device.access_token)))
      rest = (await sql`select from to_device`).length
    }
    await sql.end()
    console.log(`${kills} kills, ${sent} messages`)
  },
)
