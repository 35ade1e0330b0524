/** History that is fetched from other servers. https://spec.matrix.org/v1.19/server-server-api/#backfilling-and-retrieving-missing-events */
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { wireFromParts } from '../../shared/matrix/event-format.ts'
import type { EventId } from '../../shared/matrix/ids.ts'
import type { JsonObject } from '../../shared/matrix/json-value.ts'
import { type FederationPeer, federationPeer, type TestAuthority, testAuthority } from '../support/federation-peer.ts'
import { type FederationServer, federationServer } from '../support/federation-server.ts'
import { type PeerRoom, peerRoom } from '../support/peer-room.ts'

let authority: TestAuthority
let peer: FederationPeer
let server: FederationServer
beforeAll(async () => {
  authority = testAuthority()
  peer = await federationPeer(authority)
  server = await federationServer({ authority })
})
afterAll(async () => {
  await server.close()
  await peer.close()
  authority.close()
})

interface Row {
  readonly event_id: EventId
  readonly position: number | null
  readonly flags: number
  readonly state_root: number
  readonly wire: JsonObject
}
async function rows(room: PeerRoom): Promise<Row[]> {
  const found = await server.main.database.sql<(Omit<Row, 'wire'> & { envelope: string; content: string })[]>`
    select event_id, position, flags, state_root, envelope, content from events join rooms using (room_nid)
    where room_id = ${room.room_id} order by position`
  return found.map(({ envelope, content, ...row }) => ({
    ...row,
    wire: JSON.parse(wireFromParts(envelope, content)) as JsonObject,
  }))
}

let room: PeerRoom
let all: Row[]
/** The first events are as after a join from afar: known, if at all, as parts of the state. */
async function forget(count: number): Promise<void> {
  const { sql } = server.main.database
  const ids = all.slice(0, count).map((row) => row.event_id)
  await sql`update events set position = null, flags = 4, state_root = 0, replaces_nid = null where event_id = any(${sql.array(ids, 25)}::text[])`
  await sql`delete from events where event_id = any(${sql.array(ids, 25)}::text[]) and state_key is null`
  await sql`insert into backward_gaps (room_nid, event_id)
    select room_nid, ${ids.at(-1) ?? ''} from rooms where room_id = ${room.room_id}`
}
const gaps = async () => {
  const found = await server.main.database.sql<{ event_id: EventId; retry_ts: number }[]>`
    select event_id, retry_ts from backward_gaps join rooms using (room_nid) where room_id = ${room.room_id}`
  return found.map((row) => row.event_id)
}
/** The events up to the one that is asked for, newest first. */
const answer = (most: number, change: (wires: JsonObject[]) => JsonObject[] = (wires) => wires) =>
  peer.on('/_matrix/federation/v1/backfill/', ({ uri }) => {
    const asked = new URL(uri, 'https://peer').searchParams.getAll('v')
    const upTo = all.findLastIndex((row) => asked.includes(row.event_id)) + 1
    const wires = all.slice(Math.max(0, upTo - most), upTo).map((row) => row.wire)
    return { body: { origin: peer.server_name, origin_server_ts: 1, pdus: change(wires.reverse()) } }
  })
const backfill = () => server.main.commands.backfillRoom({ room_id: room.room_id, limit: 100 })

beforeEach(async () => {
  room = await peerRoom(server, peer)
  for (let i = 0; i < 5; i++) await room.say(`${i}`)
  all = await rows(room)
})

test('to the room’s beginning: the order is as it was, and so is the state at each event', async () => {
  const kept = 2
  await forget(all.length - kept)
  answer(100)
  expect(await backfill()).toEqual({ placed: all.length - kept })
  const now = await rows(room)
  expect(now.map((row) => row.event_id)).toEqual(all.map((row) => row.event_id))
  expect(now.map((row) => row.position)).toEqual([
    ...all.slice(kept).map((_, i) => i - (all.length - kept)),
    ...all.slice(-kept).map((row) => row.position),
  ])
  expect(now.every((row) => row.flags === 0 && row.state_root !== 0)).toBe(true)
  expect(await gaps()).toEqual([])
  expect(await backfill()).toEqual({ placed: 0 })
})

test('in pieces: the state before a piece is asked for, and where it began the next one goes on', async () => {
  await forget(all.length - 1)
  answer(3)
  peer.on('/_matrix/federation/v1/state_ids/', ({ uri }) => {
    const asked = new URL(uri, 'https://peer').searchParams.get('event_id')
    const at = all.findIndex((row) => row.event_id === asked)
    const before = all.slice(0, at).filter((row) => row.wire.state_key !== undefined)
    const state = new Map(before.map((row) => [`${row.wire.type}|${row.wire.state_key}`, row.event_id]))
    return { body: { pdu_ids: [...state.values()], auth_chain_ids: before.map((row) => row.event_id) } }
  })
  let placed = 0
  for (let one = await backfill(); one.placed > 0; one = await backfill()) {
    expect(one.placed).toBeLessThanOrEqual(3)
    placed += one.placed
  }
  expect(placed).toBe(all.length - 1)
  expect((await rows(room)).map((row) => row.event_id)).toEqual(all.map((row) => row.event_id))
})

test('what was not asked for and what is forged gets no place; who had nothing is not asked again at once', async () => {
  await forget(all.length - 1)
  answer(100, (wires) => wires.slice(3))
  expect(await backfill()).toEqual({ placed: 0 })
  const asked = peer.requests.length
  expect(await backfill()).toEqual({ placed: 0 })
  expect(peer.requests.length).toBe(asked)
  await server.main.database.sql`update backward_gaps set retry_ts = 0`
  answer(100, (wires) => wires.map((wire) => ({ ...wire, depth: 7 })))
  expect(await backfill()).toEqual({ placed: 0 })
  expect((await rows(room)).filter((row) => row.position !== null)).toHaveLength(1)
})
