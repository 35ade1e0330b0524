/** Requests of other servers that are not what they should be, on every endpoint that takes any: refused with the right error,
 *  and nothing of them is stored. */
import { createServer } from 'node:http'
import { connect } from 'node:net'
import { gzipSync } from 'node:zlib'
import { getRequestListener } from '@hono/node-server'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { federationRoutes } from '../../functions/federation/routes.ts'
import type { JsonObject } from '../../shared/matrix/json-value.ts'
import { generateSigningKey } from '../../shared/matrix/signatures.ts'
import { type FederationPeer, federationPeer, type TestAuthority, testAuthority } from '../support/federation-peer.ts'
import { type FederationServer, federationServer } from '../support/federation-server.ts'
import { hostileCases } from '../support/hostile-cases.ts'
import { type PeerRoom, peerRoom } from '../support/peer-room.ts'

let authority: TestAuthority
let server: FederationServer
let peer: FederationPeer
let other: FederationPeer
let denied: FederationPeer
let room: PeerRoom
const cases = hostileCases(() => server.main.database.sql)
beforeAll(async () => {
  authority = testAuthority()
  ;[peer, other, denied] = await Promise.all([
    federationPeer(authority),
    federationPeer(authority),
    federationPeer(authority),
  ])
  server = await federationServer({ authority, federation: { denied_servers: ['denied.test'] } })
  room = await peerRoom(server, peer)
})
afterAll(async () => {
  console.log(cases.report())
  await server?.close()
  await Promise.all([peer?.close(), other?.close(), denied?.close()])
  authority?.close()
})

interface Answer {
  readonly status: number
  readonly body: Record<string, unknown>
}

async function expectRefused(
  name: string,
  attack: () => Promise<Answer>,
  status: number,
  errcode: string,
  left: Readonly<Record<string, number>> = {},
): Promise<void> {
  const { result, rows, seenChanged } = await cases.run(name, attack)
  expect(result).toMatchObject({ status, body: { errcode, error: expect.any(String) } })
  expect(rows).toEqual(left)
  expect(seenChanged).toBe(false)
}

const endpoints = federationRoutes
  .filter(({ auth }) => auth === 'server')
  .map(({ method, path }) => ({ name: `${method} ${path}`, method, path }))

/** The path with what a decent server would ask for. */
function uriOf(path: string): string {
  const values: Record<string, string> = { roomId: room.room_id, userId: room.bob, eventId: '$event', txnId: 'txn' }
  return path.replace(/:(\w+)/g, (_, name: string) => encodeURIComponent(values[name] ?? 'x'))
}

describe.each(endpoints)('$name', ({ name, method, path }) => {
  const body = method === 'GET' ? undefined : {}
  const signed = (by: FederationPeer, more: Partial<Parameters<FederationPeer['authorization']>[0]> = {}) =>
    by.authorization({
      method,
      uri: uriOf(path),
      destination: 'hs1',
      ...(body ? { content: body } : {}),
      ...more,
    })
  const attacks: [string, () => string | undefined, number, string][] = [
    ['without a signature', () => undefined, 401, 'M_UNAUTHORIZED'],
    [
      'by another server in the name of one',
      () => signed(other, { instead: { origin: peer.server_name } }),
      401,
      'M_UNAUTHORIZED',
    ],
    [
      'by a key that the server never had',
      () => signed(peer, { instead: { key: 'ed25519:none' } }),
      401,
      'M_UNAUTHORIZED',
    ],
    ['signed for another path', () => signed(peer, { uri: `${uriOf(path)}/more` }), 401, 'M_UNAUTHORIZED'],
    ['signed with another body', () => signed(peer, { content: { more: 1 } }), 401, 'M_UNAUTHORIZED'],
    [
      'signed for another server',
      () => signed(peer, { destination: 'hs2', instead: { destination: 'hs1' } }),
      401,
      'M_UNAUTHORIZED',
    ],
    ['by a server that is denied', () => signed(denied, { instead: { origin: 'denied.test' } }), 403, 'M_FORBIDDEN'],
    ['in the name of this server', () => signed(peer, { instead: { origin: 'hs1' } }), 401, 'M_UNAUTHORIZED'],
  ]
  test.each(attacks)('%s', async (why, authorization, status, errcode) => {
    const header = authorization()
    const attack = () =>
      server.ask(method, uriOf(path), {
        ...(body ? { body } : {}),
        ...(header === undefined ? {} : { authorization: header }),
      })
    await expectRefused(`${name} ${why}`, attack, status, errcode)
  })
})

