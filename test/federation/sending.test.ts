/** https://spec.matrix.org/v1.19/server-server-api/#transactions, from this server to another. */
import { createPublicKey } from 'node:crypto'
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { outboundEdus } from '../../functions/main/federation/outbox.ts'
import { fakeClock } from '../../shared/clock.ts'
import type { DeviceId, UserId } from '../../shared/matrix/ids.ts'
import { isJsonObject, type JsonObject } from '../../shared/matrix/json-value.ts'
import { verifyText } from '../../shared/matrix/signatures.ts'
import { parseXMatrix, signedRequestText } from '../../shared/matrix/x-matrix.ts'
import {
  type FederationPeer,
  federationPeer,
  type PeerAnswer,
  type TestAuthority,
  testAuthority,
} from '../support/federation-peer.ts'
import { type FederationServer, federationServer } from '../support/federation-server.ts'
import { type PeerRoom, peerRoom } from '../support/peer-room.ts'

const clock = fakeClock(Date.now())
const minuteMs = 60_000
const sendPath = '/_matrix/federation/v1/send/'

interface Inbox {
  readonly peer: FederationPeer
  /** Transactions as they came, the refused ones too. */
  readonly transactions: { readonly id: string; readonly body: JsonObject; readonly taken: boolean }[]
  pdus(): JsonObject[]
  /** Texts of messages that were taken, in order. */
  messages(): string[]
  edus(edu_type: string): JsonObject[]
  /** How it answers from now on. */
  answer: () => PeerAnswer | Promise<PeerAnswer>
}

let authority: TestAuthority
let server: FederationServer
let one: Inbox
let two: Inbox
beforeAll(async () => {
  authority = testAuthority()
  server = await federationServer({ authority, clock })
})
afterAll(async () => {
  await server?.close()
  authority?.close()
})
beforeEach(async () => {
  const boxes = await Promise.all([inbox(), inbox()])
  ;[one, two] = boxes
  return async () => {
    await Promise.all(boxes.map(({ peer }) => peer.close()))
  }
})

const up = (): PeerAnswer => ({ body: { pdus: {} } })
const down = (): PeerAnswer => ({ status: 503, body: { errcode: 'M_UNKNOWN', error: 'away' } })

async function inbox(): Promise<Inbox> {
  const peer = await federationPeer(authority)
  const taken = () => box.transactions.filter((transaction) => transaction.taken)
  const box: Inbox = {
    peer,
    transactions: [],
    pdus: () => taken().flatMap(({ body }) => body.pdus as JsonObject[]),
    messages: () =>
      box
        .pdus()
        .flatMap(({ type, content }) =>
          type === 'm.room.message' && isJsonObject(content) ? [String(content.body)] : [],
        ),
    edus: (edu_type) =>
      taken().flatMap(({ body }) =>
        ((body.edus ?? []) as JsonObject[]).flatMap((edu) =>
          edu.edu_type === edu_type ? [edu.content as JsonObject] : [],
        ),
      ),
    answer: up,
  }
  // Time passes faster here.
  const keys = () => ({ body: peer.keyDocument({ valid_until_ts: clock.now() + 24 * 60 * minuteMs }) })
  peer.on('/_matrix/key/v2/server', keys)
  peer.on(sendPath, async (request) => {
    const answer = await box.answer()
    const id = request.uri.slice(sendPath.length)
    box.transactions.push({ id, body: request.body ?? {}, taken: (answer.status ?? 200) === 200 })
    return answer
  })
  return box
}

const until = (check: () => void | Promise<void>) => vi.waitFor(check, { timeout: 10_000, interval: 10 })
const say = (room: PeerRoom, body: string) =>
  server.main.commands.sendEvent({
    room_id: room.room_id,
    user_id: room.alice,
    type: 'm.room.message',
    content: { msgtype: 'm.text', body },
  })
