/** Who may ask this server: nobody whose signature can't be checked. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { federationRoutes } from '../../functions/federation/routes.ts'
import { generateSigningKey } from '../../shared/matrix/signatures.ts'
import { type FederationPeer, federationPeer, type TestAuthority, testAuthority } from '../support/federation-peer.ts'
import { type FederationServer, federationServer } from '../support/federation-server.ts'

const uri = '/_matrix/federation/v1/query/profile?user_id=%40alice%3Ahs1'

let authority: TestAuthority
let server: FederationServer
let peer: FederationPeer
let denied: FederationPeer
beforeAll(async () => {
  authority = testAuthority()
  ;[peer, denied] = await Promise.all([federationPeer(authority), federationPeer(authority)])
  server = await federationServer({ authority, federation: { denied_servers: ['10.*', 'evil.example'] } })
  await server.main.user('alice', 'Alice')
})
afterAll(async () => {
  await server?.close()
  await Promise.all([peer?.close(), denied?.close()])
  authority?.close()
})

describe('server-server-api/#request-authentication', () => {
  test('a request that its server signed is answered', async () => {
    expect(await server.ask('GET', uri, { by: peer })).toEqual({ status: 200, body: { displayname: 'Alice' } })
  })

  test('keys are asked for once', async () => {
    const asked = () => peer.requests.filter((request) => request.uri === '/_matrix/key/v2/server').length
    const before = asked()
    for (let i = 0; i < 5; i++) expect((await server.ask('GET', uri, { by: peer })).status).toBe(200)
    expect(asked()).toBe(before)
  })

  const signed = (more: Partial<Parameters<FederationPeer['authorization']>[0]> = {}) =>
    peer.authorization({ method: 'GET', uri, destination: 'hs1', ...more })
  const stranger = generateSigningKey('a_stranger')
  test.each<[string, () => string | undefined, number, string]>([
    ['no header', () => undefined, 401, 'M_UNAUTHORIZED'],
    ['a token of a user', () => 'Bearer gat_000000_x', 401, 'M_UNAUTHORIZED'],
    ['no parameters', () => 'X-Matrix ', 401, 'M_UNAUTHORIZED'],
    ['another method', () => signed({ method: 'PUT' }), 401, 'M_UNAUTHORIZED'],
    ['another path', () => signed({ uri: `${uri}&x=1` }), 401, 'M_UNAUTHORIZED'],
    ['another encoding of the same path', () => signed({ uri: uri.replace('%3A', ':') }), 401, 'M_UNAUTHORIZED'],
    ['a body that is not there', () => signed({ content: {} }), 401, 'M_UNAUTHORIZED'],
    ['another destination', () => signed({ destination: 'hs2' }), 401, 'M_UNAUTHORIZED'],
    [
      'a destination that was not signed',
      () => signed({ destination: 'hs2', instead: { destination: 'hs1' } }),
      401,
      'M_UNAUTHORIZED',
    ],
    ['no server name', () => signed({ instead: { origin: 'a b' } }), 401, 'M_UNAUTHORIZED'],
    ['this server as its own origin', () => signed({ instead: { origin: 'hs1' } }), 401, 'M_UNAUTHORIZED'],
    ['a server that nobody finds', () => signed({ instead: { origin: 'nowhere.invalid' } }), 401, 'M_UNAUTHORIZED'],
    [
      'a server on a port where nobody listens',
      () => signed({ instead: { origin: '127.0.0.1:1' } }),
      401,
      'M_UNAUTHORIZED',
    ],
    ['a key that the server does not have', () => signed({ instead: { key: stranger.keyId } }), 401, 'M_UNAUTHORIZED'],
    ['a key of another algorithm', () => signed({ instead: { key: 'rsa:1' } }), 401, 'M_UNAUTHORIZED'],
    ['no signature', () => signed({ instead: { sig: 'AAAA' } }), 401, 'M_UNAUTHORIZED'],
    ['what is no base64', () => signed({ instead: { sig: '!' } }), 401, 'M_UNAUTHORIZED'],
    [
      'the signature of another server',
      () => denied.authorization({ method: 'GET', uri, destination: 'hs1', instead: { origin: peer.server_name } }),
      401,
      'M_UNAUTHORIZED',
    ],
    ['a server that is denied', () => signed({ instead: { origin: 'evil.example' } }), 403, 'M_FORBIDDEN'],
    [
      'a server that is denied, on a port',
      () => signed({ instead: { origin: 'EVIL.example:1234' } }),
      403,
      'M_FORBIDDEN',
    ],
    ['a server that a pattern denies', () => signed({ instead: { origin: '10.0.0.1' } }), 403, 'M_FORBIDDEN'],
  ])('refuses %s', async (_, authorization, status, errcode) => {
    const header = authorization()
    const answer = await server.ask('GET', uri, header === undefined ? {} : { authorization: header })
    expect(answer).toMatchObject({ status, body: { errcode } })
    expect(typeof answer.body.error).toBe('string')
  })

  test('a header without a destination is taken from older servers', async () => {
    const header = signed().replace(/destination="[^"]*",/, '')
    expect((await server.ask('GET', uri, { authorization: header })).status).toBe(200)
  })

  test('every route but the few public ones needs a signature', async () => {
    const open = federationRoutes.filter((route) => route.auth !== 'server').map((route) => route.path)
    expect(open).toEqual([
      '/_matrix/key/v2/server',
      '/_matrix/key/v2/server/:keyId',
      '/_matrix/key/v2/query/:serverName',
      '/_matrix/key/v2/query',
      '/_matrix/federation/v1/version',
      '/.well-known/matrix/server',
      '/_matrix/federation/v1/openid/userinfo',
      '/_matrix/federation/v1/3pid/onbind',
    ])
    for (const route of federationRoutes.filter(({ auth }) => auth === 'server')) {
      const path = route.path.replace(/:\w+/g, 'x')
      const body = route.method === 'GET' ? {} : { body: {} }
      expect(await server.ask(route.method, path, body), path).toMatchObject({ status: 401 })
    }
  })
})

describe('server-server-api/#querying-for-information', () => {
  test.each([
    ['one field', '/query/profile?user_id=%40alice%3Ahs1&field=displayname', 200, { displayname: 'Alice' }],
    ['a field that is not set', '/query/profile?user_id=%40alice%3Ahs1&field=avatar_url', 200, {}],
    ['nobody', '/query/profile?user_id=%40bob%3Ahs1', 404, { errcode: 'M_NOT_FOUND' }],
    ['a user of another server', '/query/profile?user_id=%40bob%3Ahs2', 400, { errcode: 'M_INVALID_PARAM' }],
    ['no user', '/query/profile', 400, { errcode: 'M_MISSING_PARAM' }],
    ['an alias that is not there', '/query/directory?room_alias=%23a%3Ahs1', 404, { errcode: 'M_NOT_FOUND' }],
    ['an alias of another server', '/query/directory?room_alias=%23a%3Ahs2', 400, { errcode: 'M_INVALID_PARAM' }],
    ['anything else', '/query/weather', 404, { errcode: 'M_UNRECOGNIZED' }],
  ])('%s', async (_, path, status, body) => {
    const answer = await server.ask('GET', `/_matrix/federation/v1${path}`, { by: peer })
    expect(answer).toMatchObject({ status, body })
  })

  test('an alias of this server leads to its room and to who is in it', async () => {
    const user_id = await server.main.user('carol')
    const { room_id } = await server.main.commands.createRoom({
      user_id,
      preset: 'public_chat',
      room_alias_name: 'there',
    })
    const answer = await server.ask('GET', '/_matrix/federation/v1/query/directory?room_alias=%23there%3Ahs1', {
      by: peer,
    })
    expect(answer).toEqual({ status: 200, body: { room_id, servers: ['hs1'] } })
  })
})