describe('keys', () => {
  const ask = (by: FederationPeer) => () =>
    server.ask('GET', '/_matrix/federation/v1/query/profile?user_id=%40a%3Ahs1', { by })
  test.each<[string, (one: FederationPeer) => JsonObject | string, Record<string, number>?]>([
    // They are the server's, and check what it signed then.
    ['that have expired', (one) => one.keyDocument({ valid_until_ts: 1 }), { server_keys: 1, server_key_documents: 1 }],
    [
      'that are replaced',
      (one) => ({
        ...one.keyDocument({
          verify_keys: {},
          old_verify_keys: { [one.key.keyId]: { key: one.key.publicKeyBase64, expired_ts: 1 } },
        }),
      }),
    ],
    ['of another name', (one) => one.keyDocument({ server_name: peer.server_name })],
    ['that nobody signed', (one) => ({ ...one.keyDocument(), signatures: {} })],
    [
      'that another key signed',
      (one) => ({ ...one.keyDocument(), signatures: { [one.server_name]: { 'ed25519:x': 'AAAA' } } }),
    ],
    ['with a key too short', (one) => one.keyDocument({ verify_keys: { [one.key.keyId]: { key: 'AAAA' } } })],
    [
      'in their thousands',
      (one) =>
        one.keyDocument({
          verify_keys: Object.fromEntries(
            Array.from({ length: 5_000 }, (_, i) => [`ed25519:${i}`, { key: one.key.publicKeyBase64 }]),
          ),
        }),
    ],
    ['in no JSON', () => '{"server_name"'],
    ['in a document without end', () => `{"x":"${'x'.repeat(2_000_000)}"}`],
  ])('%s', async (why, document, left) => {
    const one = await federationPeer(authority)
    try {
      one.on('/_matrix/key/v2/server', () => ({ body: document(one) }))
      await expectRefused(`keys ${why}`, ask(one), 401, 'M_UNAUTHORIZED', left)
    } finally {
      await one.close()
    }
  })
})

