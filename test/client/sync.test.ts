/** What clients see that were away, that are several of one user, or whose server ends, as matrix-js-sdk knows it. */
import * as sdk from 'matrix-js-sdk'
import { describe, expect, test } from 'vitest'
import { type Client, messagesIn, startSync, until } from './sdk-client.ts'
import { becomes, id, joins, membership, received, roomOf, sdkServer, sees, text } from './sdk-server.ts'

const server = sdkServer()

const member = (client: Client, room: string, user: string) => client.getRoom(room)?.getMember(user)?.membership
const lines = (count: number, word: string) => Array.from({ length: count }, (_, i) => `${word} ${i}`)

/** Two people in a room. */
async function pair() {
  const [alice, bob] = [await server.person('alice'), await server.person('bob')]
  const { room_id } = await alice.createRoom({ preset: sdk.Preset.PublicChat })
  await joins(bob, room_id)
  await until(alice, () => member(alice, room_id, id(bob)) === 'join', 'bob')
  return { alice, bob, room_id }
}

describe('client-server-api/#syncing: clients that were away', () => {
  test('a stopped client resumes at its token and misses nothing', async () => {
    const { alice, bob, room_id } = await pair()
    await text(alice, room_id, 'before')
    await sees(bob, room_id, 'before')
    bob.stopClient()
    const token = bob.store.getSyncToken()
    for (const body of lines(8, 'missed')) await text(alice, room_id, body)
    const { room_id: invited } = await alice.createRoom({ invite: [id(bob)], name: 'an invite' })
    await alice.setRoomTopic(room_id, 'changed meanwhile')
    const created: string[] = []
    bob.on(sdk.RoomEvent.Timeline, (event, _room, toStart) => {
      if (!toStart) created.push(event.getId() ?? '')
    })
    await startSync(bob)
    await sees(bob, room_id, 'missed 7')
    await becomes(bob, invited, 'invite')
    expect(bob.store.getSyncToken()).not.toBe(token)
    expect(messagesIn(bob, room_id)).toEqual(['before', ...lines(8, 'missed')])
    expect(new Set(created).size).toBe(created.length)
    const topic = roomOf(bob, room_id).currentState.getStateEvents('m.room.topic', '')
    expect(topic?.getContent().topic).toBe('changed meanwhile')
  })

  test('left and joined again, kicked, banned and forgotten while away', async () => {
    const { alice, bob, room_id } = await pair()
    const again = await alice.createRoom({ preset: sdk.Preset.PublicChat })
    const banned = await alice.createRoom({ preset: sdk.Preset.PublicChat })
    const forgotten = await alice.createRoom({ preset: sdk.Preset.PublicChat })
    for (const room of [again, banned, forgotten]) await joins(bob, room.room_id)
    bob.stopClient()
    await alice.kick(room_id, id(bob), 'away too long')
    await alice.ban(banned.room_id, id(bob))
    await bob.leave(again.room_id)
    await text(alice, again.room_id, 'while bob is out')
    // The stopped client believes that it is joined, so its own joinRoom would do nothing.
    await bob.http.authedRequest(sdk.Method.Post, `/join/${encodeURIComponent(again.room_id)}`, undefined, {})
    await text(alice, again.room_id, 'welcome back')
    await bob.leave(forgotten.room_id)
    await bob.forget(forgotten.room_id)
    await startSync(bob)
    await becomes(bob, room_id, 'leave')
    await until(bob, () => member(bob, banned.room_id, id(bob)) === 'ban', 'the ban')
    await sees(bob, again.room_id, 'welcome back')
    expect(membership(bob, again.room_id)).toBe('join')
    await text(alice, again.room_id, 'and here')
    await sees(bob, again.room_id, 'and here')
    const kicked = roomOf(bob, room_id).currentState.getStateEvents('m.room.member', id(bob))
    expect(kicked?.getContent().reason).toBe('away too long')
    // None of them comes back to a client that starts anew, but the one bob is in.
    const fresh = await server.secondDevice(bob)
    expect(fresh.getRooms().map((room) => room.roomId)).toEqual([again.room_id])
    const archive = await fresh.syncLeftRooms()
    expect(archive.map((room) => room.roomId).sort()).toEqual([room_id, banned.room_id].sort())
  })

  test('an invite that came and went while away is not there', async () => {
    const { alice, bob } = await pair()
    const stays = await alice.createRoom({ invite: [id(bob)], name: 'stays' })
    await becomes(bob, stays.room_id, 'invite')
    bob.stopClient()
    await alice.kick(stays.room_id, id(bob))
    const goes = await alice.createRoom({ invite: [id(bob)], name: 'goes' })
    await alice.kick(goes.room_id, id(bob))
    const comes = await alice.createRoom({ invite: [id(bob)], name: 'comes' })
    await startSync(bob)
    await becomes(bob, comes.room_id, 'invite')
    await becomes(bob, stays.room_id, 'leave')
    expect(membership(bob, goes.room_id) ?? 'leave').toBe('leave')
  })

  test('the full state is sent to who asks for it', async () => {
    const { alice, bob, room_id } = await pair()
    await alice.setRoomName(room_id, 'a name')
    await until(bob, () => roomOf(bob, room_id).name === 'a name', 'the name')
    const since = bob.store.getSyncToken() ?? ''
    const answer = await bob.http.authedRequest<sdk.ISyncResponse>(sdk.Method.Get, '/sync', {
      since,
      full_state: 'true',
      timeout: '0',
    })
    const types = answer.rooms.join[room_id]?.state?.events.map((event) => event.type)
    expect(types).toEqual(expect.arrayContaining(['m.room.create', 'm.room.name', 'm.room.member']))
    expect(answer.rooms.join[room_id]?.timeline.events).toEqual([])
  })
})

