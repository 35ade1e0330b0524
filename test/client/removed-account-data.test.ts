/** Account data that is taken away. https://github.com/matrix-org/matrix-spec-proposals/pull/3391
 *  and, with a device, https://github.com/matrix-org/matrix-spec-proposals/pull/3890 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type ClientServer, clientServer, type TestClient } from '../support/client-server.ts'

const type = 'org.example.test'
const removed = { type, content: {} }
const unstable = '/_matrix/client/unstable/org.matrix.msc3391'
const sliding = '/_matrix/client/unstable/org.matrix.simplified_msc3575/sync'

let hs: ClientServer
let users = 0
beforeAll(async () => {
  hs = await clientServer()
})
afterAll(() => hs.close())

interface Entry {
  readonly type: string
}
const ofType = (events: readonly Entry[] = []) => events.filter((entry) => entry.type === type)

async function person(): Promise<{ alice: TestClient; room_id: string }> {
  const alice = await hs.register(`person${++users}`)
  const { room_id } = await alice.must('POST', 'createRoom', {})
  return { alice, room_id }
}

describe('MSC3391', () => {
  test.each(['DELETE', 'PUT'])('%s takes global data and data of a room away', async (method) => {
    const { alice, room_id } = await person()
    const take = (path: string) =>
      method === 'PUT' ? alice.must('PUT', path, {}) : alice.must('DELETE', `${unstable}/${path}`)
    const ask = { extensions: { account_data: { enabled: true } }, lists: { all: list } }
    const slide = async (pos?: string) => {
      const { extensions, ...rest } = await alice.must('POST', sliding, { ...ask, pos })
      const { global, rooms } = extensions.account_data ?? {}
      return { pos: rest.pos as string, global: ofType(global), room: ofType(rooms?.[room_id]) }
    }
    const told = async (since?: string) => {
      const { account_data, rooms } = await alice.sync(since === undefined ? {} : { since })
      return { global: ofType(account_data?.events), room: ofType(rooms?.join?.[room_id]?.account_data.events) }
    }
    const global = `user/${alice.user_id}/account_data/${type}`
    const ofRoom = `user/${alice.user_id}/rooms/${room_id}/account_data/${type}`
    for (const path of [global, ofRoom]) await alice.must('PUT', path, { a: 1 })
    const { next_batch } = await alice.sync()
    const { pos } = await slide()
    const there = { type, content: { a: 1 } }
    expect(await told()).toEqual({ global: [there], room: [there] })

    for (const path of [global, ofRoom]) await take(path)
    for (const forgets of [false, true]) {
      if (forgets) hs.forget()
      expect(await told(next_batch)).toEqual({ global: [removed], room: [removed] })
      expect(await told()).toEqual({ global: [], room: [] })
      // In one process, connections of sliding sync go with the process.
      if (!forgets) expect(await slide(pos)).toMatchObject({ global: [removed], room: [removed] })
      expect(await slide()).toMatchObject({ global: [], room: [] })
    }
    for (const path of [global, ofRoom]) {
      expect(await alice.ask('GET', path)).toMatchObject({ status: 404, body: { errcode: 'M_NOT_FOUND' } })
    }
    expect(ofType((await alice.must('GET', `rooms/${room_id}/initialSync`)).account_data)).toEqual([])

    // Twice is once, and nothing is told of it.
    const { next_batch: since } = await alice.sync()
    for (const path of [global, ofRoom]) await take(path)
    expect(await told(since)).toEqual({ global: [], room: [] })
    await alice.must('PUT', global, { a: 2 })
    expect((await told(since)).global).toEqual([{ type, content: { a: 2 } }])
  })

  test('who comes back into a room hears what was taken away meanwhile', async () => {
    const { alice } = await person()
    const bob = await hs.register(`person${++users}`)
    const { room_id } = await bob.must('POST', 'createRoom', { preset: 'public_chat' })
    await alice.must('POST', `rooms/${room_id}/join`, {})
    const path = `user/${alice.user_id}/rooms/${room_id}/account_data/${type}`
    await alice.must('PUT', path, { a: 1 })
    await alice.sync()
    await alice.must('POST', `rooms/${room_id}/leave`, {})
    await alice.must('PUT', path, {})
    const { next_batch: since } = await alice.sync()
    await alice.must('POST', `rooms/${room_id}/join`, {})
    const { rooms } = await alice.sync({ since })
    expect(ofType(rooms.join[room_id].account_data.events)).toEqual([removed])
  })

  test.each([
    ['m.push_rules', 405, 'M_BAD_JSON'],
    ['m.fully_read', 405, 'M_BAD_JSON'],
    ['a'.repeat(256), 400, 'M_INVALID_PARAM'],
  ])('%s is not for clients to take away', async (managed, status, errcode) => {
    const { alice, room_id } = await person()
    for (const place of ['', `rooms/${room_id}/`]) {
      const reply = await alice.ask('DELETE', `${unstable}/user/${alice.user_id}/${place}account_data/${managed}`)
      expect(reply).toMatchObject({ status, body: { errcode } })
    }
  })

  test("nobody takes away another's", async () => {
    const [{ alice, room_id }, { alice: bob }] = [await person(), await person()]
    for (const place of ['', `rooms/${room_id}/`]) {
      await alice.must('PUT', `user/${alice.user_id}/${place}account_data/${type}`, { a: 1 })
      const path = `${unstable}/user/${alice.user_id}/${place}account_data/${type}`
      expect(await bob.ask('DELETE', path)).toMatchObject({ status: 403, body: { errcode: 'M_FORBIDDEN' } })
    }
    expect(await alice.must('GET', `user/${alice.user_id}/account_data/${type}`)).toEqual({ a: 1 })
  })

  test('tags that a client wrote in another form, or took away, can be set', async () => {
    const { alice, room_id } = await person()
    for (const content of [{}, { tags: null }, { tags: 1 }]) {
      await alice.must('PUT', `user/${alice.user_id}/rooms/${room_id}/account_data/m.tag`, content)
      await alice.must('PUT', `user/${alice.user_id}/rooms/${room_id}/tags/u.x`, { order: 0.5 })
      const path = `user/${alice.user_id}/rooms/${room_id}/tags`
      expect(await alice.must('GET', path)).toEqual({ tags: { 'u.x': { order: 0.5 } } })
    }
  })
})

const list = { timeline_limit: 0, required_state: [], ranges: [[0, 9]] }

describe('MSC3890', () => {
  const silenced = { is_silenced: true }

  test.each(['m.', 'org.matrix.msc3890.'])('%slocal_notification_settings go with their device', async (prefix) => {
    const { alice } = await person()
    const path = (device: string) => `user/${alice.user_id}/account_data/${prefix}local_notification_settings.${device}`
    const [second, third] = [await hs.login(alice.user_id), await hs.login(alice.user_id, 'with:\uE000 and %')]
    const { next_batch: since } = await alice.sync()
    const settings = [alice, second, third].map((client) => path(encodeURIComponent(client.device_id)))
    for (const place of settings) await alice.must('PUT', place, silenced)
    const status = () => Promise.all(settings.map(async (place) => (await alice.ask('GET', place)).status))
    expect(await status()).toEqual([200, 200, 200])

    await second.must('POST', 'logout', {})
    expect(await status()).toEqual([200, 404, 200])
    const { account_data } = await alice.sync({ since })
    const told = account_data.events.find((entry: Entry) => entry.type.endsWith(`.${second.device_id}`))
    expect(told.content).toEqual({})

    await third.must('POST', 'logout', {})
    expect(await status()).toEqual([200, 404, 404])
  })

  test('the device that changes the password keeps its own, and loses nothing of others when it logs in again', async () => {
    const { alice } = await person()
    const [second] = [await hs.login(alice.user_id)]
    const path = (device: string) => `user/${alice.user_id}/account_data/m.local_notification_settings.${device}`
    for (const client of [alice, second]) await alice.must('PUT', path(client.device_id), silenced)
    const again = await hs.login(alice.user_id, second.device_id)
    expect((await again.ask('GET', path(second.device_id))).status).toBe(200)
    await hs.main.commands.changePassword({
      user_id: alice.user_id,
      new_password: 'another one',
      logout_devices: true,
      keep_device_id: alice.device_id,
    })
    expect((await alice.ask('GET', path(alice.device_id))).status).toBe(200)
    expect((await alice.ask('GET', path(second.device_id))).status).toBe(404)
  })
})
