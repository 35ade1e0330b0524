import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { getRequestListener } from '@hono/node-server'
import { Hono } from 'hono'
import * as v from 'valibot'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import type { Requester } from '../auth/requester.ts'
import { fakeClock } from '../clock.ts'
import { Config } from '../config/schema.ts'
import { MatrixError } from '../matrix/matrix-error.ts'
import { errorResponse } from './error-response.ts'
import { mount } from './mount.ts'
import { createLimiter } from './rate-limit.ts'
import { clientAddressBehind } from './request-info.ts'
import { RawJson, type RequestInfo, routesFor } from './route.ts'

const route = routesFor<object>()
const prefix = '/_matrix/client/v3'
const seen: { signal?: AbortSignal; request?: RequestInfo } = {}

const routes = [
  route({
    method: 'PUT',
    path: `${prefix}/rooms/:roomId/state/:type/:key`,
    spec: '',
    auth: 'none',
    params: v.object({ roomId: v.string(), type: v.string(), key: v.string() }),
    body: v.object({ n: v.number(), in: v.optional(v.object({ ner: v.pipe(v.string(), v.regex(/^a/)) })) }),
    bodyBytesMax: 2000,
    handle: ({ params, body }) => ({ params, body }),
  }),
  route({
    method: 'GET',
    path: `${prefix}/query`,
    spec: '',
    auth: 'none',
    query: v.object({ must: v.string(), dir: v.optional(v.picklist(['b', 'f'])) }),
    handle: ({ query, request }) => ({ query, all: request.searchParams.getAll('must') }),
  }),
  route({ method: 'GET', path: `${prefix}/me`, spec: '', auth: 'user', handle: ({ user }) => user }),
  route({ method: 'GET', path: `${prefix}/guest`, spec: '', auth: 'guest', handle: ({ user }) => user }),
  route({ method: 'GET', path: `${prefix}/maybe`, spec: '', auth: 'optional', handle: ({ user }) => ({ user }) }),
  route({
    method: 'GET',
    path: `${prefix}/limited`,
    spec: '',
    auth: 'none',
    limit: 'registration',
    handle: ({ request }) => ({ ip: request.ip }),
  }),
  route({
    method: 'GET',
    path: `${prefix}/broken`,
    spec: '',
    auth: 'none',
    handle() {
      throw new Error('the secret is 42')
    },
  }),
  route({
    method: 'GET',
    path: `${prefix}/refused`,
    spec: '',
    auth: 'none',
    async handle() {
      throw new MatrixError('M_FORBIDDEN', 'No', { extra: { more: 1 } })
    },
  }),
  route({ method: 'GET', path: `${prefix}/raw`, spec: '', auth: 'none', handle: () => new RawJson('{"a":1}') }),
  route({
    method: 'GET',
    path: `${prefix}/pieces`,
    spec: '',
    auth: 'none',
    handle: () => new RawJson(pieces()),
  }),
  route({
    method: 'GET',
    path: `${prefix}/later`,
    spec: '',
    auth: 'none',
    handle: () => new RawJson(laterPieces()),
  }),
  route({
    method: 'GET',
    path: `${prefix}/wait`,
    spec: '',
    auth: 'none',
    async handle({ request }) {
      seen.signal = request.signal
      await new Promise((resolve) => request.signal.addEventListener('abort', resolve))
      return {}
    },
  }),
  route({ method: 'GET', path: `${prefix}/file/*`, spec: '', auth: 'none', handle: () => ({}) }),
] as const

function* pieces(): Generator<string> {
  yield '['
  for (let i = 0; i < 50_000; i++) yield `"äöü${i}",`
  yield 'null]'
}
async function* laterPieces(): AsyncGenerator<string> {
  yield* pieces()
}

const requester = (guest: boolean) =>
  ({
    user_id: '@a:hs',
    device_id: 'D',
    admin: false,
    guest,
    locked: false,
    suspended: false,
    token_hash: 'h',
  }) as Requester
