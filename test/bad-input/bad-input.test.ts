/** Every route, given what no client should send: always a Matrix error with the specification's code, never a 500,
 *  nothing stored, memory flat. The routes come from their declarations, so a new route is tested by existing. */
import { readFile } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { clientRoutes } from '../../functions/client/routes.ts'
import { federationRoutes } from '../../functions/federation/routes.ts'
import { mediaRoutes } from '../../functions/media/routes.ts'
import { syncRoutes } from '../../functions/sync/routes.ts'
import type { Method } from '../../shared/http/route.ts'
import { type TestDatabase, testDatabase } from '../support/database.ts'
import { type Answer, HttpClient } from '../support/http-client.ts'
import { type ServerProcess, serverProcess } from '../support/server-process.ts'

interface Target {
  readonly method: Method
  readonly path: string
  readonly auth: string
  readonly body?: unknown
  readonly bodyBytesMax?: number
}
const routes: readonly Target[] = [...clientRoutes, ...syncRoutes, ...mediaRoutes, ...federationRoutes]
const methods: readonly Method[] = ['GET', 'POST', 'PUT', 'DELETE']

let database: TestDatabase
let server: ServerProcess
let http: HttpClient
let user: { user_id: string; access_token: string }
let admin: { user_id: string; access_token: string }
/** Whom administrators do something to. */
let target: { user_id: string }
let good: Record<string, string>

beforeAll(async () => {
  database = await testDatabase()
  server = await serverProcess({
    databaseUrl: database.url,
    // Nobody takes mail there: what is no request for one must be refused before. No other server is asked for anything.
    config: `email: { host: 127.0.0.1, port: 1, tls: none }
federation: { allowed_servers: [] }
policies: { documents: [{ id: p, version: v, translations: [{ language: en, name: P, url: "https://x.example/" }] }] }`,
  })
  await server.start()
  http = new HttpClient('127.0.0.1', server.port)
  user = await server.register('mallory')
  admin = await server.register('root', { admin: true })
  target = await server.register('target')
  const { room_id } = await http.json<{ room_id: string }>(
    'POST',
    '/_matrix/client/v3/createRoom',
    user.access_token,
    {},
  )
  good = {
    roomId: room_id,
    roomIdOrAlias: room_id,
    userId: user.user_id,
    eventId: '$unknown',
    threadRootId: '$unknown',
    roomAlias: '#nowhere:test.local',
    eventType: 'm.room.message',
    receiptType: 'm.read',
    relType: 'm.annotation',
    txnId: 't1',
    kind: 'content',
    ruleId: 'nothing',
    type: 'org.test',
    tag: 'u.tag',
    deviceId: 'NONE',
    filterId: '0',
    keyName: 'displayname',
    medium: 'email',
    stage: 'm.login.terms',
    stateKey: '',
    serverName: 'test.local',
    mediaId: 'nothing',
    sha256: 'a'.repeat(64),
    delayId: 'none',
    token: 'none',
  }
})
afterAll(async () => {
  http?.close()
  await server?.close()
  await database?.drop()
})

function fill(path: string, values: Record<string, string>): string {
  // Who is locked gets no further with anything.
  const about = path.startsWith('/_matrix/client/v1/admin/') ? { ...good, userId: target.user_id } : good
  return path.replace(/:(\w+)/g, (_, name: string) => values[name] ?? encodeURIComponent(about[name] ?? 'x'))
}

/** With what the route needs in its query, so that its body is looked at. */
function withNeededQuery(path: string): string {
  const query = path.startsWith('/_matrix/client/v3/room_keys/keys') ? '?version=1' : ''
  return `${fill(path, {})}${query}`
}

function expectMatrixError(answer: Answer, what: string, errcode?: string | RegExp): void {
  expect(answer.status, `${what}: ${answer.body.slice(0, 200)}`).toBeLessThan(500)
  expect(answer.status, what).toBeGreaterThanOrEqual(400)
  const body = JSON.parse(answer.body) as { errcode?: unknown; error?: unknown }
  expect(body.errcode, what).toMatch(errcode ?? /^M_/)
  expect(typeof body.error, what).toBe('string')
}

/** A Matrix error, or an answer that is no failure of the server. */
function expectNoFault(answer: Answer, what: string): void {
  if (answer.status === 200) return
  // User-interactive auth answers with flows in place of an error.
  if (answer.status === 401 && answer.body.includes('"flows"')) return
  // Another server was named that there is not.
  if (answer.status === 502) expect(JSON.parse(answer.body), what).toMatchObject({ errcode: 'M_UNKNOWN' })
  else expectMatrixError(answer, what)
}

