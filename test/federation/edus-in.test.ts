/** https://spec.matrix.org/v1.19/server-server-api/#edus, from another server's side: typing, receipts and presence. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { RoomId, UserId } from '../../shared/matrix/ids.ts'
import type { JsonObject } from '../../shared/matrix/json-value.ts'
import { type FederationPeer, federationPeer, type TestAuthority, testAuthority } from '../support/federation-peer.ts'
import { type FederationServer, federationServer } from '../support/federation-server.ts'
import { type PeerRoom, peerRoom } from '../support/peer-room.ts'

let authority: TestAuthority
let peer: FederationPeer
let server: FederationServer
let room: PeerRoom
beforeAll(async () => {
  authority = testAuthority()
  peer = await federationPeer(authority)
  server = await federationServer({ authority })
  room = await peerRoom(server, peer)
})
afterAll(async () => {
  await server?.close()
  await peer?.close()
  authority?.close()
})

async function tell(edu_type: string, content: JsonObject): Promise<void> {
  const { status } = await room.send([], { edus: [{ edu_type, content }] })
  expect(status).toBe(200)
}
/** Rows of a stream that this brings about. */
async function heard(stream: 'typing' | 'presence' | 'receipts', work: () => Promise<void>): Promise<unknown[]> {
  const rows: unknown[] = []
  const off = server.main.replication.subscribe(stream, (update) => void rows.push(...update.rows))
  await work()
  off()
  return rows
}
const receipt = (room_id: RoomId, user_id: UserId, event_id: string, data: JsonObject = { ts: 5 }) => ({
  [room_id]: { 'm.read': { [user_id]: { data, event_ids: [event_id] } } },
})

describe('typing', () => {
  test('of a member is told to our users, and ends', async () => {
    const { room_id, bob: user_id } = room
    expect(await heard('typing', () => tell('m.typing', { room_id, user_id, typing: true }))).toMatchObject([
      { room_id, user_ids: [user_id] },
    ])
    expect(await heard('typing', () => tell('m.typing', { room_id, user_id, typing: false }))).toMatchObject([
      { room_id, user_ids: [] },
    ])
  })

  test.each<[string, () => JsonObject]>([
    ['a user of another server', () => ({ room_id: room.room_id, user_id: room.alice, typing: true })],
    ['nobody of the room', () => ({ room_id: room.room_id, user_id: `@eve:${peer.server_name}`, typing: true })],
    ['no room', () => ({ room_id: '!nowhere:hs1', user_id: room.bob, typing: true })],
    ['what has no form', () => ({ room_id: room.room_id, user_id: room.bob, typing: 'yes' })],
  ])('of %s is nothing', async (_, content) => {
    expect(await heard('typing', () => tell('m.typing', content()))).toEqual([])
  })

  test('where the room keeps the server out it is nothing', async () => {
    const closed = await peerRoom(server, peer)
    const { room_id, alice, bob: user_id } = closed
    await server.main.commands.sendEvent({
      room_id,
      user_id: alice,
      type: 'm.room.server_acl',
      state_key: '',
      content: { allow: ['hs1'] },
    })
    expect(await heard('typing', () => tell('m.typing', { room_id, user_id, typing: true }))).toEqual([])
  })
})

describe('receipts', () => {
  test('move forward, each thread by itself', async () => {
    const { room_id, alice, bob } = room
    const say = () => server.main.commands.sendEvent({ room_id, user_id: alice, type: 'm.room.message', content: {} })
    const [older, newer] = [await say(), await say()]
    expect(await heard('receipts', () => tell('m.receipt', receipt(room_id, bob, newer.event_id)))).toMatchObject([
      { room_id, user_id: bob, event_id: newer.event_id, receipt_type: 'm.read', thread_id: '', ts: 5 },
    ])
    expect(await heard('receipts', () => tell('m.receipt', receipt(room_id, bob, older.event_id)))).toEqual([])
    const threaded = receipt(room_id, bob, older.event_id, { ts: 6, thread_id: 'main' })
    expect(await heard('receipts', () => tell('m.receipt', threaded))).toMatchObject([
      { event_id: older.event_id, thread_id: 'main', ts: 6 },
    ])
  })

  test.each<[string, (event_id: string) => JsonObject]>([
    ['a user of another server', (event_id) => receipt(room.room_id, room.alice, event_id)],
    ['nobody of the room', (event_id) => receipt(room.room_id, `@eve:${peer.server_name}` as UserId, event_id)],
    ['an event that is not there', () => receipt(room.room_id, room.bob, '$nothing')],
    ['another room', (event_id) => receipt('!nowhere:hs1' as RoomId, room.bob, event_id)],
    [
      'a private kind',
      (event_id) => ({ [room.room_id]: { 'm.read.private': { [room.bob]: { data: {}, event_ids: [event_id] } } } }),
    ],
    ['what has no form', (event_id) => ({ [room.room_id]: { 'm.read': { [room.bob]: [event_id] } } })],
  ])('of %s are nothing', async (_, content) => {
    const { room_id, alice: user_id } = room
    const { event_id } = await server.main.commands.sendEvent({
      room_id,
      user_id,
      type: 'm.room.message',
      content: {},
    })
    expect(await heard('receipts', () => tell('m.receipt', content(event_id)))).toEqual([])
  })
})

describe('presence', () => {
  test('of who shares a room is told to our users', async () => {
    const push = [
      { user_id: room.bob, presence: 'online', last_active_ago: 10, currently_active: true, status_msg: 'hi' },
    ]
    expect(await heard('presence', () => tell('m.presence', { push }))).toMatchObject([
      { user_id: room.bob, presence: 'online', currently_active: true, status_msg: 'hi' },
    ])
  })

  test('of others, and of users that are not the server’s, is nothing', async () => {
    const push = [room.alice, `@eve:${peer.server_name}`].map((user_id) => ({ user_id, presence: 'online' }))
    expect(await heard('presence', () => tell('m.presence', { push }))).toEqual([])
  })
})

describe('messages to devices', () => {
  const inbox = (user_id: UserId) => server.main.database.sql<{ device_id: string; content: string }[]>`
    select device_id, content from to_device where user_id = ${user_id} order by position`
  const device = (user_id: UserId, device_id: string) => server.main.database.sql`
    insert into devices (user_id, device_id, created_ts) values (${user_id}, ${device_id}, 0)`

  test('come once, into the inboxes of the devices that are there', async () => {
    const { alice, bob: sender } = room
    await device(alice, 'PHONE')
    await device(alice, 'LAPTOP')
    const messages = { [alice]: { PHONE: { n: 1 }, GONE: { n: 2 }, '*': { n: 3 } }, [sender]: { X: {} } }
    const edu = { sender, type: 'm.test', message_id: 'id1', messages }
    await tell('m.direct_to_device', edu)
    await tell('m.direct_to_device', edu)
    const stored = [...(await inbox(alice))].map(({ device_id, content }) => `${device_id} ${content}`)
    expect(stored.toSorted()).toEqual(['LAPTOP {"n":3}', 'PHONE {"n":1}', 'PHONE {"n":3}'])
  })

  test('of a sender of another server are nothing', async () => {
    const { alice } = await peerRoom(server, peer)
    await device(alice, 'PHONE')
    const messages = { [alice]: { PHONE: {} } }
    await tell('m.direct_to_device', { sender: room.alice, type: 'm.test', message_id: 'id2', messages })
    expect(await inbox(alice)).toHaveLength(0)
  })
})