const log = { error: vi.fn() }
const clock = fakeClock()
const config = v.parse(Config, { server_name: 'hs', trusted_proxies: ['10.0.0.0/8', 'fd00::1'] })
const ended = vi.fn()
const observe = vi.fn(({ path }: { path: string }) => ({
  begin() {},
  end: (status: number) => ended({ path, status }),
}))
const app = new Hono()
app.get('/health', (c) => c.text('ok'))
mount(app, routes, {
  deps: {},
  authenticate(token) {
    if (token === 'bad') throw new MatrixError('M_UNKNOWN_TOKEN', 'Unknown')
    return token === 'later' ? Promise.resolve(requester(false)) : requester(token === 'guest')
  },
  limiter: createLimiter(config.rate_limits, clock),
  clientAddress: clientAddressBehind(config.trusted_proxies),
  log,
  observe,
})
app.get('/after', (c) => c.text('after'))

const state = `${prefix}/rooms/!r:hs/state/t/k`
async function call(path: string, init: RequestInit = {}, env?: object) {
  const response = await app.request(path, init, env)
  return { status: response.status, headers: response.headers, text: await response.text() }
}
const put = (body: BodyInit | null) => call(state, { method: 'PUT', body })

describe('finding a route', () => {
  test.each([
    { path: `${prefix}/rooms/%21r%3Ahs/state/a%2Fb/%2525`, key: { roomId: '!r:hs', type: 'a/b', key: '%25' } },
    { path: `${prefix}/rooms/!r:hs/state/t/`, key: { roomId: '!r:hs', type: 't', key: '' } },
    { path: `${prefix}/rooms/!r:hs/state/t/%00%F0%9F%90%88`, key: { roomId: '!r:hs', type: 't', key: '\0🐈' } },
    { path: '/_matrix/client/r0/rooms/!r:hs/state/t/k', key: { roomId: '!r:hs', type: 't', key: 'k' } },
  ])('$path is decoded once', async ({ path, key }) => {
    const { status, text } = await call(path, { method: 'PUT', body: '{"n":1}' })
    expect({ status, body: JSON.parse(text) }).toEqual({ status: 200, body: { params: key, body: { n: 1 } } })
  })
  test.each([
    { method: 'GET', path: `${prefix}/unknown`, status: 404, errcode: 'M_UNRECOGNIZED' },
    { method: 'GET', path: '/_matrix/client/r1/me', status: 404, errcode: 'M_UNRECOGNIZED' },
    { method: 'GET', path: `${prefix}/me/`, status: 404, errcode: 'M_UNRECOGNIZED' },
    { method: 'GET', path: '/elsewhere', status: 404, errcode: 'M_UNRECOGNIZED' },
    { method: 'POST', path: `${prefix}/me`, status: 405, errcode: 'M_UNRECOGNIZED' },
    { method: 'PATCH', path: `${prefix}/me`, status: 405, errcode: 'M_UNRECOGNIZED' },
    { method: 'GET', path: state, status: 405, errcode: 'M_UNRECOGNIZED' },
    { method: 'PUT', path: `${prefix}/rooms/%ff/state/t/k`, status: 400, errcode: 'M_INVALID_PARAM' },
    { method: 'PUT', path: `${prefix}/rooms/%/state/t/k`, status: 400, errcode: 'M_INVALID_PARAM' },
    { method: 'GET', path: `${prefix}/me`, status: 401, errcode: 'M_MISSING_TOKEN' },
    { method: 'GET', path: `${prefix}/me?access_token=bad`, status: 401, errcode: 'M_UNKNOWN_TOKEN' },
    { method: 'GET', path: `${prefix}/maybe?access_token=bad`, status: 401, errcode: 'M_UNKNOWN_TOKEN' },
    { method: 'GET', path: `${prefix}/me?access_token=guest`, status: 403, errcode: 'M_GUEST_ACCESS_FORBIDDEN' },
  ])('$method $path answers $status $errcode', async ({ method, path, status, errcode }) => {
    const answer = await call(path, { method })
    expect(answer.status).toBe(status)
    expect(JSON.parse(answer.text)).toMatchObject({ errcode, error: expect.any(String) })
    expect(answer.headers.get('Access-Control-Allow-Origin')).toBe('*')
    expect(answer.headers.get('Content-Type')).toBe('application/json')
  })
  test('what others serve on the app is left to them', async () => {
    expect((await call('/health')).text).toBe('ok')
    expect((await call('/after')).text).toBe('after')
  })
  test('a preflight needs no route', async () => {
    const { status, headers } = await call(`${prefix}/me`, { method: 'OPTIONS' })
    expect(status).toBe(204)
    expect(headers.get('Access-Control-Allow-Methods')).toContain('PUT')
    expect(headers.get('Access-Control-Allow-Headers')).toContain('Authorization')
  })
  test.each(['me', 'guest', 'maybe'])('/%s knows the caller', async (path) => {
    for (const init of [{ headers: { Authorization: 'Bearer x' } }, { headers: { authorization: 'bearer later' } }]) {
      expect((await call(`${prefix}/${path}`, init)).text).toContain('@a:hs')
    }
    expect((await call(`${prefix}/guest?access_token=guest`)).status).toBe(200)
    expect((await call(`${prefix}/maybe`)).text).toBe('{}')
  })
})

