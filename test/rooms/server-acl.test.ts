/** client-server-api/#mroomserver_acl, as this server's own users send it. Who it lets in is shared/core/server-acl.ts. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { JsonObject } from '../../shared/matrix/json-value.ts'
import { type ClientServer, clientServer, type TestClient } from '../support/client-server.ts'

let server: ClientServer
let alice: TestClient
let room: string
beforeAll(async () => {
  server = await clientServer()
  alice = await server.register('alice')
  room = (await alice.must('POST', 'createRoom', {})).room_id
})
afterAll(() => server.close())

const cases: { why: string; content: JsonObject; errcode?: string }[] = [
  { why: 'everybody', content: { allow: ['*'], deny: ['evil.com'], allow_ip_literals: false } },
  { why: 'this server by name', content: { allow: ['hs1'] } },
  { why: 'nobody by default', content: {}, errcode: 'M_INVALID_PARAM' },
  { why: 'others alone', content: { allow: ['hs2'] }, errcode: 'M_INVALID_PARAM' },
  { why: 'this server denied', content: { allow: ['*'], deny: ['HS?'] }, errcode: 'M_INVALID_PARAM' },
  { why: 'no list', content: { allow: '*' }, errcode: 'M_BAD_JSON' },
  { why: 'no patterns', content: { allow: ['*'], deny: [1] }, errcode: 'M_BAD_JSON' },
  { why: 'no boolean', content: { allow: ['*'], allow_ip_literals: 'no' }, errcode: 'M_BAD_JSON' },
]

test.each(cases)('set in a room: $why', async ({ content, errcode }) => {
  const before = await alice.ask('GET', `rooms/${room}/state/m.room.server_acl`)
  const answer = await alice.ask('PUT', `rooms/${room}/state/m.room.server_acl`, content)
  expect(answer).toMatchObject(errcode === undefined ? { status: 200 } : { status: 400, body: { errcode } })
  const after = await alice.ask('GET', `rooms/${room}/state/m.room.server_acl`)
  if (errcode === undefined) expect(after.body).toEqual(content)
  else expect(after).toEqual(before)
})

test.each(cases)('from the beginning of a room: $why', async ({ content, errcode }) => {
  const initial_state = [{ type: 'm.room.server_acl', state_key: '', content }]
  const answer = await alice.ask('POST', 'createRoom', { initial_state })
  expect(answer).toMatchObject(errcode === undefined ? { status: 200 } : { status: 400, body: { errcode } })
})

test('under another state key it is no rule', async () => {
  await alice.must('PUT', `rooms/${room}/state/m.room.server_acl/other`, { allow: [] })
})

test('when it comes with a delay, it is looked at when its time has come', async () => {
  const path = `rooms/${room}/state/m.room.server_acl?org.matrix.msc4140.delay=60000`
  const { delay_id } = await alice.must('PUT', path, { allow: [] })
  expect(await alice.ask('POST', `/_matrix/client/v1/delayed_events/${delay_id}/send`)).toMatchObject({
    status: 400,
    body: { errcode: 'M_INVALID_PARAM' },
  })
})