const destination = async ({ peer }: Inbox) => {
  const [row] = await server.main.database.sql<
    { attempts: number; retry_ts: number | null; transaction_id: string | null; last_error: string | null }[]
  >`select attempts, retry_ts, transaction_id, last_error from destinations where server_name = ${peer.server_name}`
  return row
}
const failed = (box: Inbox, attempts: number) =>
  until(async () => expect(await destination(box)).toMatchObject({ attempts }))

describe('events out', () => {
  test('our events go to the servers in the room, signed, and not back to where they came from', async () => {
    const room = await peerRoom(server, one.peer)
    await say(room, 'first')
    await room.catchUp()
    await room.say('theirs')
    await say(room, 'second')
    await until(() => expect(one.messages()).toEqual(['first', 'second']))
    const request = one.peer.requests.findLast(({ uri }) => uri.startsWith(sendPath))
    const header = parseXMatrix(request?.headers.authorization ?? '')
    const content = request?.body as JsonObject
    const signed = { method: 'PUT', uri: request?.uri ?? '', origin: 'hs1', destination: one.peer.server_name, content }
    const [key] = server.main.federation.signingKeys
    expect(verifyText(signedRequestText(signed), header?.sig ?? '', createPublicKey(key.privateKey))).toBe(true)
    expect(content).toMatchObject({ origin: 'hs1' })
    expect(two.transactions).toEqual([])
  })

  test('the server of whoever is kicked hears of it, and of nothing after', async () => {
    const room = await peerRoom(server, one.peer)
    const { room_id, alice, bob } = room
    await server.main.commands.changeMembership({ room_id, user_id: alice, target: bob, action: 'kick' })
    await say(room, 'without them')
    const other = await peerRoom(server, one.peer)
    await say(other, 'elsewhere')
    await until(() => expect(one.messages()).toContain('elsewhere'))
    expect(one.pdus().filter((pdu) => pdu.room_id === room_id)).toMatchObject([
      { type: 'm.room.member', state_key: bob, content: { membership: 'leave' } },
    ])
  })

  test('an invitation that is taken back is told to the server of the invited user', async () => {
    const { room_id, alice } = await peerRoom(server, one.peer)
    const target = `@carol:${two.peer.server_name}` as UserId
    await server.main.rooms.run(room_id, 'test', ({ append }) =>
      append({ type: 'm.room.member', state_key: target, sender: alice, content: { membership: 'invite' } }),
    )
    await server.main.commands.changeMembership({ room_id, user_id: alice, target, action: 'kick' })
    await until(() => expect(two.pdus()).toMatchObject([{ state_key: target, content: { membership: 'leave' } }]))
  })
})

