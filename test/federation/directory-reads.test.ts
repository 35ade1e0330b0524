/** Directory, spaces and times, as the server that is asked. https://spec.matrix.org/v1.19/server-server-api/ */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { EventId } from '../../shared/matrix/ids.ts'
import { type FederationPeer, federationPeer, type TestAuthority, testAuthority } from '../support/federation-peer.ts'
import { type FederationServer, federationServer } from '../support/federation-server.ts'
import { type PeerRoom, peerRoom } from '../support/peer-room.ts'

let authority: TestAuthority
let peer: FederationPeer
let other: FederationPeer
let server: FederationServer
beforeAll(async () => {
  authority = testAuthority()
  ;[peer, other] = await Promise.all([federationPeer(authority), federationPeer(authority)])
  server = await federationServer({ authority })
})
afterAll(async () => {
  await server.close()
  await Promise.all([peer.close(), other.close()])
  authority.close()
})

const encode = encodeURIComponent
const get = (path: string, by = peer) => server.ask('GET', `/_matrix/federation/v1/${path}`, { by })
const say = async (room: PeerRoom, body: string): Promise<EventId> => {
  const content = { msgtype: 'm.text', body }
  const { event_id } = await server.main.commands.sendEvent({
    user_id: room.alice,
    room_id: room.room_id,
    type: 'm.room.message',
    content,
  })
  return event_id as EventId
}

describe.each(['1', '12'])('room version %s', (version) => {
  let room: PeerRoom
  const said: EventId[] = []
  beforeAll(async () => {
    room = await peerRoom(server, peer, version)
    said.length = 0
    for (let i = 0; i < 25; i++) said.push(await say(room, `${i}`))
  })
  test('the event next to a time', async () => {
    const path = `timestamp_to_event/${encode(room.room_id)}`
    const { body } = await get(`${path}?ts=${Date.now() + 60_000}&dir=b`)
    expect(body.event_id).toBe(said[24])
    expect((await get(`${path}?ts=${Date.now() + 60_000}&dir=f`)).status).toBe(404)
  })
  test('none of it is for a server that is not in the room', async () => {
    const path = `timestamp_to_event/${encode(room.room_id)}?ts=0&dir=f`
    expect(await get(path, other)).toMatchObject({ status: 403, body: { errcode: 'M_FORBIDDEN' } })
  })
})

test('the directory and its pages', async () => {
  const creator = await server.main.user('publisher')
  const { room_id } = await server.main.commands.createRoom({
    user_id: creator,
    preset: 'public_chat',
    visibility: 'public',
    name: 'Cheese',
  })
  const { status, body } = await get('publicRooms?limit=10')
  expect(status).toBe(200)
  expect(body.chunk).toContainEqual(expect.objectContaining({ room_id, name: 'Cheese' }))
  const search = { filter: { generic_search_term: 'chees' } }
  const found = await server.ask('POST', '/_matrix/federation/v1/publicRooms', { by: peer, body: search })
  expect(found.body.chunk).toEqual([expect.objectContaining({ room_id })])
})

test('a space, the rooms of it that the server may see, and those that it may not', async () => {
  const creator = await server.main.user('space')
  const make = async (preset: 'public_chat' | 'private_chat', more = {}) =>
    (await server.main.commands.createRoom({ user_id: creator, preset, ...more })).room_id
  const space = await make('public_chat', { creation_content: { type: 'm.space' } })
  const [open, closed] = [await make('public_chat'), await make('private_chat')]
  for (const state_key of [open, closed, '!elsewhere:peers.test']) {
    await server.main.commands.sendEvent({
      user_id: creator,
      room_id: space,
      type: 'm.space.child',
      state_key,
      content: { via: ['hs1'] },
    } as never)
  }
  const { status, body } = await get(`hierarchy/${encode(space)}`)
  expect(status).toBe(200)
  expect((body.room as { children_state: unknown[] }).children_state).toHaveLength(3)
  expect((body.children as { room_id: string }[]).map((room) => room.room_id)).toEqual([open])
  expect(body.inaccessible_children).toEqual([closed])
  expect((await get(`hierarchy/${encode(closed)}`)).status).toBe(404)
})
