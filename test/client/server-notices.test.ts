/** Messages of the server to its users, and who may send them. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type ClientServer, clientServer, type TestClient } from '../support/client-server.ts'

const path = '/_synapse/admin/v1/send_server_notice'
const sender = '@_server:hs1'

let hs: ClientServer
let admin: TestClient
beforeAll(async () => {
  hs = await clientServer()
  admin = await hs.register('root', { admin: true })
})
afterAll(() => hs.close())

const notice = (to: TestClient, body = 'Closing at six') => ({
  user_id: to.user_id,
  content: { msgtype: 'm.text', body },
})
const send = async (to: TestClient, txn?: string): Promise<string> =>
  (await admin.must(txn ? 'PUT' : 'POST', txn ? `${path}/${txn}` : path, notice(to))).event_id

describe('client-server-api/#server-notices', () => {
  test('the first one makes a room and invites; the room is tagged, and its invite can not be refused', async () => {
    const alice = await hs.register('alice')
    const event_id = await send(alice)
    const { rooms, account_data } = await alice.sync()
    const [room_id] = Object.keys(rooms.invite)
    expect(account_data).toBeDefined()
    const invited = rooms.invite[room_id as string].invite_state.events
    expect(invited.find((e: { type: string }) => e.type === 'm.room.name').content.name).toBe('Server notices')
    expect(invited.find((e: { state_key: string }) => e.state_key === alice.user_id).sender).toBe(sender)
    const tags = await alice.must('GET', `user/${alice.user_id}/rooms/${room_id}/tags`)
    expect(tags).toEqual({ tags: { 'm.server_notice': {} } })
    const refused = await alice.ask('POST', `rooms/${room_id}/leave`, {})
    expect(refused).toMatchObject({ status: 403, body: { errcode: 'M_CANNOT_LEAVE_SERVER_NOTICE_ROOM' } })

    await alice.must('POST', `rooms/${room_id}/join`, {})
    const read = await alice.must('GET', `rooms/${room_id}/event/${encodeURIComponent(event_id)}`)
    expect(read).toMatchObject({ sender, content: { body: 'Closing at six' } })
    // Who reads does not write.
    const said = await alice.ask('PUT', `rooms/${room_id}/send/m.room.message/1`, { msgtype: 'm.text', body: 'Why?' })
    expect(said.body.errcode).toBe('M_FORBIDDEN')

    // Having joined, one may leave; the next notice comes by the same room.
    await alice.must('POST', `rooms/${room_id}/leave`, {})
    await send(alice)
    expect(Object.keys((await alice.sync()).rooms.invite)).toEqual([room_id])
  })

  test('notices that come together to a new user make one room, and a transaction sends one', async () => {
    const bob = await hs.register('bob')
    const sent = await Promise.all([send(bob), send(bob), send(bob, 'a'), send(bob, 'a'), send(bob, 'b')])
    expect(sent[2]).toBe(sent[3])
    expect(new Set(sent).size).toBe(4)
    const { rooms } = await bob.sync()
    expect(Object.keys(rooms.invite)).toHaveLength(1)
  })

  test('administrators alone send them, to users of this server', async () => {
    const carol = await hs.register('carol')
    for (const body of [undefined, notice(carol)]) {
      expect(await carol.ask('POST', path, body)).toMatchObject({ status: 403, body: { errcode: 'M_FORBIDDEN' } })
    }
    for (const user_id of ['@nobody:hs1', '@carol:elsewhere', sender]) {
      const answer = await admin.ask('POST', path, { ...notice(carol), user_id })
      expect(answer).toMatchObject({ status: 404, body: { errcode: 'M_NOT_FOUND' } })
    }
    expect(await admin.ask('POST', path, { user_id: carol.user_id })).toMatchObject({ status: 400 })
    expect((await carol.sync()).rooms).toBeUndefined()
  })

  test('a deactivated account gets none', async () => {
    const dave = await hs.register('dave')
    await send(dave)
    await hs.main.commands.deactivateAccount({ user_id: dave.user_id, erase: false })
    expect((await admin.ask('POST', path, notice(dave))).body.errcode).toBe('M_NOT_FOUND')
  })
})
