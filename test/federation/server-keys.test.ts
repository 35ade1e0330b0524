/** Keys of this server and of others: published, asked for, kept, and handed on. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { fakeClock } from '../../shared/clock.ts'
import type { ServerName } from '../../shared/matrix/ids.ts'
import { isJsonObject, type JsonObject } from '../../shared/matrix/json-value.ts'
import { generateSigningKey, signJson, verifyJson, verifyKeyFromBase64 } from '../../shared/matrix/signatures.ts'
import { type FederationPeer, federationPeer, type TestAuthority, testAuthority } from '../support/federation-peer.ts'
import { type FederationServer, federationServer } from '../support/federation-server.ts'

const uri = '/_matrix/federation/v1/query/profile?user_id=%40alice%3Ahs1'
const minute = 60_000

let authority: TestAuthority
let peer: FederationPeer
let notary: FederationPeer
let server: FederationServer
let clock: ReturnType<typeof fakeClock>
beforeAll(() => {
  authority = testAuthority()
})
afterAll(() => authority?.close())
beforeEach(async () => {
  clock = fakeClock(Date.now())
  ;[peer, notary] = await Promise.all([federationPeer(authority), federationPeer(authority)])
  notary.key = generateSigningKey('a_notary')
  server = await federationServer({
    authority,
    clock,
    federation: {
      trusted_key_servers: [notary.server_name],
      old_signing_keys: [{ key_id: 'ed25519:a_old', key: generateSigningKey().publicKeyBase64, expired_ts: 7 }],
    },
  })
  await server.main.user('alice', 'Alice')
})
afterEach(async () => {
  await server.close()
  await Promise.all([peer.close(), notary.close()])
})

const statusOfRequest = async () => (await server.ask('GET', uri, { by: peer })).status
const askedForKeys = () => peer.requests.filter((request) => request.uri.startsWith('/_matrix/key/')).length

/** Whether the server's own published keys have signed this. */
async function isSignedByServer(document: unknown): Promise<boolean> {
  const { body } = await server.ask('GET', '/_matrix/key/v2/server')
  const keys = body.verify_keys as Record<string, { key: string }>
  return (
    isJsonObject(document as never) &&
    verifyJson(document as JsonObject, 'hs1', (id) => verifyKeyFromBase64(keys[id]?.key ?? ''))
  )
}

describe('server-server-api/#publishing-keys', () => {
  test.each(['/_matrix/key/v2/server', '/_matrix/key/v2/server/ed25519%3Aa_test'])('%s', async (path) => {
    const { status, body } = await server.ask('GET', path)
    expect(status).toBe(200)
    expect(body).toMatchObject({ server_name: 'hs1', valid_until_ts: clock.now() + 24 * 60 * minute })
    expect(Object.keys(body.verify_keys as object)).toEqual(['ed25519:a_test'])
    expect(body.old_verify_keys).toMatchObject({ 'ed25519:a_old': { expired_ts: 7 } })
    expect(await isSignedByServer(body)).toBe(true)
  })
})

describe('server-server-api/#retrieving-server-keys', () => {
  test('a key counts as long as its server said, then the server is asked again', async () => {
    expect(await statusOfRequest()).toBe(200)
    clock.advance(59 * minute)
    expect(await statusOfRequest()).toBe(200)
    expect(askedForKeys()).toBe(1)
    clock.advance(2 * minute)
    peer.on('/_matrix/key/v2/server', () => ({ body: peer.keyDocument({ valid_until_ts: clock.now() + 60 * minute }) }))
    expect(await statusOfRequest()).toBe(200)
    expect(askedForKeys()).toBe(2)
  })

  test('no key counts for more than seven days, whatever its server says', async () => {
    peer.on('/_matrix/key/v2/server', () => ({ body: peer.keyDocument({ valid_until_ts: 9e15 }) }))
    expect(await statusOfRequest()).toBe(200)
    clock.advance(7 * 24 * 60 * minute + 1)
    peer.on('/_matrix/key/v2/server', () => ({ status: 500 }))
    notary.on('/_matrix/key/v2/query', () => ({ status: 500 }))
    expect(await statusOfRequest()).toBe(401)
  })

  test('a key that its server says it stopped using signs no requests', async () => {
    const old = peer.key
    expect(await statusOfRequest()).toBe(200)
    peer.key = generateSigningKey('a_new')
    const retired = { [old.keyId]: { key: old.publicKeyBase64, expired_ts: clock.now() } }
    peer.on('/_matrix/key/v2/server', () => ({ body: peer.keyDocument({ old_verify_keys: retired }) }))
    clock.advance(2 * minute)
    expect(await statusOfRequest()).toBe(200)
    peer.key = old
    expect(await statusOfRequest()).toBe(401)
  })

  test('what it knows survives a restart', async () => {
    expect(await statusOfRequest()).toBe(200)
    const rows = await server.main.database.sql`select server_name, key_id, public_key, expired_ts from server_keys`
    expect(rows).toMatchObject([
      { server_name: peer.server_name, key_id: peer.key.keyId, public_key: peer.key.publicKeyBase64, expired_ts: null },
    ])
  })

  test('a server that does not answer is not asked with every request', async () => {
    peer.on('/_matrix/key/v2/server', () => ({ status: 503 }))
    for (let i = 0; i < 5; i++) expect(await statusOfRequest()).toBe(401)
    expect(askedForKeys()).toBe(1)
    clock.advance(minute)
    peer.on('/_matrix/key/v2/server', () => ({ body: peer.keyDocument() }))
    expect(await statusOfRequest()).toBe(200)
  })

  test.each<[string, (own: FederationPeer) => JsonObject | string]>([
    ['another name', (own) => ({ ...own.keyDocument(), server_name: 'other.example' })],
    [
      'a key that was added after it was signed',
      (own) => ({
        ...own.keyDocument(),
        verify_keys: { [own.key.keyId]: { key: generateSigningKey().publicKeyBase64 } },
      }),
    ],
    ['no signature', (own) => ({ ...own.keyDocument(), signatures: {} })],
    [
      'the signature of a key that it does not list',
      (own) => {
        const { signatures: _, ...document } = own.keyDocument()
        return signJson(document, own.server_name, generateSigningKey('a_other'))
      },
    ],
    ['a key of the wrong length', (own) => own.keyDocument({ verify_keys: { [own.key.keyId]: { key: 'AAAA' } } })],
    ['no validity', (own) => own.keyDocument({ valid_until_ts: 'tomorrow' })],
    [
      'a thousand keys',
      (own) =>
        own.keyDocument({
          verify_keys: Object.fromEntries(
            Array.from({ length: 1_000 }, (_, i) => [`ed25519:k${i}`, { key: own.key.publicKeyBase64 }]),
          ),
        }),
    ],
    ['no JSON', () => 'keys'],
    ['an endless body', () => `{"a":"${'x'.repeat(1_000_000)}"}`],
    ['a list', () => '[]'],
  ])('a document with %s counts for nothing', async (_, document) => {
    peer.on('/_matrix/key/v2/server', (): { body: JsonObject | string } => ({ body: document(peer) }))
    expect(await statusOfRequest()).toBe(401)
    expect(
      await server.main.database.sql`select from server_keys where server_name = ${peer.server_name}`,
    ).toHaveLength(0)
  })
})

