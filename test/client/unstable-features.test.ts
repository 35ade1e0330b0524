/** client-server-api/#get_matrixclientversions: what is announced beyond the versions of the specification is served. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type ClientServer, clientServer, type TestClient } from '../support/client-server.ts'

let hs: ClientServer
let alice: TestClient
let bob: TestClient
let room_id: string
let event_id: string
beforeAll(async () => {
  hs = await clientServer()
  ;[alice, bob] = [await hs.register('alice'), await hs.register('bob')]
  ;({ room_id } = await alice.must('POST', 'createRoom', { preset: 'public_chat' }))
  const content = { msgtype: 'm.text', body: 'hello' }
  ;({ event_id } = await alice.must('PUT', `rooms/${room_id}/send/m.room.message/1`, content))
})
afterAll(() => hs.close())

const api = '/_matrix/client'
const filter = encodeURIComponent('{"org.matrix.msc3874.rel_types":["m.thread"]}')
const mine = () => `user/${alice.user_id}`
const inRoom = () => `rooms/${room_id}`

/** A request that only a server with the feature answers so. */
const requests: Readonly<
  Record<string, () => readonly [method: string, path: string, body?: object | undefined, status?: number]>
> = {
  'uk.tcpip.msc4133': () => ['GET', `${api}/unstable/uk.tcpip.msc4133/profile/${alice.user_id}/m.tz`, undefined, 404],
  'uk.tcpip.msc4133.stable': () => ['PUT', `profile/${alice.user_id}/m.tz`, { 'm.tz': 'UTC' }],
  'org.matrix.msc3814': () => ['GET', `${api}/unstable/org.matrix.msc3814.v1/dehydrated_device`, undefined, 404],
  'org.matrix.simplified_msc3575': () => ['POST', `${api}/unstable/org.matrix.simplified_msc3575/sync`, {}],
  'uk.half-shot.msc2666.query_mutual_rooms': () => [
    'GET',
    `${api}/unstable/uk.half-shot.msc2666/user/mutual_rooms?user_id=${bob.user_id}`,
  ],
  'uk.half-shot.msc2666.query_mutual_rooms.stable': () => ['GET', `${api}/v1/mutual_rooms?user_id=${bob.user_id}`],
  'org.matrix.msc3266': () => ['GET', `${api}/unstable/im.nheko.summary/summary/${room_id}`],
  'org.matrix.msc3266.stable': () => ['GET', `${api}/v1/room_summary/${room_id}`],
  'org.matrix.msc3030': () => ['GET', `${api}/v1/${inRoom()}/timestamp_to_event?ts=0&dir=f`],
  'org.matrix.msc4380.stable': () => [
    'PUT',
    `${mine()}/account_data/m.invite_permission_config`,
    { default_action: 'block' },
  ],
  'org.matrix.msc4155': () => [
    'PUT',
    `${mine()}/account_data/org.matrix.msc4155.invite_permission_config`,
    { blocked_users: ['*'] },
  ],
  'org.matrix.msc3391': () => ['DELETE', `${api}/unstable/org.matrix.msc3391/${mine()}/account_data/m.direct`],
  'org.matrix.msc3874': () => ['GET', `${inRoom()}/messages?dir=b&filter=${filter}`],
  'org.matrix.msc3981': () => [
    'GET',
    `${api}/v1/${inRoom()}/relations/${encodeURIComponent(event_id)}?org.matrix.msc3981.recurse=true`,
  ],
  'org.matrix.msc4140': () => ['GET', `${api}/unstable/org.matrix.msc4140/delayed_events`],
  'org.matrix.msc4140.stable': () => [
    'PUT',
    `${inRoom()}/delayed_event/m.room.message/later`,
    { delay_ms: 60_000, content: {} },
  ],
  'org.matrix.msc4306': () => [
    'PUT',
    `${api}/unstable/io.element.msc4306/${inRoom()}/thread/${encodeURIComponent(event_id)}/subscription`,
    {},
  ],
  'org.matrix.msc4140': () => ['GET', `${api}/unstable/org.matrix.msc4140/delayed_events`],
  'org.matrix.msc4140.stable': () => ['GET', `${api}/v1/delayed_events`],
  'org.matrix.e2e_cross_signing': () => ['POST', 'keys/query', { device_keys: { [alice.user_id]: [] } }],
  'org.matrix.msc2285.stable': () => ['POST', `${inRoom()}/read_markers`, { 'm.read.private': event_id }],
  'org.matrix.msc2432': () => ['GET', `${inRoom()}/aliases`],
  'org.matrix.msc3440.stable': () => ['GET', `${api}/v1/${inRoom()}/threads`],
  'org.matrix.msc3771': () => [
    'POST',
    `${inRoom()}/receipt/m.read/${encodeURIComponent(event_id)}`,
    { thread_id: 'main' },
  ],
  'org.matrix.msc3827.stable': () => ['POST', 'publicRooms', { filter: { room_types: ['m.space'] } }],
}

describe('unstable_features', () => {
  test('each that is announced is tried here', async () => {
    const { unstable_features } = await alice.must('GET', `${api}/versions`)
    expect(Object.keys(unstable_features).toSorted()).toEqual(Object.keys(requests).toSorted())
    expect(Object.values(unstable_features).every((value) => value === true)).toBe(true)
  })

  test.each(Object.keys(requests))('%s', async (feature) => {
    const [method, path, body, status = 200] = requests[feature]?.() ?? ['', '']
    const reply = await alice.ask(method, path, body)
    expect(reply).toMatchObject({ status })
    expect(reply.body.errcode).not.toBe('M_UNRECOGNIZED')
  })

  test('what they say is so', async () => {
    const made = await bob.ask('POST', 'createRoom', { invite: [alice.user_id] })
    expect(made).toMatchObject({ status: 403, body: { errcode: 'M_INVITE_BLOCKED' } })
    const { chunk } = await alice.must('GET', `${inRoom()}/messages?dir=b&filter=${filter}`)
    expect(chunk).toEqual([])
    const recursive = `${api}/v1/${inRoom()}/relations/${encodeURIComponent(event_id)}?org.matrix.msc3981.recurse=true`
    expect((await alice.must('GET', recursive)).recursion_depth).toBeGreaterThan(1)
  })
})