describe('a server that does not answer', () => {
  test('gets the same transaction again, less and less often, and then all that waits, in order', async () => {
    const room = await peerRoom(server, one.peer)
    const healthy = await peerRoom(server, two.peer)
    one.answer = down
    await say(room, 'w0')
    await failed(one, 1)
    for (let i = 1; i < 60; i++) await say(room, `w${i}`)
    await say(healthy, 'not held up')
    await until(() => expect(two.messages()).toEqual(['not held up']))
    clock.advance(1_000)
    await failed(one, 2)
    clock.advance(1_000)
    expect(await destination(one)).toMatchObject({ attempts: 2, last_error: expect.stringContaining('503') })
    clock.advance(1_000)
    await failed(one, 3)
    expect(new Set(one.transactions.map(({ id }) => id)).size).toBe(1)
    expect(new Set(one.transactions.map(({ body }) => JSON.stringify(body))).size).toBe(1)
    one.answer = up
    clock.advance(minuteMs)
    await until(() => expect(one.messages()).toEqual(Array.from({ length: 60 }, (_, i) => `w${i}`)))
    for (const { body } of one.transactions) expect((body.pdus as JsonObject[]).length).toBeLessThanOrEqual(50)
    await until(async () =>
      expect(await destination(one)).toMatchObject({ attempts: 0, retry_ts: null, transaction_id: null }),
    )
  })

  test('costs the others nothing while it does not answer at all', async () => {
    const room = await peerRoom(server, one.peer)
    const healthy = await peerRoom(server, two.peer)
    const asked = Promise.withResolvers<void>()
    one.answer = () => {
      asked.resolve()
      return new Promise(() => {})
    }
    await say(room, 'into the void')
    await asked.promise
    for (let i = 0; i < 5; i++) await say(healthy, `h${i}`)
    await until(() => expect(two.messages()).toEqual(['h0', 'h1', 'h2', 'h3', 'h4']))
  })

  test('is tried at once when it gives a sign of life', async () => {
    const room = await peerRoom(server, one.peer)
    one.answer = down
    await say(room, 'late')
    await failed(one, 1)
    clock.advance(1_000)
    await failed(one, 2)
    clock.advance(2_000)
    await failed(one, 3)
    one.answer = up
    // Too early for the next attempt.
    clock.advance(1_500)
    await room.catchUp()
    await room.send([])
    await until(() => expect(one.messages()).toEqual(['late']))
  })

  test('gets after a crash what was begun before it, under the same id', async () => {
    const room = await peerRoom(server, one.peer)
    const asked = Promise.withResolvers<void>()
    one.answer = () => {
      asked.resolve()
      return new Promise(() => {})
    }
    await say(room, 'begun')
    await asked.promise
    const begun = (await destination(one))?.transaction_id
    await say(room, 'waiting')
    await server.main.close()
    one.answer = up
    const after = await server.main.restarted()
    try {
      await until(() => expect(one.messages()).toEqual(['begun', 'waiting']))
      const ids = one.transactions.filter(({ body }) => JSON.stringify(body).includes('"begun"')).map(({ id }) => id)
      expect(ids).toEqual([begun])
    } finally {
      await after.drop()
      server = await federationServer({ authority, clock })
    }
  })
})

describe('what all servers have', () => {
  test('is deleted after a while, and what one does not have is kept', async () => {
    const { sql } = server.main.database
    const [healthy, failing] = [await peerRoom(server, one.peer), await peerRoom(server, two.peer)]
    await say(healthy, 'had')
    await until(() => expect(one.messages()).toEqual(['had']))
    await until(async () => expect(await destination(one)).toMatchObject({ transaction_id: null }))
    const left = async () => (await sql`select position from outbound_events`).length
    /** What is under way when it is tidied up is left for the next time. */
    const untilLeft = (count: number) =>
      until(async () => {
        clock.advance(5 * minuteMs)
        expect(await left()).toBe(count)
      })
    await untilLeft(0)
    two.answer = down
    await say(failing, 'waits')
    await failed(two, 1)
    await say(healthy, 'had too')
    await until(() => expect(one.messages()).toEqual(['had', 'had too']))
    for (const attempts of [2, 3, 4, 5, 6]) {
      clock.advance(5 * minuteMs)
      await failed(two, attempts)
    }
    expect(await left()).toBe(2)
    two.answer = up
    clock.advance(5 * minuteMs)
    await until(() => expect(two.messages()).toEqual(['waits']))
    await untilLeft(0)
    await until(async () => {
      clock.advance(5 * minuteMs)
      expect(await sql`select transaction_id from outbound_transactions`).toEqual([])
    })
  })
})

