/** What goes to other servers: one event into a room with a thousand of them, each at an address of its own. */
import { readFileSync } from 'node:fs'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { connectForWriting } from '../../../shared/storage/sql.ts'
import { federationPeer, loopbackAddresses } from '../../support/federation-peer.ts'
import { roomOfPeer } from '../../support/peer-room.ts'
import type { Bench } from '../environment.ts'
import { check, measured, registerMany, type Scenario, send } from '../scenario.ts'
import { hostOf } from './federation.ts'

const events = 20

export const federationOut: Scenario = async (bench) => {
  if (!bench.authority) throw new Error('no other server takes part')
  const { keyPath, caPath } = bench.authority
  let arrived = 0
  let expected = Number.POSITIVE_INFINITY
  let all = Promise.withResolvers<void>()
  const server = createServer({ key: readFileSync(keyPath), cert: readFileSync(caPath) }, (incoming, outgoing) => {
    let text = ''
    incoming.setEncoding('utf8').on('data', (part: string) => {
      text += part
    })
    incoming.on('end', () => {
      outgoing.writeHead(200, { 'content-type': 'application/json' }).end('{"pdus":{}}')
      arrived += (JSON.parse(text) as { pdus: unknown[] }).pdus.length
      if (arrived >= expected) all.resolve()
    })
  })
  server.keepAliveTimeout = 120_000
  await new Promise<void>((resolve) => server.listen(0, '0.0.0.0', resolve))
  const { port } = server.address() as AddressInfo
  const servers = loopbackAddresses.map((address) => `${address}:${port}`)
  const peer = await federationPeer(bench.authority)
  peer.on('/_matrix/federation/v1/send/', () => ({ body: { pdus: {} } }))
  try {
    const [owner] = await registerMany(bench, 'sender', 1)
    if (!owner) throw new Error('no user')
    const { room_id } = await roomOfPeer(hostOf(bench, owner), peer, '11')
    await join(bench, room_id, servers)
    const sendAll = async (count: number) => {
      const latenciesMs: number[] = []
      const startedAt = performance.now()
      for (let i = 0; i < count; i++) {
        arrived = 0
        expected = servers.length
        all = Promise.withResolvers()
        const sentAt = performance.now()
        await send(bench, owner, room_id, `event ${i}`)
        await all.promise
        latenciesMs.push(performance.now() - sentAt)
        check(arrived === servers.length, `${arrived} events arrived at ${servers.length} servers`)
      }
      return { latenciesMs, elapsedMs: performance.now() - startedAt, units: count * servers.length }
    }
    return [
      await measured(bench, 'first event into a room with 1,000 other servers', () => sendAll(1)),
      await measured(bench, 'an event into a room with 1,000 other servers', () => sendAll(events)),
    ]
  } finally {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
    await peer.close()
  }
}

/** As if a user of each had joined. */
async function join(bench: Bench, room_id: string, servers: readonly string[]): Promise<void> {
  const sql = connectForWriting({ url: bench.databaseUrl, connections: 1, applicationName: 'ganglion-bench-seed' })
  const names = sql.array([...servers], 25)
  await sql`
    insert into memberships (user_id, room_nid, membership, event_nid, position, sender, local)
    select '@user:' || name, room_nid, 'join', 0, (select position from streams where name = 'events'), '@user:' || name, false
    from rooms, unnest(${names}::text[]) as x(name) where room_id = ${room_id}`
  await sql.end()
}
