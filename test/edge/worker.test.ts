/** The edge as a Worker, in workerd: the same promises as on Node, as far as the platform lets it keep them. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { roles, routeTable } from '../../shared/http/route-table.ts'
import { HttpClient } from '../support/http-client.ts'
import { type Answer, rawRequest, type Seen, type TestHandler, telling, testHandler, until } from './support.ts'
import { quietEnvironment, type RunningWorker, startBareWorker, startWorker, wrangler } from './workerd.ts'

const root = path.resolve(import.meta.dirname, '../..')
const handlers: TestHandler[] = []
let worker: RunningWorker
let came = 0
let left = 0

beforeAll(async () => {
  const variables: Record<string, string> = { CLIENT_BODY_BYTES: '100000' }
  for (const role of roles) {
    const urls: string[] = []
    for (const name of ['a', 'b']) {
      const tells = telling(`${role} ${name}`)
      const answer: Answer = (incoming, outgoing) => {
        if (incoming.url?.includes('dies')) {
          if (name === 'a') incoming.resume().on('end', () => incoming.socket.destroy())
          else tells(incoming, outgoing)
        } else if (incoming.url?.includes('redirect?leads'))
          outgoing.writeHead(302, { Location: 'app://x?loginToken=1' }).end()
        else tells(incoming, outgoing)
      }
      const handler = await testHandler(answer)
      handlers.push(handler)
      urls.push(handler.url)
    }
    variables[`${role.toUpperCase()}_UPSTREAMS`] = urls.join(',')
  }
  worker = await startWorker(variables)
})
afterAll(async () => {
  await worker.close()
  for (const handler of handlers) await handler.close()
})

async function seen(target: string, init: RequestInit = {}): Promise<Seen> {
  const answer = await fetch(`${worker.url}${target}`, init)
  expect(answer.status).toBe(200)
  return (await answer.json()) as Seen
}

test('every route of the table goes to its role, its path raw', async () => {
  const client = new HttpClient('127.0.0.1', worker.port)
  const wrong: unknown[] = []
  for (const { method, path: pattern, role } of routeTable) {
    const target = `${pattern.replace(/:\w+/g, '!some%2Fthing%3Aother').replace('*', 'a%2Fb%20c')}?q=a%2Fb+c`
    const answer = await client.request(method, target, undefined, method === 'GET' ? undefined : '{}')
    const got = JSON.parse(answer.body) as Seen
    if (got.role.split(' ')[0] !== role || got.target !== target || got.method !== method)
      wrong.push([method, target, got])
  }
  client.close()
  expect(wrong).toEqual([])
})

test("nobody passes for somebody else by headers of the edge's", async () => {
  const { headers } = await seen('/_matrix/client/versions', {
    headers: {
      'X-Forwarded-For': '9.9.9.9',
      'X-Forwarded-Proto': 'gopher',
      'X-Real-IP': '9.9.9.9',
      'X-Request-Id': 'mine',
      'X-Ganglion-Forwarded': '1',
    },
  })
  expect(headers).toMatchObject({ 'x-forwarded-for': '127.0.0.1', 'x-forwarded-proto': 'http' })
  expect(headers['x-request-id']).not.toBe('mine')
  for (const name of ['x-real-ip', 'x-ganglion-forwarded', 'cf-connecting-ip']) expect(headers[name]).toBeUndefined()
})

describe('answers of its own', () => {
  test('a preflight', async () => {
    const answer = await fetch(`${worker.url}/_matrix/client/v3/sync`, { method: 'OPTIONS' })
    expect(answer.status).toBe(204)
    expect(answer.headers.get('access-control-allow-headers')).toContain('Authorization')
  })

  test('what is no path of this server', async () => {
    const answer = await fetch(`${worker.url}/metrics`)
    expect(answer.status).toBe(404)
    expect(answer.headers.get('access-control-allow-origin')).toBe('*')
    expect(await answer.json()).toMatchObject({ errcode: 'M_UNRECOGNIZED' })
  })

  test('a body that is too large, with its length and without', async () => {
    const body = 'x'.repeat(100_001)
    const answer = await fetch(`${worker.url}/_matrix/client/v3/createRoom`, { method: 'POST', body })
    expect(answer.status).toBe(413)
    const chunk = `${(50_000).toString(16)}\r\n${'x'.repeat(50_000)}\r\n`
    const head =
      'POST /_matrix/client/v3/createRoom HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n'
    const chunked = await rawRequest(worker.port, `${head}${chunk.repeat(3)}0\r\n\r\n`)
    expect(chunked.status).toBe(413)
    expect(chunked.body).toContain('M_TOO_LARGE')
  })
})

test('bodies go through, large ones as they come', async () => {
  for (const bytes of [1, 65_536, 65_537, 99_999]) {
    const got = await seen('/_matrix/client/v3/profile/@a:b/displayname', { method: 'PUT', body: 'x'.repeat(bytes) })
    expect(got.bodyBytes).toBe(bytes)
  }
  const bytes = 10 * 1024 * 1024
  expect(await seen('/_matrix/media/v3/upload', { method: 'POST', body: 'x'.repeat(bytes) })).toMatchObject({
    role: expect.stringMatching(/^media/) as string,
    bodyBytes: bytes,
  })
})

test('redirects are for the client', async () => {
  const answer = await fetch(`${worker.url}/_matrix/client/v3/login/sso/redirect?leads`, { redirect: 'manual' })
  expect(answer.status).toBe(302)
  expect(answer.headers.get('location')).toBe('app://x?loginToken=1')
})

test('a handler that dies with a request that may be repeated: another gets it', async () => {
  for (let i = 0; i < 6; i++) {
    const init = { method: 'PUT', body: '{"a":1}' }
    const got = await seen(`/_matrix/client/v3/rooms/!r${i}:x/send/m.dies/${i}`, init)
    expect(got).toMatchObject({ role: 'client b', bodyBytes: 7 })
  }
})

test('requests of one user meet one handler', async () => {
  const ask = async (i: number) =>
    (await seen('/_matrix/client/v3/sync', { headers: { Authorization: `Bearer gat_0000a${i}_x` } })).role
  const first = await Promise.all(Array.from({ length: 8 }, (_, i) => ask(i)))
  expect(await Promise.all(Array.from({ length: 8 }, (_, i) => ask(i)))).toEqual(first)
  expect(new Set(first).size).toBe(2)
})

test('a client that leaves ends its long poll at the handler', async () => {
  const handler = await testHandler((_, outgoing) => {
    came++
    outgoing.on('close', () => left++)
  })
  const bare = await startBareWorker({ SYNC_UPSTREAMS: handler.url })
  const socket = connect(bare.port, '127.0.0.1')
  socket.write('GET /_matrix/client/v3/sync HTTP/1.1\r\nHost: x\r\n\r\n')
  await until(() => came === 1, 'the handler has the request')
  socket.resetAndDestroy()
  await until(() => left === 1, 'the handler is told')
  await bare.close()
  await handler.close()
})

describe('wrangler.toml', () => {
  test.each([
    ['before handlers anywhere', ['--env=']],
    // The images are built where there is a container engine; that they can be is tested with them.
    ['before containers', ['--env=containers', '--containers-rollout=none']],
  ])('is one that can be deployed: %s', (_, options) => {
    const out = mkdtempSync(path.join(tmpdir(), 'ganglion-worker-'))
    const { status, stdout, stderr } = spawnSync(wrangler, ['deploy', '--dry-run', '--outdir', out, ...options], {
      cwd: root,
      env: quietEnvironment(),
      encoding: 'utf8',
    })
    expect(`${stdout}${stderr}`).not.toMatch(/WARNING|ERROR/)
    expect(status).toBe(0)
    expect(readdirSync(out)).toContain('worker.js')
    rmSync(out, { recursive: true })
    if (options[0] !== '--env=')
      for (const role of roles) expect(stdout).toContain(`env.${role.toUpperCase()}_CONTAINERS`)
  })
})
