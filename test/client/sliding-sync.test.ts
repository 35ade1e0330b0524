/** Sliding sync as matrix-js-sdk does it: lists, ranges that grow, subscriptions, extensions, positions that are forgotten.
 *  https://github.com/matrix-org/matrix-spec-proposals/pull/4186 */
import * as sdk from 'matrix-js-sdk'
import { type SlidingSync, SlidingSyncEvent } from 'matrix-js-sdk/lib/sliding-sync.js'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { HttpClient } from '../support/http-client.ts'
import { type CryptoClient, cryptoClient, cryptoOf, deciphers } from './crypto-client.ts'
import { messagesIn, quietClient, until } from './sdk-client.ts'
import { becomes, id, joins, membership, sees, text } from './sdk-server.ts'
import { allState, slidingSync } from './sliding-client.ts'
import { type Stage, stages } from './stages.ts'

/** Rooms at the top of the list, with their last message. */
const top = (last: number) => ({
  recent: {
    ranges: [[0, last]],
    timeline_limit: 1,
    required_state: [
      ['m.room.create', ''],
      ['m.room.name', ''],
      ['m.room.encryption', ''],
      ['m.room.member', '$LAZY'],
      ['m.room.member', '$ME'],
    ],
  },
})

type Lists = Parameters<typeof slidingSync>[1]

