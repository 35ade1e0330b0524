/** What was acknowledged is seen by whoever answers next: every request of a chain goes to another handler. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { roleOf } from '../../shared/http/route-table.ts'
import { HttpClient } from '../support/http-client.ts'
import { seeded } from '../support/random.ts'
import { redisInstalled } from '../support/redis.ts'
import { type Account, type TestRoles, testRoles } from '../support/roles.ts'
import { type Ask, runChain } from './chains.ts'

const chains = Number(process.env.GANGLION_CHAINS ?? 1_000)
const pairs = 40
const lanes = 16
const seed = 20_261

if (!redisInstalled) console.log('redis-server is not installed: roles as processes of their own are not tried')

let roles: TestRoles
let people: Account[]
beforeAll(async () => {
  if (!redisInstalled) return
  roles = await testRoles({ handlers: { client: 3, sync: 2 }, mains: 2, edge: false })
  people = await Promise.all(Array.from({ length: 2 * pairs }, (_, i) => roles.register(`chain${i}`)))
})
afterAll(() => roles?.close())

test.runIf(redisInstalled)(
  `${chains} chains over changing handlers get no stale answer`,
  { timeout: 1_800_000 },
  async () => {
    const random = seeded(seed)
    const clients = new Map<string, HttpClient>()
    const clientOf = (url: string) => {
      const known = clients.get(url)
      if (known) return known
      const { hostname, port } = new URL(url)
      const made = new HttpClient(hostname, Number(port))
      clients.set(url, made)
      return made
    }
    const asking = (): Ask => {
      const last = new Map<string, string>()
      return (method, path, token, body) => {
        const role = roleOf(method, path)?.role ?? 'client'
        const url = random.pick(roles.urls(role).filter((one) => one !== last.get(role)))
        last.set(role, url)
        return clientOf(url).json(method, path, token, body)
      }
    }
    const stale: string[] = []
    let next = 0
    const lane = async (pair: number) => {
      const [alice, bob] = [people[2 * pair], people[2 * pair + 1]]
      if (!alice || !bob) throw new Error('no people')
      for (let i = next++; i < chains; i = next++) {
        await runChain(asking(), [alice, bob], seed + i).catch((error: unknown) =>
          stale.push(`chain ${i}: ${String(error)}`),
        )
      }
    }
    await Promise.all(Array.from({ length: lanes }, (_, i) => lane(i)))
    for (const client of clients.values()) client.close()
    expect(stale).toEqual([])
  },
)