describe('EDUs out', () => {
  test('those that must arrive wait in their order, at most 100 at a time', async () => {
    const { committer } = server.main.rooms.deps
    const { server_name } = one.peer
    one.answer = down
    const edu = (n: number) => ({ server_name, edu_type: 'm.direct_to_device', content: JSON.stringify({ n }) })
    await committer.commit(outboundEdus(Array.from({ length: 150 }, (_, n) => edu(n))))
    await failed(one, 1)
    await committer.commit(outboundEdus([edu(150)]))
    one.answer = up
    clock.advance(minuteMs)
    const all = Array.from({ length: 151 }, (_, n) => n)
    await until(() => expect(one.edus('m.direct_to_device').map(({ n }) => n)).toEqual(all))
    for (const { body } of one.transactions) expect(((body.edus ?? []) as JsonObject[]).length).toBeLessThanOrEqual(100)
    await until(async () => expect(await server.main.database.sql`select edu_id from outbound_edus`).toHaveLength(0))
  })

  test('messages to devices go to their servers once, in as many EDUs as they need', async () => {
    const user_id = await server.main.user('dora')
    const target = `@bob:${one.peer.server_name}` as UserId
    const other = `@bob:${two.peer.server_name}` as UserId
    const long = 'x'.repeat(40_000)
    const request = {
      user_id,
      device_id: 'PHONE' as DeviceId,
      txn_id: 't1',
      type: 'm.test',
      messages: [
        { user_id: target, device_id: '*', content: { n: 1 } },
        { user_id: target, device_id: 'A', content: { n: 2, long } },
        { user_id: target, device_id: 'B', content: { n: 3, long } },
        { user_id: other, device_id: 'A', content: { n: 4 } },
      ],
    }
    await server.main.commands.sendToDevice(request)
    await server.main.commands.sendToDevice(request)
    const from = { sender: user_id, type: 'm.test', message_id: expect.any(String) }
    await until(() =>
      expect(one.edus('m.direct_to_device')).toEqual([
        { ...from, messages: { [target]: { '*': { n: 1 }, A: { n: 2, long } } } },
        { ...from, messages: { [target]: { B: { n: 3, long } } } },
      ]),
    )
    await until(() =>
      expect(two.edus('m.direct_to_device')).toEqual([{ ...from, messages: { [other]: { A: { n: 4 } } } }]),
    )
  })

  test('typing, receipts with their threads, and presence go to those who share a room', async () => {
    const room = await peerRoom(server, one.peer)
    const { room_id, alice: user_id } = room
    const { event_id } = await say(room, 'read this')
    await server.main.commands.setTyping({ room_id, user_id, typing: true, timeout_ms: 10_000 })
    await until(() => expect(one.edus('m.typing')).toEqual([{ room_id, user_id, typing: true }]))
    clock.advance(10_000)
    await until(() => expect(one.edus('m.typing').at(-1)).toEqual({ room_id, user_id, typing: false }))
    const receipts = [
      { receipt_type: 'm.read' as const, thread_id: 'main', event_id },
      { receipt_type: 'm.read.private' as const, thread_id: '', event_id },
    ]
    await server.main.commands.sendReceipts({ room_id, user_id, receipts })
    const data = { ts: clock.now(), thread_id: 'main' }
    await until(() =>
      expect(one.edus('m.receipt')).toEqual([
        { [room_id]: { 'm.read': { [user_id]: { data, event_ids: [event_id] } } } },
      ]),
    )
    await server.main.commands.setPresence({ user_id, presence: 'online', source: 'client', status_msg: 'here' })
    await until(() => expect(JSON.stringify(one.edus('m.presence'))).toContain('"status_msg":"here"'))
    expect(two.transactions).toEqual([])
  })

  test('presence is told to servers that come to share a room, whoever joined', async () => {
    const room = await peerRoom(server, one.peer)
    const { alice: user_id } = room
    await server.main.commands.setPresence({ user_id, presence: 'online', source: 'client' })
    await until(() => expect(one.edus('m.presence')).toHaveLength(1))
    const carol = `@carol:${one.peer.server_name}` as UserId
    await room.catchUp()
    const join = { type: 'm.room.member', state_key: carol, sender: carol, content: { membership: 'join' } }
    await room.send([room.wire(room.make(join))])
    await until(() => expect(one.edus('m.presence')).toHaveLength(2))
    const { room_id } = await peerRoom(server, two.peer)
    await server.main.commands.changeMembership({ room_id, user_id, target: user_id, action: 'join' })
    await until(() => expect(two.edus('m.presence')).toMatchObject([{ push: [{ user_id, presence: 'online' }] }]))
  })
})
