/** Which main sends to other servers, where several run. */
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { outboundEdus } from '../../functions/main/federation/outbox.ts'
import { sharedOut } from '../../functions/main/federation/sending/who-sends.ts'
import type { JsonObject } from '../../shared/matrix/json-value.ts'
import { type CommandMains, commandMains, type RunningMain } from '../support/command-mains.ts'
import { type FederationPeer, federationPeer, type TestAuthority, testAuthority } from '../support/federation-peer.ts'

let authority: TestAuthority
let peers: FederationPeer[]
let mains: CommandMains
/** By peer, in the order in which it came. */
const heard = new Map<string, number[]>()
beforeAll(async () => {
  authority = testAuthority()
  peers = await Promise.all(Array.from({ length: 6 }, () => federationPeer(authority)))
  for (const peer of peers) {
    const numbers: number[] = []
    heard.set(peer.server_name, numbers)
    peer.on('/_matrix/federation/v1/send/', ({ body }) => {
      const edus = (body?.edus ?? []) as { content: { n: number } }[]
      numbers.push(...edus.map((edu) => edu.content.n))
      return { body: { pdus: {} } as JsonObject }
    })
  }
  mains = await commandMains()
})
afterAll(async () => {
  await mains?.close()
  await Promise.all(peers?.map((peer) => peer.close()) ?? [])
  authority?.close()
})

const start = (sends_to_servers: boolean) =>
  mains.start({
    config: {
      main: { sends_to_servers },
      federation: { ca_path: authority.caPath },
      egress: { allowed_ranges: ['127.0.0.0/8'] },
    },
  })
/** One to each peer, by way of this main. */
const tell = (main: RunningMain, n: number) =>
  main.main.rooms.deps.committer.commit(
    outboundEdus(peers.map(({ server_name }) => ({ server_name, edu_type: 'm.test', content: JSON.stringify({ n }) }))),
  )
const all = (...numbers: number[]) =>
  vi.waitFor(() => expect([...heard.values()]).toEqual(peers.map(() => numbers)), { timeout: 15_000, interval: 20 })

describe('sending', () => {
  test('moves with the shards, whichever main writes', async () => {
    const one = await start(true)
    await mains.settled(one)
    await tell(one, 1)
    await all(1)
    const two = await start(true)
    await mains.settled(one, two)
    await tell(one, 2)
    await tell(two, 3)
    await all(1, 2, 3)
    await one.stop()
    await mains.settled(two)
    await tell(two, 4)
    await all(1, 2, 3, 4)
    await two.stop()
  })

  test('is left to those that are set to, for the shards of all', async () => {
    for (const numbers of heard.values()) numbers.length = 0
    const silent = await start(false)
    await mains.settled(silent)
    await tell(silent, 1)
    const sender = await start(true)
    await mains.settled(silent, sender)
    await tell(sender, 2)
    await all(1, 2)
    await tell(silent, 3)
    await all(1, 2, 3)
    expect(mains.logged).toEqual([])
  })

  test('is shared by those that send, each shard by one', () => {
    const shards = Array.from({ length: 64 }, (_, shard) => shard)
    const shares = ['b', 'a', 'c'].map((id) => sharedOut(shards, ['b', 'a', 'c'], id))
    expect(shares.flatMap((share) => [...share]).toSorted((x, y) => x - y)).toEqual(shards)
    expect(sharedOut(shards, [], 'a').size).toBe(0)
  })
})
