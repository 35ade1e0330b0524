/** client-server-api/#account-moderation, with every role as processes: what an administrator decides counts at once, at every
 *  handler, and for who waits in a sync. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Answer, HttpClient } from '../support/http-client.ts'
import { redisInstalled } from '../support/redis.ts'
import { type Account, type TestRoles, testRoles } from '../support/roles.ts'

let roles: TestRoles
let clients: HttpClient[]
let syncs: HttpClient[]
let admin: Account
let user: Account
let room: string

const clientOf = (url: string) => new HttpClient('127.0.0.1', Number(new URL(url).port))
const everywhere = (handlers: HttpClient[], ask: (http: HttpClient) => Promise<Answer>) =>
  Promise.all(handlers.map(ask))

beforeAll(async () => {
  if (!redisInstalled) return
  roles = await testRoles({ handlers: { client: 3, sync: 2 }, mains: 1, edge: false })
  clients = roles.urls('client').map(clientOf)
  syncs = roles.urls('sync').map(clientOf)
  admin = await roles.register('root', { admin: true })
  user = await roles.register('user')
  const http = clients[0]
  if (!http) throw new Error('no handler')
  const made = await http.json<{ room_id: string }>('POST', '/_matrix/client/v3/createRoom', user.access_token, {})
  room = made.room_id
})
afterAll(async () => {
  for (const http of [...(clients ?? []), ...(syncs ?? [])]) http.close()
  await roles?.close()
})

const put = (what: 'lock' | 'suspend', on: boolean, handler = 0) =>
  clients[handler]?.json('PUT', `/_matrix/client/v1/admin/${what}/${user.user_id}`, admin.access_token, {
    [what === 'lock' ? 'locked' : 'suspended']: on,
  })

test.runIf(redisInstalled)('locked and unlocked, over and over: every handler knows it with the answer', async () => {
  const whoami = (http: HttpClient) => http.request('GET', '/_matrix/client/v3/account/whoami', user.access_token)
  for (let round = 0; round < 10; round++) {
    await put('lock', true, round % 3)
    for (const answer of await everywhere(clients, whoami)) {
      expect(answer.status, `round ${round}`).toBe(401)
      expect(JSON.parse(answer.body)).toMatchObject({ errcode: 'M_USER_LOCKED', soft_logout: true })
    }
    for (const answer of await everywhere(syncs, (http) =>
      http.request('GET', '/_matrix/client/v3/sync', user.access_token),
    ))
      expect(JSON.parse(answer.body)).toMatchObject({ errcode: 'M_USER_LOCKED' })
    await put('lock', false, (round + 1) % 3)
    for (const answer of await everywhere(clients, whoami)) expect(answer.status, `round ${round}`).toBe(200)
  }
})

test.runIf(redisInstalled)('who waits in a sync is answered at once, without what came after', async () => {
  const http = syncs[1]
  if (!http) throw new Error('no handler')
  const { next_batch } = await http.json<{ next_batch: string }>('GET', '/_matrix/client/v3/sync', user.access_token)
  const path = `/_matrix/client/v3/sync?since=${next_batch}&timeout=30000`
  const began = performance.now()
  const waiting = http.request('GET', path, user.access_token)
  await put('lock', true)
  const answer = await waiting
  expect(performance.now() - began).toBeLessThan(10_000)
  // It may have come to the handler after the lock.
  expect([200, 401]).toContain(answer.status)
  expect(JSON.parse(answer.body).rooms?.join).toBe(undefined)
  await put('lock', false)
})

test.runIf(redisInstalled)('suspended, one can read and leave at every handler, and send at none', async () => {
  await put('suspend', true)
  const send = (http: HttpClient, i: number) =>
    http.request('PUT', `/_matrix/client/v3/rooms/${room}/send/m.room.message/t${i}`, user.access_token, '{"body":"x"}')
  for (const [i, http] of clients.entries()) {
    const answer = await send(http, i)
    expect(answer.status).toBe(403)
    expect(JSON.parse(answer.body)).toMatchObject({ errcode: 'M_USER_SUSPENDED' })
    const path = `/_matrix/client/v3/rooms/${room}/messages?dir=b`
    expect((await http.request('GET', path, user.access_token)).status).toBe(200)
  }
  await put('suspend', false)
  for (const [i, http] of clients.entries()) expect((await send(http, i)).status).toBe(200)
})