describe('client-server-api/#syncing: rooms and devices', () => {
  test('rooms without a name are called after who is in them', async () => {
    const [alice, bob, carol] = [await server.person('alice'), await server.person('bob'), await server.person('carol')]
    for (const [client, name] of [
      [alice, 'Alice'],
      [bob, 'Bob'],
      [carol, 'Carol'],
    ] as const) {
      await client.setDisplayName(name)
    }
    const { room_id } = await alice.createRoom({ preset: sdk.Preset.PublicChat })
    const named = (client: Client, name: string) =>
      until(client, () => client.getRoom(room_id)?.name === name, `name "${name}"`)
    await named(alice, 'Empty room')
    await joins(bob, room_id)
    await named(alice, 'Bob')
    await named(bob, 'Alice')
    await joins(carol, room_id)
    await named(alice, 'Bob and Carol')
    await carol.leave(room_id)
    await named(alice, 'Bob')
    await bob.leave(room_id)
    await until(alice, () => roomOf(alice, room_id).name.startsWith('Empty room'), 'an empty room')
    expect(roomOf(alice, room_id).getJoinedMemberCount()).toBe(1)
  })

  test('two devices of one user see what each other does', async () => {
    const { alice, bob, room_id } = await pair()
    const second = await server.secondDevice(bob)
    const made = await bob.createRoom({ name: 'made on the first' })
    // Either may be the first to hear of the room, whichever made it.
    for (const client of [bob, second]) await becomes(client, made.room_id, 'join')
    await second.setRoomName(made.room_id, 'named on the second')
    await until(bob, () => roomOf(bob, made.room_id).name === 'named on the second', 'the name')
    const { event_id } = await text(alice, room_id, 'to both')
    const unread = (client: Client) => client.getRoom(room_id)?.getRoomUnreadNotificationCount()
    for (const client of [bob, second]) await until(client, () => unread(client) === 1, 'one unread')
    await second.sendReadReceipt(await received(second, room_id, event_id))
    await until(bob, () => unread(bob) === 0, 'nothing unread')
    await text(bob, room_id, 'from the first')
    await sees(second, room_id, 'from the first')
    await until(second, () => unread(second) === 0, 'nothing unread')
    await second.leave(room_id)
    await becomes(bob, room_id, 'leave')
  })

  test('a poll that waits ends as soon as there is something to tell', async () => {
    const { alice, bob, room_id } = await pair()
    const waits: number[] = []
    for (let i = 0; i < 10; i++) {
      const began = performance.now()
      await Promise.all([text(alice, room_id, `now ${i}`), sees(bob, room_id, `now ${i}`)])
      waits.push(performance.now() - began)
    }
    // Half of them: on a busy machine a single one may take longer.
    expect(waits.sort((a, b) => a - b)[5]).toBeLessThan(1000)
  })
})

describe('a server that ends and starts again under its clients', () => {
  test.each(['stop', 'kill'] as const)('%s: they go on by themselves, without a gap or a double', async (how) => {
    const { alice, bob, room_id } = await pair()
    const second = await server.secondDevice(alice)
    const everSeen: string[] = []
    bob.on(sdk.RoomEvent.Timeline, (event, room, toStart) => {
      if (room?.roomId === room_id && !toStart && event.getType() === 'm.room.message')
        everSeen.push(event.getId() ?? '')
    })
    const count = 14
    const sent: string[] = []
    // What fails is sent once more under the same transaction id, as clients do.
    const sending = (async () => {
      for (let i = 0; i < count; i++) {
        for (;;) {
          const path = `/rooms/${encodeURIComponent(room_id)}/send/m.room.message/${how}-${i}`
          const content = { msgtype: 'm.text', body: `${how} ${i}` }
          const answer = await alice.http
            .authedRequest<{ event_id: string }>(sdk.Method.Put, path, undefined, content)
            .catch((error: sdk.MatrixError) => {
              if (error.httpStatus !== undefined && error.httpStatus < 500) throw error
            })
          if (answer) {
            sent.push(answer.event_id)
            break
          }
          await new Promise((resolve) => setTimeout(resolve, 50))
        }
      }
    })()
    await sees(bob, room_id, `${how} 6`)
    await server.process[how]()
    await server.process.start()
    await sending
    expect(new Set(sent).size).toBe(count)
    for (const client of [bob, alice, second]) {
      await sees(client, room_id, `${how} ${count - 1}`)
      expect(messagesIn(client, room_id)).toEqual(lines(count, how))
    }
    expect(everSeen).toEqual(sent)
    await bob.sendTyping(room_id, true, 5000)
    await until(alice, () => roomOf(alice, room_id).getMember(id(bob))?.typing ?? false, 'typing')
  })
})
