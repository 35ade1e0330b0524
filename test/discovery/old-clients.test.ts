/** client-server-api: initialSync and the stream of events, for clients from before GET /sync. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type TestDatabase, testDatabase } from '../support/database.ts'
import { HttpClient } from '../support/http-client.ts'
import { type ServerProcess, serverProcess } from '../support/server-process.ts'

// biome-ignore lint/suspicious/noExplicitAny: tests look into answers of every shape
type Body = any
interface Account {
  readonly user_id: string
  readonly access_token: string
}

let database: TestDatabase
let server: ServerProcess
let http: HttpClient
let alice: Account
let bob: Account
let guest: Account
let sent = 0

beforeAll(async () => {
  database = await testDatabase()
  server = await serverProcess({ databaseUrl: database.url })
  await server.start()
  http = new HttpClient('127.0.0.1', server.port)
  alice = await server.register('alice')
  bob = await server.register('bob')
  guest = await server.register('guest')
}, 60_000)
afterAll(async () => {
  http?.close()
  await server?.close()
  await database?.drop()
})

const get = (who: Account, path: string) => http.json<Body>('GET', `/_matrix/client/v3/${path}`, who.access_token)
const post = (who: Account, path: string, body: object = {}) =>
  http.json<Body>('POST', `/_matrix/client/v3/${path}`, who.access_token, body)
async function room(who: Account, more: object = {}): Promise<string> {
  return (await post(who, 'createRoom', { preset: 'public_chat', ...more })).room_id
}
async function say(who: Account, room_id: string, body: string): Promise<string> {
  const path = `/_matrix/client/v3/rooms/${encodeURIComponent(room_id)}/send/m.room.message/${++sent}`
  return (await http.json<Body>('PUT', path, who.access_token, { msgtype: 'm.text', body })).event_id
}
const bodies = (events: Body[]) => events.flatMap((event) => (event.content.body ? [event.content.body] : []))

describe('client-server-api GET /initialSync', () => {
  test('rooms with their newest messages and whole state, invites, account data', async () => {
    const [joined, invited, left] = [await room(alice), await room(bob), await room(bob)]
    for (const text of ['1', '2', '3']) await say(alice, joined, text)
    await post(bob, `rooms/${encodeURIComponent(invited)}/invite`, { user_id: alice.user_id })
    await post(alice, `join/${encodeURIComponent(left)}`)
    await post(alice, `rooms/${encodeURIComponent(left)}/leave`)
    const tag = `user/${alice.user_id}/rooms/${encodeURIComponent(joined)}/tags/u.x`
    await http.json('PUT', `/_matrix/client/v3/${tag}`, alice.access_token, { order: 0.5 })
    const answer = await get(alice, 'initialSync?limit=2')
    const of = (room_id: string) => answer.rooms.find((one: Body) => one.room_id === room_id)
    const { messages, state, account_data, ...head } = of(joined)
    expect(head).toEqual({ room_id: joined, membership: 'join', visibility: 'private', receipts: [] })
    expect(bodies(messages.chunk)).toEqual(['2', '3'])
    expect(messages.chunk[0].room_id).toBe(joined)
    expect(state.map((event: Body) => event.type)).toContain('m.room.create')
    expect(account_data).toEqual([{ type: 'm.tag', content: { tags: { 'u.x': { order: 0.5 } } } }])
    const back = await get(alice, `rooms/${encodeURIComponent(joined)}/messages?dir=b&from=${messages.start}`)
    expect(bodies(back.chunk)).toEqual(['1'])
    expect(of(invited)).toMatchObject({
      membership: 'invite',
      inviter: bob.user_id,
      invite: { sender: bob.user_id, state_key: alice.user_id, event_id: expect.any(String) },
    })
    expect(of(left)).toBeUndefined()
    const archived = await get(alice, 'initialSync?archived=true')
    expect(archived.rooms.find((one: Body) => one.room_id === left)).toMatchObject({ membership: 'leave' })
    expect(answer.presence).toBeInstanceOf(Array)
  })

  test('invites that the user does not take are left out', async () => {
    const carol = await server.register('carol')
    const invited = await room(bob)
    await post(bob, `rooms/${encodeURIComponent(invited)}/invite`, { user_id: carol.user_id })
    const path = `/_matrix/client/v3/user/${carol.user_id}/account_data/m.invite_permission_config`
    const rooms = async () => (await get(carol, 'initialSync')).rooms.map((one: Body) => one.room_id)
    expect(await rooms()).toEqual([invited])
    await http.json('PUT', path, carol.access_token, { default_action: 'block' })
    expect(await rooms()).toEqual([])
  })

  test('more rooms than are read at once', async () => {
    const user = await server.register('rooms')
    const rooms: string[] = []
    for (let i = 0; i < 60; i++) rooms.push(await room(user))
    const answer = await get(user, 'initialSync?limit=1')
    expect(answer.rooms.map((one: Body) => one.room_id).sort()).toEqual(rooms.sort())
  })
})

describe('client-server-api GET /rooms/{roomId}/initialSync', () => {
  test('for a member, for the world where it may read, and for nobody else', async () => {
    const id = await room(alice)
    for (const text of ['1', '2']) await say(alice, id, text)
    const path = `rooms/${encodeURIComponent(id)}/initialSync?limit=1`
    const answer = await get(alice, path)
    expect(answer).toMatchObject({ room_id: id, membership: 'join', visibility: 'private' })
    expect(bodies(answer.messages.chunk)).toEqual(['2'])
    expect(answer.state.some((event: Body) => event.type === 'm.room.create')).toBe(true)
    const refused = await http.request('GET', `/_matrix/client/v3/${path}`, guest.access_token)
    expect(refused.status).toBe(403)
    const state = `/_matrix/client/v3/rooms/${encodeURIComponent(id)}/state/m.room.history_visibility`
    await http.json('PUT', state, alice.access_token, { history_visibility: 'world_readable' })
    const peeked = await get(guest, path)
    expect(peeked).not.toHaveProperty('membership')
    expect(peeked.messages.chunk).toHaveLength(1)
  })
})

describe('client-server-api GET /events', () => {
  test('from the end of the initial sync on, without gaps, and waiting for what comes', async () => {
    const user = await server.register('events')
    const id = await room(user)
    let { end } = await get(user, 'initialSync')
    const expected: string[] = []
    for (let i = 0; i < 30; i++) {
      expected.push(`m${i}`)
      await say(user, id, `m${i}`)
    }
    const first = await get(user, `events?from=${end}&timeout=0`)
    expect(first.start).toBe(end)
    const messages = first.chunk.filter((event: Body) => event.type === 'm.room.message')
    expect(bodies(messages)).toEqual(expected)
    expect(messages[0].room_id).toBe(id)
    end = first.end
    const waiting = get(user, `events?from=${end}&timeout=20000`)
    await say(user, id, 'later')
    let heard = await waiting
    while (!bodies(heard.chunk).includes('later')) heard = await get(user, `events?from=${heard.end}&timeout=20000`)
    expect(bodies(heard.chunk)).toEqual(['later'])
    const receipt = `rooms/${encodeURIComponent(id)}/receipt/m.read/${encodeURIComponent(heard.chunk.at(-1).event_id)}`
    await post(user, receipt)
    const beside = await get(user, `events?from=${heard.end}&timeout=5000`)
    expect(beside.chunk).toContainEqual(expect.objectContaining({ type: 'm.receipt', room_id: id }))
  })

  test('invites, and the join with nothing from before it', async () => {
    const user = await server.register('invitee')
    const id = await room(alice)
    await say(alice, id, 'before')
    const { end } = await get(user, 'initialSync')
    await post(alice, `rooms/${encodeURIComponent(id)}/invite`, { user_id: user.user_id })
    const invited = await get(user, `events?from=${end}`)
    expect(invited.chunk).toContainEqual(
      expect.objectContaining({ type: 'm.room.member', room_id: id, state_key: user.user_id }),
    )
    await post(user, `join/${encodeURIComponent(id)}`)
    const joined = await get(user, `events?from=${invited.end}`)
    expect(bodies(joined.chunk)).toEqual([])
    expect(joined.chunk.filter((event: Body) => event.type === 'm.room.member')).toHaveLength(1)
  })

  test('who is not in a room hears what all the world may read', async () => {
    const id = await room(alice, {
      initial_state: [{ type: 'm.room.history_visibility', content: { history_visibility: 'world_readable' } }],
    })
    const { end } = await get(guest, 'initialSync')
    const path = `events?from=${end}&room_id=${encodeURIComponent(id)}`
    const waiting = get(guest, `${path}&timeout=20000`)
    await say(alice, id, 'hello world')
    expect(bodies((await waiting).chunk)).toEqual(['hello world'])
    const closed = await room(alice)
    const refused = `/_matrix/client/v3/events?from=${end}&room_id=${encodeURIComponent(closed)}`
    expect((await http.request('GET', refused, guest.access_token)).status).toBe(403)
    expect((await http.request('GET', '/_matrix/client/v3/events?from=x', guest.access_token)).status).toBe(400)
  })
})