async function positions(): Promise<unknown> {
  return database.sql`select name, position from streams order by name`
}

const named = routes.map((route) => ({ ...route, name: `${route.method} ${route.path}` }))
const withBody = named.filter((route) => route.body !== undefined)
const withToken = named.filter((route) => route.auth === 'user' || route.auth === 'admin' || route.auth === 'guest')
const withParams = named.filter((route) => route.path.includes(':'))

/** Of somebody who gets as far as the route's own checks. */
const tokenFor = ({ auth }: Target) => (auth === 'admin' ? admin : user).access_token

describe('client-server-api/#standard-error-response', () => {
  test.each(withToken)('$name needs a token that is known', async ({ method, path }) => {
    const url = fill(path, {})
    const body = method === 'GET' || method === 'DELETE' ? undefined : '{}'
    const missing = await http.request(method, url, undefined, body)
    expectMatrixError(missing, url, 'M_MISSING_TOKEN')
    expect(missing.status).toBe(401)
    for (const token of ['x', 'gat_0_0_0', 'a'.repeat(5_000), user.access_token.slice(0, -1)]) {
      const refused = await http.request(method, url, token, body)
      expectMatrixError(refused, `${url} with a bad token`, 'M_UNKNOWN_TOKEN')
      expect(refused.status).toBe(401)
    }
  })

  test.each(withBody)('$name refuses bodies that are not JSON objects, and stores nothing', async (route) => {
    const { method, path } = route
    const [url, token] = [withNeededQuery(path), tokenFor(route)]
    const before = await positions()
    const notJson = ['{', '{"a":1,}', "{'a':1}", '{"a":1}x', 'NaN', '\ufeff{', '{"a":\u0001}', '"\\ud8"', '\0']
    for (const body of notJson) {
      expectMatrixError(await http.request(method, url, token, body), `${url} ${body}`, /M_NOT_JSON|M_BAD_JSON/)
    }
    for (const body of ['[]', 'null', '1', '"text"', 'true', '[{}]', `${'['.repeat(50_000)}${']'.repeat(50_000)}`]) {
      expectMatrixError(await http.request(method, url, token, body), `${url} ${body.slice(0, 20)}`)
    }
    expect(await positions(), `${url} stored something`).toEqual(before)
  })

  test.each(withBody)('$name refuses deep and oversized bodies', async (route) => {
    const { method, path } = route
    const [url, token] = [withNeededQuery(path), tokenFor(route)]
    const deep = `${'{"a":'.repeat(20_000)}1${'}'.repeat(20_000)}`
    expectMatrixError(await http.request(method, url, token, deep), `${url} deep`)
    const large = `{"a":"${'x'.repeat(Math.max(2_000_000, route.bodyBytesMax ?? 0))}"}`
    const client = new HttpClient('127.0.0.1', server.port)
    const answer = await client.request(method, url, token, large)
    client.close()
    expectMatrixError(answer, `${url} large`, 'M_TOO_LARGE')
    expect(answer.status).toBe(413)
  })

  test.each(withBody)(
    '$name survives wrong types under every key that it reads',
    async (route) => {
      const { method, path, body } = route
      const [url, token] = [withNeededQuery(path), tokenFor(route)]
      const keys = Object.keys((body as { entries?: object }).entries ?? {})
      const wrong = [
        null,
        1,
        -1,
        1.5,
        1e308,
        true,
        '',
        'x',
        [],
        {},
        [null],
        { a: { b: [] } },
        '\u0000',
        '\ud800',
        2 ** 53,
      ]
      // Only what is no valid value of any key: the account must outlive its own test.
      for (const key of [...keys, '__proto__', 'constructor', 'toString']) {
        for (const value of wrong) {
          if (key === 'logout_devices' || key === 'erase') continue
          const answer = await http.request(method, url, token, `{${JSON.stringify(key)}:${JSON.stringify(value)}}`)
          expectNoFault(answer, `${url} ${key}=${JSON.stringify(value)}`)
        }
      }
    },
    120_000,
  )

  test.each(withParams)('$name survives absurd path parameters', async (route) => {
    const { method, path } = route
    const token = tokenFor(route)
    const names = [...path.matchAll(/:(\w+)/g)].map((match) => match[1] ?? '')
    const absurd = [
      '%00',
      '%ff',
      '%',
      '%zz',
      '%2F',
      '%2e%2e',
      '@',
      '!',
      '$',
      '#',
      '%F0%9F%92%A9',
      'a'.repeat(9_000),
      '-1',
      '%25',
      '%0d%0a',
      'null',
      '__proto__',
      "'--",
      '@:',
      '!x:',
      '@a:b:c%00',
    ]
    for (const name of names) {
      for (const value of absurd) {
        const url = fill(path, { [name]: value })
        const body = method === 'GET' || method === 'DELETE' ? undefined : '{}'
        expectNoFault(await http.request(method, url, token, body), `${method} ${url.slice(0, 200)}`)
      }
    }
  })

  test.each(named.filter((route) => route.method === 'GET'))(
    '$name survives absurd query values',
    async (route) => {
      const [url, token] = [fill(route.path, {}), tokenFor(route)]
      const keys = [
        'since',
        'from',
        'to',
        'at',
        'limit',
        'dir',
        'filter',
        'timeout',
        'full_state',
        'set_presence',
        'membership',
        'server',
        'format',
        'include',
        'access_token_',
        'recurse',
        'username',
      ]
      const values = [
        '',
        '-1',
        '0',
        '1e99',
        '99999999999999999999',
        'NaN',
        's1_',
        's1_9_9_9_9_9_9',
        'p1_-1',
        'p1_99999999999',
        '%00',
        '%ff',
        '{',
        '{"room":1}',
        '[[[[',
        'x'.repeat(4_000),
      ]
      for (const key of keys) {
        for (const value of values) {
          // A long poll is what `timeout` asks for; nobody waits for it here.
          if (key === 'timeout' && /^\d{2,}|1e/.test(value)) continue
          expectNoFault(await http.request('GET', `${url}?${key}=${value}`, token), `${url}?${key}=${value}`)
        }
      }
    },
    120_000,
  )

  test.each(named)('$name: other methods are 405, M_UNRECOGNIZED', async ({ path }) => {
    const served = new Set(routes.filter((route) => shape(route.path) === shape(path)).map((route) => route.method))
    for (const method of methods.filter((m) => !served.has(m))) {
      const answer = await http.request(method, fill(path, {}), user.access_token, method === 'GET' ? undefined : '{}')
      // A path can be another route's as well, whose parameter takes what is fixed here.
      if (answer.status === 405) expectMatrixError(answer, `${method} ${path}`, 'M_UNRECOGNIZED')
      else expectNoFault(answer, `${method} ${path}`)
    }
  })

  test.each([
    '/',
    '/_matrix',
    '/_matrix/client',
    '/_matrix/client/v3',
    '/_matrix/client/v3/nothing',
    '/_matrix/client/v9/sync',
    '/_matrix/client/v3/rooms',
    '/_matrix/client/v3/sync/more',
    '/_matrix/federation/v1/nothing',
    '/_matrix//client/versions',
    '/_matrix/client/v3/rooms/%00/nothing',
    '/..%2f..%2fetc/passwd',
  ])('unknown path %s is 404, M_UNRECOGNIZED', async (path) => {
    const answer = await http.request('GET', path, user.access_token)
    expectMatrixError(answer, path, 'M_UNRECOGNIZED')
    expect(answer.status).toBe(404)
  })

  test.each(['/%ff', '/_matrix/client/v3/rooms/%c3%28/state', '/%'])('%s is no UTF-8', async (path) => {
    expectMatrixError(await http.request('GET', path, user.access_token), path, 'M_INVALID_PARAM')
  })

  test('memory stays flat under oversized bodies', async () => {
    const resident = async () =>
      Number(/VmRSS:\s+(\d+)/.exec(await readFile(`/proc/${server.pid}/status`, 'utf8'))?.[1]) / 1024
    const large = `{"msgtype":"m.text","body":"${'x'.repeat(5_000_000)}"}`
    const before = await resident()
    for (let i = 0; i < 40; i++) {
      const client = new HttpClient('127.0.0.1', server.port)
      const url = fill('/_matrix/client/v3/rooms/:roomId/send/m.room.message/:txnId', {})
      expect((await client.request('PUT', url, user.access_token, large)).status).toBe(413)
      client.close()
    }
    expect((await resident()) - before, 'megabytes more').toBeLessThan(80)
  })
})

/** A path with its parameters' names taken out. */
function shape(path: string): string {
  return path.replace(/:\w+/g, ':')
}
