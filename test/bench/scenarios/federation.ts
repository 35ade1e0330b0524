/** What other servers send: events in transactions of fifty, signed by a peer on this machine. */
import { Agent, request } from 'node:http'
import type { StoredEvent } from '../../../shared/matrix/event-format.ts'
import type { RoomId, UserId } from '../../../shared/matrix/ids.ts'
import type { JsonObject } from '../../../shared/matrix/json-value.ts'
import { type FederationPeer, federationPeer } from '../../support/federation-peer.ts'
import { type PeerHost, type PeerRoom, roomOfPeer } from '../../support/peer-room.ts'
import type { Bench, User } from '../environment.ts'
import { drive } from '../measure.ts'
import { check, createRoom, measured, registerMany, type Scenario } from '../scenario.ts'

const perTransaction = 50
const roomVersion = '11'

export const federation: Scenario = async (bench) => {
  if (!bench.authority) throw new Error('no other server takes part')
  const peer = await federationPeer(bench.authority)
  try {
    const [owner] = await registerMany(bench, 'owner', 1)
    if (!owner) throw new Error('no user')
    const host = hostOf(bench, owner)
    const rooms: PeerRoom[] = []
    for (let i = 0; i < 50; i++) rooms.push(await roomOfPeer(host, peer, roomVersion))
    const one = rooms.slice(0, 1)
    await received(bench, peer, host, rooms, 40)
    return [
      await measured(bench, 'received, 50 rooms, transactions of 50', () => received(bench, peer, host, rooms, 200)),
      await measured(bench, 'received, one room, transactions of 50', () => received(bench, peer, host, one, 200)),
    ]
  } finally {
    await peer.close()
  }
}

/** One transaction after the other, as one server sends them; made and signed beforehand. */
async function received(
  bench: Bench,
  peer: FederationPeer,
  host: PeerHost,
  rooms: readonly PeerRoom[],
  transactions: number,
) {
  const ids: string[] = []
  const bodies: JsonObject[] = []
  for (let t = 0; t < transactions; t++) {
    const pdus: JsonObject[] = []
    for (let i = 0; i < perTransaction; i++) {
      const room = rooms[i % rooms.length]
      if (!room) throw new Error('no rooms')
      const event: StoredEvent = room.make({
        type: 'm.room.message',
        content: { msgtype: 'm.text', body: `message ${i} of transaction ${t}` },
      })
      ids.push(event.pdu.event_id)
      pdus.push(room.wire(event))
    }
    bodies.push({ origin: peer.server_name, origin_server_ts: Date.now(), pdus, edus: [] })
  }
  const sample = await drive(bodies.length, 1, async (i) => {
    const { status, body } = await host.ask('PUT', `/_matrix/federation/v1/send/${++sent}`, {
      by: peer,
      body: bodies[i] ?? {},
    })
    check(status === 200, `a transaction was answered ${status} ${JSON.stringify(body)}`)
  })
  const [row] = await bench.sql<{ count: number }[]>`
    select count(*)::bigint as count from events where event_id in ${bench.sql(ids)} and position is not null`
  check(row?.count === ids.length, `${row?.count} of ${ids.length} events are in a timeline`)
  return { ...sample, units: ids.length }
}
let sent = 0

export function hostOf(bench: Bench, owner: User): PeerHost {
  const agent = new Agent({ keepAlive: true, maxSockets: 8 })
  const { hostname, port } = new URL(bench.baseUrl)
  return {
    sql: bench.sql,
    async createRoom(room_version, bob) {
      const room_id = (await createRoom(bench, owner, {
        room_version,
        power_level_content_override: { users: { [owner.id]: 100, [bob]: 50 } },
      })) as RoomId
      return { room_id, alice: owner.id as UserId }
    },
    ask(method, uri, { by, body }) {
      const authorization = by.authorization({ method, uri, destination: 'bench.local', content: body as JsonObject })
      return new Promise((resolve, reject) => {
        const text = JSON.stringify(body)
        const headers = { authorization, 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }
        const sending = request({ agent, hostname, port, method, path: uri, headers }, (answer) => {
          const parts: Buffer[] = []
          answer.on('data', (part: Buffer) => parts.push(part))
          answer.on('end', () =>
            resolve({ status: answer.statusCode ?? 0, body: JSON.parse(Buffer.concat(parts).toString('utf8')) }),
          )
        })
        sending.on('error', reject)
        sending.end(text)
      })
    },
  }
}