describe('reading a request', () => {
  test.each([
    { why: 'no body', body: null, status: 400, errcode: 'M_NOT_JSON' },
    { why: 'no JSON', body: '{n:1}', status: 400, errcode: 'M_NOT_JSON' },
    {
      why: 'not UTF-8',
      body: new Uint8Array([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]),
      status: 400,
      errcode: 'M_NOT_JSON',
    },
    { why: 'an array', body: '[]', status: 400, errcode: 'M_BAD_JSON' },
    { why: 'null', body: 'null', status: 400, errcode: 'M_BAD_JSON' },
    { why: 'a missing key', body: '{}', status: 400, errcode: 'M_MISSING_PARAM', names: 'Key n' },
    { why: 'a wrong type', body: '{"n":"1"}', status: 400, errcode: 'M_BAD_JSON', names: 'Key n' },
    {
      why: 'a wrong value',
      body: '{"n":1,"in":{"ner":"secret"}}',
      status: 400,
      errcode: 'M_INVALID_PARAM',
      names: 'Key in.ner',
    },
    { why: 'a large one', body: `{"n":1,"x":"${'x'.repeat(2000)}"}`, status: 413, errcode: 'M_TOO_LARGE' },
    { why: 'deep nesting', body: `{"n":${'['.repeat(900)}${']'.repeat(900)}}`, status: 400, errcode: 'M_BAD_JSON' },
  ])('$why answers $errcode', async ({ body, status, errcode, names }) => {
    const answer = await put(body)
    expect(answer.status).toBe(status)
    expect(JSON.parse(answer.text).errcode).toBe(errcode)
    if (names) expect(JSON.parse(answer.text).error).toContain(names)
    expect(answer.text).not.toContain('secret')
  })
  test('any content type is read as JSON', async () => {
    const headers = { 'Content-Type': 'text/html' }
    expect((await call(state, { method: 'PUT', body: '{"n":1}', headers })).status).toBe(200)
  })
  test.each([
    { search: 'must=a&must=b%26', status: 200, expected: { query: { must: 'b&' }, all: ['a', 'b&'] } },
    { search: '', status: 400, expected: { errcode: 'M_MISSING_PARAM' } },
    { search: 'must=a&dir=x', status: 400, expected: { errcode: 'M_INVALID_PARAM' } },
  ])('query $search', async ({ search, status, expected }) => {
    const answer = await call(`${prefix}/query?${search}`)
    expect(answer.status).toBe(status)
    expect(JSON.parse(answer.text)).toMatchObject(expected)
  })
})

describe('answering', () => {
  test('a stranger is logged and not shown', async () => {
    const { status, text } = await call(`${prefix}/broken`)
    expect(status).toBe(500)
    expect(JSON.parse(text).errcode).toBe('M_UNKNOWN')
    expect(text).not.toContain('42')
    const [fields] = log.error.mock.lastCall ?? []
    expect(text).toContain(fields.request_id)
    expect(fields).toMatchObject({ method: 'GET', path: `${prefix}/broken`, err: new Error('the secret is 42') })
  })
  test('a database that is away is a matter of waiting', () => {
    const error = Object.assign(new Error('write CONNECTION_CLOSED db:5432'), { code: 'CONNECTION_CLOSED' })
    const response = errorResponse(error, { method: 'GET', path: '/x' }, log)
    expect({ status: response.status, wait: response.headers.get('Retry-After') }).toEqual({ status: 503, wait: '2' })
  })
  test('a MatrixError is answered as it is', async () => {
    const { status, text } = await call(`${prefix}/refused`)
    expect({ status, body: JSON.parse(text) }).toEqual({
      status: 403,
      body: { errcode: 'M_FORBIDDEN', error: 'No', more: 1 },
    })
    expect(ended).toHaveBeenLastCalledWith({ status: 403, path: `${prefix}/refused` })
  })
  test('ready-made JSON is sent as it is', async () => {
    expect((await call(`${prefix}/raw`)).text).toBe('{"a":1}')
    const whole = [...pieces()].join('')
    expect((await call(`${prefix}/pieces`)).text).toBe(whole)
    expect((await call(`${prefix}/later`)).text).toBe(whole)
  })
  test('a limit tells when to come back', async () => {
    const statuses: number[] = []
    for (let i = 0; i < 6; i++) statuses.push((await call(`${prefix}/limited`)).status)
    expect(statuses).toEqual([200, 200, 200, 200, 200, 429])
    const { headers, text } = await call(`${prefix}/limited`)
    const body = JSON.parse(text)
    expect(body).toMatchObject({ errcode: 'M_LIMIT_EXCEEDED', retry_after_ms: expect.any(Number) })
    expect(headers.get('Retry-After')).toBe(String(Math.ceil(body.retry_after_ms / 1000)))
    clock.advance(body.retry_after_ms)
    expect((await call(`${prefix}/limited`)).status).toBe(200)
  })
})

