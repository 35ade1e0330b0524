/** What was acknowledged is found at once, whichever handler is asked. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { redisInstalled } from '../support/redis.ts'
import { type Account, type TestRoles, testRoles } from '../support/roles.ts'

let roles: TestRoles
let handlers: readonly string[]
let asked = 0
let alice: Account
let bob: Account

beforeAll(async () => {
  if (!redisInstalled) return
  roles = await testRoles({ handlers: { client: 2 } })
  handlers = roles.urls('client')
  alice = await roles.register('alice')
  bob = await roles.register('bob')
}, 60_000)
afterAll(() => roles?.close())

/** Each request goes to the next handler. */
async function ask(method: string, path: string, who: Account, body?: unknown) {
  const url = `${handlers[asked++ % handlers.length]}/_matrix/client/v3/${path}`
  const response = await fetch(url, {
    method,
    headers: { authorization: `Bearer ${who.access_token}` },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  })
  // biome-ignore lint/suspicious/noExplicitAny: tests look into answers of every shape
  return { status: response.status, body: (await response.json()) as any }
}
const found = async (who: Account, search_term: string): Promise<string[]> =>
  (await ask('POST', 'user_directory/search', who, { search_term })).body.results.map(
    (one: { user_id: string }) => one.user_id,
  )

describe.runIf(redisInstalled)('client-server-api, with roles apart', () => {
  test('the user directory knows joins, names and leaves that were acknowledged', async () => {
    const { body } = await ask('POST', 'createRoom', alice, { preset: 'private_chat', invite: [bob.user_id] })
    const room = encodeURIComponent(body.room_id)
    expect(await found(bob, 'alice')).toEqual([])
    await ask('POST', `rooms/${room}/join`, bob, {})
    expect(await found(bob, 'alice')).toEqual([alice.user_id])
    for (const name of ['Aurora', 'Beatrix', 'Clementine']) {
      await ask('PUT', `profile/${alice.user_id}/displayname`, alice, { displayname: name })
      expect(await found(bob, name), name).toEqual([alice.user_id])
    }
    await ask('POST', `rooms/${room}/leave`, bob, {})
    expect(await found(bob, 'clementine')).toEqual([])
  })

  test('search knows what was just said, and what was just redacted', async () => {
    const { body } = await ask('POST', 'createRoom', alice, {})
    const room = encodeURIComponent(body.room_id)
    for (const word of ['walnut', 'hazelnut', 'chestnut']) {
      const content = { msgtype: 'm.text', body: `a ${word}` }
      const sent = await ask('PUT', `rooms/${room}/send/m.room.message/${word}`, alice, content)
      const search = { search_categories: { room_events: { search_term: word } } }
      const count = async () => (await ask('POST', 'search', alice, search)).body.search_categories.room_events.count
      expect(await count(), word).toBe(1)
      await ask('PUT', `rooms/${room}/redact/${encodeURIComponent(sent.body.event_id)}/${word}`, alice, {})
      expect(await count(), word).toBe(0)
    }
  })

  test('reports of rooms, events and users are kept', async () => {
    const { body } = await ask('POST', 'createRoom', alice, { preset: 'public_chat' })
    const room = encodeURIComponent(body.room_id)
    const content = { msgtype: 'm.text', body: 'rude' }
    const sent = await ask('PUT', `rooms/${room}/send/m.room.message/1`, alice, content)
    const event = encodeURIComponent(sent.body.event_id)
    expect((await ask('POST', `rooms/${room}/report/${event}`, bob, { reason: 'rude' })).status).toBe(404)
    await ask('POST', `rooms/${room}/join`, bob, {})
    const ok = { status: 200, body: {} }
    expect(await ask('POST', `rooms/${room}/report/${event}`, bob, { reason: 'rude', score: -50 })).toEqual(ok)
    expect(await ask('POST', `rooms/${room}/report`, bob, { reason: 'all of it' })).toEqual(ok)
    expect(await ask('POST', `users/${alice.user_id}/report`, bob, { reason: '' })).toEqual(ok)
    expect(await ask('POST', `rooms/${room}/report/%24none`, bob, {})).toMatchObject({ status: 404 })
    expect(await ask('POST', 'rooms/!none/report', bob, { reason: 'x' })).toMatchObject({ status: 404 })
    expect(await ask('POST', 'users/@none:test.local/report', bob, { reason: 'x' })).toMatchObject({ status: 404 })
    expect(await ask('POST', `users/${alice.user_id}/report`, bob, {})).toMatchObject({ status: 400 })
    expect(await ask('POST', `rooms/${room}/report/${event}`, bob, { score: 5 })).toMatchObject({ status: 400 })
  })
})