describe('server-server-api/#querying-keys-through-another-server', () => {
  const notarised = (by: FederationPeer, document: JsonObject = peer.keyDocument()) => ({
    body: { server_keys: [signJson(document, by.server_name, by.key)] },
  })

  test('a server that does not answer is known through a notary that is trusted', async () => {
    peer.on('/_matrix/key/v2/server', () => ({ status: 500 }))
    notary.on('/_matrix/key/v2/query', () => notarised(notary))
    expect(await statusOfRequest()).toBe(200)
    const [request] = notary.requests.filter(({ method }) => method === 'POST')
    expect(request?.body).toEqual({ server_keys: { [peer.server_name]: {} } })
  })

  test.each<[string, () => { body: JsonObject }]>([
    ['that the notary did not sign', () => ({ body: { server_keys: [peer.keyDocument()] } })],
    ['that the server did not sign', () => notarised(notary, { ...peer.keyDocument(), signatures: {} })],
    ['of another server', () => notarised(notary, notary.keyDocument())],
  ])('a notary passes on nothing %s', async (_, answer) => {
    peer.on('/_matrix/key/v2/server', () => ({ status: 500 }))
    notary.on('/_matrix/key/v2/query', answer)
    expect(await statusOfRequest()).toBe(401)
  })

  test('this server is a notary: it asks, keeps, and signs what others published', async () => {
    const path = `/_matrix/key/v2/query/${peer.server_name}`
    const first = await server.ask('GET', path)
    expect(first.status).toBe(200)
    const [document] = first.body.server_keys as JsonObject[]
    expect(document).toMatchObject({ server_name: peer.server_name, verify_keys: { [peer.key.keyId]: {} } })
    expect(await isSignedByServer(document)).toBe(true)
    expect(verifyJson(document ?? {}, peer.server_name, () => verifyKeyFromBase64(peer.key.publicKeyBase64))).toBe(true)
    expect(askedForKeys()).toBe(1)

    // What is valid for long enough is not asked for again; what its server does not renew is given as it was.
    await server.ask('GET', path)
    expect(askedForKeys()).toBe(1)
    peer.on('/_matrix/key/v2/server', () => ({ status: 500 }))
    notary.on('/_matrix/key/v2/query', () => ({ status: 500 }))
    clock.advance(120 * minute)
    expect((await server.ask('GET', path)).body.server_keys).toHaveLength(1)
    expect(askedForKeys()).toBe(2)
  })

  test('several servers in one question; who is not there is left out', async () => {
    const body = {
      server_keys: {
        [peer.server_name]: { [peer.key.keyId]: { minimum_valid_until_ts: clock.now() } },
        hs1: {},
        '127.0.0.1:1': {},
      },
    }
    const { status, body: answer } = await server.ask('POST', '/_matrix/key/v2/query', { body })
    expect(status).toBe(200)
    const names = (answer.server_keys as { server_name: ServerName }[]).map(({ server_name }) => server_name)
    expect(names.sort()).toEqual([peer.server_name, 'hs1'].sort())
    expect((await server.ask('POST', '/_matrix/key/v2/query', { body: { server_keys: {} } })).body).toEqual({
      server_keys: [],
    })
  })

  test.each([
    ['no servers', {}, 'M_MISSING_PARAM'],
    ['a list', { server_keys: [] }, 'M_BAD_JSON'],
    ['no server name', { server_keys: { 'a b': {} } }, 'M_INVALID_PARAM'],
    [
      'too many servers',
      { server_keys: Object.fromEntries(Array.from({ length: 101 }, (_, i) => [`s${i}.example`, {}])) },
      'M_INVALID_PARAM',
    ],
  ])('%s', async (_, body, errcode) => {
    expect(await server.ask('POST', '/_matrix/key/v2/query', { body })).toMatchObject({
      status: 400,
      body: { errcode },
    })
  })
})