describe('transactions', () => {
  const uri = '/_matrix/federation/v1/send/hostile'
  const transaction = (more: object): object => ({ origin: peer.server_name, origin_server_ts: 1, pdus: [], ...more })
  const send = (body: object) => server.ask('PUT', uri, { by: peer, body })
  const nested = (depth: number) => JSON.parse(`${'['.repeat(depth)}${']'.repeat(depth)}`)

  test.each<[string, () => object, number, string]>([
    ['of another server', () => transaction({ origin: other.server_name }), 400, 'M_INVALID_PARAM'],
    ['without an origin', () => ({ origin_server_ts: 1, pdus: [] }), 400, 'M_MISSING_PARAM'],
    ['with 51 events', () => transaction({ pdus: Array(51).fill({}) }), 400, 'M_INVALID_PARAM'],
    ['with 101 EDUs', () => transaction({ edus: Array(101).fill({}) }), 400, 'M_INVALID_PARAM'],
    ['with events that are no list', () => transaction({ pdus: { 0: {} } }), 400, 'M_BAD_JSON'],
    ['with EDUs that are no list', () => transaction({ edus: 'typing' }), 400, 'M_BAD_JSON'],
    ['with a time that is none', () => transaction({ origin_server_ts: 'now' }), 400, 'M_BAD_JSON'],
    ['of more than ten megabytes', () => transaction({ more: 'x'.repeat(11 * 1024 * 1024) }), 413, 'M_TOO_LARGE'],
  ])('%s', async (why, body, status, errcode) => {
    const given = body()
    await expectRefused(`transaction ${why}`, () => send(given), status, errcode)
  })

  test.each<[string, () => object]>([
    ['events that are none', () => ({ pdus: [null, 1, 'event', [], {}, true, { room_id: 1 }, { room_id: null }] })],
    ['events without a room', () => ({ pdus: [{ type: 'm.room.message' }] })],
    [
      'events of a room id that is none',
      () => ({ pdus: [{ room_id: 'room' }, { room_id: '!' }, { room_id: `!${'x'.repeat(300)}` }] }),
    ],
    [
      'events of rooms that are not here',
      () => ({ pdus: Array.from({ length: 50 }, (_, i) => ({ room_id: `!${i}:hs9` })) }),
    ],
    [
      'EDUs that are none',
      () => ({
        edus: [null, 1, 'x', [], {}, { edu_type: 1 }, { edu_type: 'm.typing' }, { edu_type: 'm.typing', content: [] }],
      }),
    ],
    [
      'EDUs that nobody knows',
      () => ({
        edus: [
          { edu_type: 'org.evil', content: { x: 'y'.repeat(10_000) } },
          { edu_type: '__proto__', content: {} },
        ],
      }),
    ],
    [
      'EDUs with contents that are none',
      () => ({
        edus: [
          'm.typing',
          'm.presence',
          'm.receipt',
          'm.device_list_update',
          'm.signing_key_update',
          'm.direct_to_device',
        ].map((edu_type) => ({ edu_type, content: { push: [1], user_id: 1, sender: {}, '!r': [] } })),
      }),
    ],
    [
      'EDUs about users of others',
      () => ({
        edus: [
          { edu_type: 'm.typing', content: { room_id: room.room_id, user_id: room.alice, typing: true } },
          { edu_type: 'm.presence', content: { push: [{ user_id: room.alice, presence: 'offline' }] } },
          {
            edu_type: 'm.receipt',
            content: { [room.room_id]: { 'm.read': { [room.alice]: { event_ids: ['$x'], data: { ts: 1 } } } } },
          },
          {
            edu_type: 'm.device_list_update',
            content: { user_id: room.alice, device_id: 'X', stream_id: 1, deleted: true },
          },
          {
            edu_type: 'm.signing_key_update',
            content: {
              user_id: room.alice,
              master_key: { user_id: room.alice, usage: ['master'], keys: { 'ed25519:x': 'x' } },
            },
          },
          {
            edu_type: 'm.direct_to_device',
            content: { sender: room.alice, type: 'x', message_id: '1', messages: { [room.alice]: { '*': {} } } },
          },
        ],
      }),
    ],
  ])('a transaction with %s is taken, and nothing of it', async (why, more) => {
    const body = transaction(more())
    const { result, rows, seenChanged } = await cases.run(`transaction with ${why}`, () => send(body))
    expect(result.status).toBe(200)
    for (const outcome of Object.values(result.body.pdus as object)) expect(outcome).toHaveProperty('error')
    expect(rows).toEqual({})
    expect(seenChanged).toBe(false)
  })

  /** As bytes, which no JSON encoder would make. */
  const raw = async (bytes: Uint8Array | string, headers: Record<string, string> = {}): Promise<Answer> => {
    const authorization = peer.authorization({ method: 'PUT', uri, destination: 'hs1', content: {} })
    const response = await server.app.request(`http://hs1${uri}`, {
      method: 'PUT',
      headers: { authorization, ...headers },
      body: bytes as never,
    })
    return { status: response.status, body: (await response.json()) as Record<string, unknown> }
  }
  test.each<[string, () => Uint8Array | string, number, string]>([
    ['no JSON', () => '{"pdus":', 400, 'M_NOT_JSON'],
    ['a list', () => '[]', 401, 'M_UNAUTHORIZED'],
    ['bytes that are no text', () => Buffer.from([0xff, 0xfe, 0x7b, 0x7d]), 400, 'M_NOT_JSON'],
    ['a compression bomb', () => gzipSync(Buffer.alloc(50_000_000)), 400, 'M_NOT_JSON'],
    ['a million brackets', () => '['.repeat(1_000_000), 400, 'M_BAD_JSON'],
    ['objects a thousand and one deep', () => JSON.stringify(nested(1_001)), 400, 'M_BAD_JSON'],
    ['a number of a million digits', () => `{"x":${'9'.repeat(1_000_000)}}`, 400, 'M_BAD_JSON'],
    ['keys twice', () => '{"origin":"a","origin":"b"}', 401, 'M_UNAUTHORIZED'],
  ])('a body of %s', async (why, bytes, status, errcode) => {
    const given = bytes()
    await expectRefused(`body of ${why}`, () => raw(given), status, errcode)
  })
})