describe('client address', () => {
  const address = clientAddressBehind(['10.0.0.0/8', 'fd00::1'])
  test.each([
    { peer: '192.0.2.1', forwarded: '198.51.100.7', ip: '192.0.2.1' },
    { peer: '10.0.0.1', forwarded: '198.51.100.7', ip: '198.51.100.7' },
    { peer: '::ffff:10.0.0.1', forwarded: 'spoofed, 198.51.100.7', ip: '198.51.100.7' },
    { peer: '10.0.0.1', forwarded: '203.0.113.9, 198.51.100.7, 10.2.3.4', ip: '198.51.100.7' },
    { peer: 'fd00::1', forwarded: '[2001:db8::1]:4711', ip: '2001:db8::1' },
    { peer: '10.0.0.1', forwarded: '10.0.0.2', ip: '10.0.0.2' },
    { peer: '10.0.0.1', forwarded: 'unknown', ip: '10.0.0.1' },
    { peer: '10.0.0.1', forwarded: null, ip: '10.0.0.1' },
  ])('$peer, $forwarded → $ip', ({ peer, forwarded, ip }) => {
    expect(address({ socket: { remoteAddress: peer } }, forwarded)).toBe(ip)
  })
  test('a wrong entry is named', () => {
    expect(() => clientAddressBehind(['proxy.example'])).toThrow('proxy.example')
  })
})

describe('over a socket', () => {
  const server = createServer(getRequestListener(app.fetch, { overrideGlobalObjects: false }))
  let base: string
  beforeAll(async () => {
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  })
  afterAll(() => {
    server.closeAllConnections()
    server.close()
  })

  test('bodies are read from the socket, up to the limit', async () => {
    const send = (body: BodyInit, more: object = {}) => fetch(base + state, { method: 'PUT', body, ...more })
    expect((await send('{"n":1}')).status).toBe(200)
    expect((await send(`{"n":1,"x":"${'ä'.repeat(900)}"}`)).status).toBe(200)
    expect((await send(new Uint8Array([0x22, 0xff, 0x22]))).status).toBe(400)
    expect((await send('x'.repeat(2001))).status).toBe(413)
    const endless = new ReadableStream({ pull: (c) => c.enqueue(new Uint8Array(1000)) })
    const answered = await send(endless, { duplex: 'half' }).then(
      (r) => r.status,
      () => 413,
    )
    expect(answered).toBe(413)
    expect((await send('{"n":1}')).status).toBe(200)
  })
  test('HEAD has the headers of GET', async () => {
    const response = await fetch(`${base}${prefix}/raw`, { method: 'HEAD' })
    expect({ status: response.status, text: await response.text() }).toEqual({ status: 200, text: '' })
  })
  test('long replies arrive whole', async () => {
    expect(await (await fetch(`${base}${prefix}/pieces`)).text()).toBe([...pieces()].join(''))
  })
  test('a handler hears that its client left', async () => {
    const leave = new AbortController()
    const left = fetch(`${base}${prefix}/wait`, { signal: leave.signal }).catch(() => 'left')
    await vi.waitFor(() => expect(seen.signal).toBeDefined())
    leave.abort()
    expect(await left).toBe('left')
    await vi.waitFor(() => expect(seen.signal?.aborted).toBe(true))
  })
})
