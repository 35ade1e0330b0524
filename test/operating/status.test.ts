/** What an operator sees: the status page and its JSON, readiness, metrics and traces of one process. */
import { createHmac } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { freePort } from '../../infra/dev/free-port.ts'
import { type TestDatabase, testDatabase } from '../support/database.ts'
import { type OtlpCollector, otlpCollector } from '../support/otlp-collector.ts'
import { type ServerProcess, serverProcess } from '../support/server-process.ts'

let collector: OtlpCollector
let database: TestDatabase
let server: ServerProcess
let metricsPort: number
let admin: string
let user: string

beforeAll(async () => {
  collector = await otlpCollector()
  database = await testDatabase()
  metricsPort = await freePort()
  server = await serverProcess({
    databaseUrl: database.url,
    config: `trusted_proxies: [127.0.0.1]\nmetrics: { listen: { port: ${metricsPort} } }\ntracing: { otlp_url: "${collector.url}" }`,
  })
  await server.start()
  admin = await registerAdmin()
  user = (await server.register('mere')).access_token
})
afterAll(async () => {
  await server?.close()
  await database?.drop()
  collector?.close()
})

async function registerAdmin(): Promise<string> {
  const url = `${server.baseUrl}/_synapse/admin/v1/register`
  const { nonce } = (await (await fetch(url)).json()) as { nonce: string }
  const password = 'correct horse'
  const mac = createHmac('sha1', 'test-secret').update([nonce, 'boss', password, 'admin'].join('\0')).digest('hex')
  const answer = await fetch(url, {
    method: 'POST',
    body: JSON.stringify({ nonce, username: 'boss', password, admin: true, mac }),
  })
  return ((await answer.json()) as { access_token: string }).access_token
}

const get = (path: string, token?: string, headers: Record<string, string> = {}) =>
  fetch(server.baseUrl + path, { headers: { ...(token ? { Authorization: `Bearer ${token}` } : {}), ...headers } })

describe('the status', () => {
  const path = '/_synapse/admin/v1/ganglion/status'

  test('is for administrators', async () => {
    expect((await get(path)).status).toBe(401)
    expect((await get(path, user)).status).toBe(403)
    expect((await get(path, admin)).status).toBe(200)
  })

  test('tells of processes, mains, shards and streams', async () => {
    const status = await (await get(path, admin)).json()
    expect(status).toMatchObject({
      server_name: 'test.local',
      separate_roles: false,
      redis_reached: true,
      processes: [{ role: 'monolith', positions: { events: expect.any(Number) }, caches: { access_tokens: {} } }],
      streams: { events: 0 },
    })
    expect(status).toHaveProperty('shards.length', 64)
    expect(JSON.stringify(status)).not.toContain('postgres:')
  })

  test('is shown by a page that loads nothing and says so', async () => {
    const page = await get('/_synapse/admin/ganglion')
    expect(page.headers.get('content-type')).toBe('text/html; charset=utf-8')
    const policy = page.headers.get('content-security-policy') ?? ''
    expect(policy).toMatch(
      /^default-src 'none'; script-src 'sha256-[^']+'; style-src 'sha256-[^']+'; connect-src 'self';/,
    )
    const html = await page.text()
    expect(html).not.toMatch(/(?:src|href)=|https?:\/\//)
    expect(html).not.toMatch(/\/\* (?:style|script) \*\//)
  })
})

test('readiness names its reasons', async () => {
  const ready = await get('/ready')
  expect(ready.status).toBe(200)
  expect(await ready.json()).toMatchObject({ ready: true, reasons: [] })
})

test('metrics tell of requests and of the process', async () => {
  await get('/_matrix/client/v3/account/whoami', user)
  const text = await (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text()
  expect(text).toMatch(
    /^synapse_http_server_requests_received_total\{.*servlet="\/_matrix\/client\/v3\/account\/whoami"/m,
  )
  expect(text).toMatch(/^ganglion_sync_lag_seconds\{/m)
  expect(text).toMatch(/^ganglion_commit_queue_depth\{/m)
  expect((await get('/metrics')).status).toBe(404)
})

describe('traces', () => {
  const spans = () => collector.spans
  const trace = '0af7651916cd43dd8448eb211c80319c'
  const parent = 'b7ad6b7169203331'

  test('go on where a trusted proxy began them, under the declared path', async () => {
    const headers = { traceparent: `00-${trace}-${parent}-01`, 'x-request-id': 'edge-77' }
    await get('/_matrix/client/v3/profile/@mere:test.local?access_token=hush', undefined, headers)
    await expect.poll(() => spans().find(({ traceId }) => traceId === trace), { timeout: 10_000 }).toBeDefined()
    expect([...collector.paths]).toEqual(['/v1/traces'])
    const span = spans().find(({ traceId }) => traceId === trace)
    expect(span).toMatchObject({ parentSpanId: parent, name: 'GET /_matrix/client/v3/profile/:userId', kind: 2 })
    const attributes = Object.fromEntries(span?.attributes.map(({ key, value }) => [key, value]) ?? [])
    expect(attributes).toMatchObject({
      'http.response.status_code': { intValue: '200' },
      'ganglion.request_id': { stringValue: 'edge-77' },
    })
    expect(JSON.stringify(spans())).not.toContain('hush')
  })

  test('are not recorded where the proxy does not record them', async () => {
    const other = '1af7651916cd43dd8448eb211c80319c'
    await get('/_matrix/client/versions', undefined, { traceparent: `00-${other}-${parent}-00` })
    const begun = spans().length
    await get('/_matrix/client/versions')
    await expect.poll(() => spans().length, { timeout: 10_000 }).toBeGreaterThan(begun)
    expect(spans().filter(({ traceId }) => traceId === other)).toEqual([])
  })
})