describe('over a connection', () => {
  test('a body without end is cut off, and one that comes slowly holds nobody up', async () => {
    const listener = createServer(getRequestListener(server.app.fetch))
    await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve))
    const { port } = listener.address() as { port: number }
    const uri = '/_matrix/federation/v1/send/slow'
    const authorization = peer.authorization({ method: 'PUT', uri, destination: 'hs1', content: {} })
    const head = (length: string) =>
      `PUT ${uri} HTTP/1.1\r\nHost: hs1\r\nAuthorization: ${authorization}\r\n${length}\r\n\r\n`
    const opened = (first: string) => {
      const socket = connect(port, '127.0.0.1', () => socket.write(first))
      socket.on('error', () => {})
      return socket
    }
    try {
      const slow = await cases.run('200 slow bodies', async () => {
        const sockets = Array.from({ length: 200 }, () => opened(`${head('Content-Length: 1000000')}{"pdus":[`))
        const { status } = await fetch(`http://127.0.0.1:${port}/_matrix/federation/v1/version`)
        for (const socket of sockets) socket.destroy()
        return status
      })
      expect(slow).toMatchObject({ result: 200, rows: {}, seenChanged: false })

      const endless = await cases.run('a body without end', async () => {
        const socket = opened(head('Transfer-Encoding: chunked'))
        const part = `10000\r\n${' '.repeat(0x10000)}\r\n`
        let said = ''
        const answered = new Promise<string>((resolve) => {
          socket.on('data', (bytes) => {
            said += String(bytes)
            if (said.includes('\r\n\r\n')) resolve(said)
          })
          socket.once('close', () => resolve(said))
        })
        const pour = () => {
          while (!socket.destroyed && socket.write(part));
          if (!socket.destroyed) socket.once('drain', pour)
        }
        socket.once('connect', pour)
        const answer = await answered
        socket.destroy()
        return answer
      })
      expect(endless.result).toMatch(/^HTTP\/1\.1 413 /)
      expect(endless).toMatchObject({ rows: {}, seenChanged: false })
    } finally {
      listener.closeAllConnections()
      await new Promise((resolve) => listener.close(resolve))
    }
  })
})

test('a key that no server has ever shown makes the key ring ask no more than once a minute', async () => {
  const uri = '/_matrix/federation/v1/query/profile?user_id=%40a%3Ahs1'
  const stranger = generateSigningKey('a_flood')
  const asked = () => peer.requests.filter((request) => request.uri.startsWith('/_matrix/key/')).length
  const before = asked()
  const { result } = await cases.run('500 requests by keys that are not there', async () => {
    const headers = Array.from({ length: 500 }, (_, i) =>
      peer.authorization({ method: 'GET', uri, destination: 'hs1', instead: { key: `${stranger.keyId}${i}` } }),
    )
    return Promise.all(headers.map((authorization) => server.ask('GET', uri, { authorization })))
  })
  expect(result.every(({ status }) => status === 401)).toBe(true)
  expect(asked() - before).toBeLessThanOrEqual(1)
})