describe.each(['one process', 'roles'] as const)('MSC4186 by matrix-js-sdk, %s', (name) => {
  let stage: Stage
  let clients: CryptoClient[] = []
  beforeAll(async () => {
    if (stages[name].there) stage = await stages[name].open()
  })
  afterEach(() => {
    for (const client of clients) client.stopClient()
    clients = []
  })
  afterAll(() => stage?.close())

  /** Somebody with a client that syncs by sliding sync, by default with one list of all rooms. */
  const person = async (called: string, lists?: Lists) => enter(await stage.register(called), lists)

  async function enter(account: Awaited<ReturnType<Stage['register']>>, lists?: Lists) {
    let sync: SlidingSync | undefined
    const client = await cryptoClient({ ...account, baseUrl: stage.baseUrl }, new Map(), (of) => {
      sync = slidingSync(of, lists)
      return { slidingSync: sync }
    })
    clients.push(client)
    if (!sync) throw new Error('the client did not start')
    /** What the server told of positions that it does not know. */
    const unknown: string[] = []
    sync.on(SlidingSyncEvent.Lifecycle, (_state, _response, error) => {
      if (error instanceof sdk.MatrixError) unknown.push(String(error.errcode))
    })
    return { client, sync, unknown }
  }

  test.runIf(stages[name].there)('lists, ranges that grow, subscriptions and what is live', async () => {
    const { client: bob } = await person('bob')
    const { client: alice, sync } = await person('alice', top(4))
    const rooms: string[] = []
    for (let i = 0; i < 12; i++) {
      const { room_id } = await bob.createRoom({ name: `room ${i}`, preset: sdk.Preset.PublicChat })
      await alice.joinRoom(room_id)
      await text(bob, room_id, `first in ${i}`)
      rooms.push(room_id)
    }
    const room = (i: number) => String(rooms[i])
    const idsOf = (client: CryptoClient) =>
      client
        .getRooms()
        .map(({ roomId }) => roomId)
        .toSorted()

    // A client that comes later has the five rooms in which something happened last, and knows how many there are.
    const account = await stage.register('late')
    const quiet = quietClient({ ...account, baseUrl: stage.baseUrl })
    for (const room_id of rooms) {
      await quiet.joinRoom(room_id)
      await text(bob, room_id, 'for those who are late')
    }
    const { client: late, sync: window } = await enter(account, top(4))
    expect(window.getListData('recent')?.joinedCount).toBe(12)
    expect(idsOf(late)).toEqual(rooms.slice(7).toSorted())
    expect(late.getRoom(room(11))?.name).toBe('room 11')
    expect(messagesIn(late, room(11))).toEqual(['for those who are late'])

    // A subscription brings a room from outside the window, with more of its timeline.
    window.modifyRoomSubscriptions(new Set([room(0)]))
    await sees(late, room(0), 'first in 0')
    expect(messagesIn(late, room(0))).toEqual(['first in 0', 'for those who are late'])
    expect(idsOf(late)).toHaveLength(6)

    // The window grows, step by step.
    for (const last of [6, 8, 11]) {
      window.setListRanges('recent', [[0, last]])
      await until(late, () => idsOf(late).length >= last + 1, `${last + 1} rooms`)
    }
    expect(
      late
        .getRooms()
        .map(({ roomId }) => roomId)
        .toSorted(),
    ).toEqual(rooms.toSorted())

    // What is live: in a room in the window, and in one that comes into it by that.
    await until(alice, () => idsOf(alice).length === 12, 'all rooms, each of which was at the top once')
    expect(sync.getListData('recent')?.joinedCount).toBe(12)
    await text(bob, room(11), 'live')
    await text(bob, room(2), 'live, from below')
    for (const client of [alice, late]) {
      await sees(client, room(11), 'live')
      await sees(client, room(2), 'live, from below')
    }
    await text(alice, room(11), 'answer')
    await sees(bob, room(11), 'answer')
  })

  test.runIf(stages[name].there)('extensions: account data, receipts, typing', async () => {
    const [{ client: alice }, { client: bob }] = [await person('alice'), await person('bob')]
    const { room_id } = await alice.createRoom({ preset: sdk.Preset.PublicChat })
    await bob.joinRoom(room_id)
    await becomes(bob, room_id, 'join')
    const { event_id } = await text(alice, room_id, 'read me')
    await sees(bob, room_id, 'read me')
    const event = bob.getRoom(room_id)?.findEventById(event_id)
    await bob.sendReadReceipt(event ?? null)
    // Not what the client thinks because bob joined.
    const hasRead = () => alice.getRoom(room_id)?.getEventReadUpTo(id(bob), true) === event_id
    await until(alice, hasRead, "bob's receipt")
    await bob.sendTyping(room_id, true, 10_000)
    await until(alice, () => alice.getRoom(room_id)?.getMember(id(bob))?.typing === true, 'bob typing')
    await bob.sendTyping(room_id, false, 0)
    await until(alice, () => alice.getRoom(room_id)?.getMember(id(bob))?.typing === false, 'bob not typing')
    const theme = 'im.vector.web.settings'
    await alice.setAccountData(theme as never, { theme: 'dark' } as never)
    const isDark = () => alice.getAccountData(theme as never)?.getContent<{ theme?: string }>().theme === 'dark'
    await until(alice, isDark, 'account data')
    await alice.setRoomTag(room_id, 'm.favourite', { order: 0.5 })
    await until(alice, () => alice.getRoom(room_id)?.tags['m.favourite'] !== undefined, 'the tag')
  })

  test.runIf(stages[name].there)(
    'an encrypted conversation, through a lost network and a position that is forgotten',
    { timeout: 180_000 },
    async () => {
      const [{ client: alice, unknown }, { client: bob }] = [await person('alice'), await person('bob')]
      const { room_id } = await alice.createRoom({
        preset: sdk.Preset.TrustedPrivateChat,
        invite: [id(bob)],
        initial_state: [{ type: 'm.room.encryption', state_key: '', content: { algorithm: 'm.megolm.v1.aes-sha2' } }],
      })
      await until(bob, () => membership(bob, room_id) === 'invite', 'the invite')
      await joins(bob, room_id)
      await until(alice, () => alice.getRoom(room_id)?.getJoinedMemberCount() === 2, 'bob in the room')
      await text(alice, room_id, 'one')
      await deciphers(bob, room_id, 'one')
      await text(bob, room_id, 'two')
      await deciphers(alice, room_id, 'two')

      // Away for a while: the client goes on where it was.
      alice.offline = true
      await text(bob, room_id, 'three')
      alice.offline = false
      await deciphers(alice, room_id, 'three')
      expect(unknown).toEqual([])

      // Away while the server forgets all connections; the key of the next message comes meanwhile.
      alice.offline = true
      await stage.restart()
      const { room_id: second } = await bob.createRoom({
        preset: sdk.Preset.TrustedPrivateChat,
        invite: [id(alice)],
        initial_state: [
          { type: 'm.room.encryption', state_key: '', content: { algorithm: 'm.megolm.v1.aes-sha2' } },
          { type: 'm.room.history_visibility', state_key: '', content: { history_visibility: 'invited' } },
        ],
      })
      await until(bob, () => cryptoOf(bob).isEncryptionEnabledInRoom(second), 'the second room')
      await text(bob, second, 'four')
      await text(bob, room_id, 'five')
      alice.offline = false
      await deciphers(alice, room_id, 'five')
      expect(new Set(unknown)).toEqual(new Set(['M_UNKNOWN_POS']))
      await until(alice, () => membership(alice, second) === 'invite', 'the second invite')
      await joins(alice, second)
      await deciphers(alice, second, 'four')
      await text(alice, room_id, 'six')
      await deciphers(bob, room_id, 'six')
    },
  )

  test.runIf(stages[name].there)('500 connections that post the same position at once', async () => {
    const { hostname, port } = new URL(stage.baseUrl)
    const http = new HttpClient(hostname, Number(port))
    try {
      const path = '/_matrix/client/unstable/org.matrix.simplified_msc3575/sync'
      const { access_token } = await stage.register('many')
      const { room_id } = await http.json<{ room_id: string }>(
        'POST',
        '/_matrix/client/v3/createRoom',
        access_token,
        {},
      )
      const body = {
        conn_id: 'same',
        lists: { all: { ranges: [[0, 9]], timeline_limit: 5, required_state: allState } },
        extensions: { to_device: { enabled: true }, e2ee: { enabled: true }, account_data: { enabled: true } },
      }
      const first = await http.json<Answer>('POST', path, access_token, body)
      const all = (pos: string, timeout: number) =>
        Array.from({ length: 500 }, () =>
          http.request('POST', `${path}?pos=${encodeURIComponent(pos)}&timeout=${timeout}`, access_token, body),
        )
      const waiting = all(first.pos, 30_000)
      const send = `/_matrix/client/v3/rooms/${encodeURIComponent(room_id)}/send/m.room.message/1`
      await http.json('PUT', send, access_token, { msgtype: 'm.text', body: 'for all' })
      const answers = await Promise.all(waiting)
      expect(answers.filter(({ status }) => status !== 200)).toEqual([])
      const told = answers.map((answer) => JSON.parse(answer.body) as Answer)
      for (const { rooms } of told) {
        expect(rooms?.[room_id]?.timeline?.map(({ content }) => content.body)).toEqual(['for all'])
      }
      // Each of them can go on with what it was given.
      const positions = [...new Set(told.map(({ pos }) => pos))]
      const next = await Promise.all(positions.flatMap((pos) => all(pos, 0).slice(0, 500 / positions.length)))
      expect(next.filter(({ status }) => status !== 200)).toEqual([])
      expect(next.filter(({ body }) => body.includes('for all'))).toEqual([])
    } finally {
      http.close()
    }
  })
})

interface Answer {
  readonly pos: string
  readonly rooms?: Record<string, { timeline?: { content: { body?: string } }[] }>
}
