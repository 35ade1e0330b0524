/** The edge on Node, over real sockets: what reaches the handlers, and what comes back. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Edge } from '../../functions/edge/edge.ts'
import { RequestTallies } from '../../shared/metrics/request-tally.ts'
import type { EndedSpan } from '../../shared/tracing/otlp-exporter.ts'
import { createTracer } from '../../shared/tracing/recording-tracer.ts'
import { rawRequest, type Seen, type TestHandler, telling, testEdge, testHandler, until, ways } from './support.ts'

describe.each(ways)('%s', (_way, together) => {
  let edge: Edge
  let trusting: Edge
  let base: string
  let port: number
  const handlers: TestHandler[] = []

  beforeAll(async () => {
    const upstreams: Record<string, string[]> = {}
    for (const role of ['sync', 'client', 'federation', 'media']) {
      const handler = await testHandler(telling(role))
      handlers.push(handler)
      upstreams[role] = [handler.url]
    }
    const limits = { body_limits: { client: 100_000, media: 2_000_000 } }
    edge = await testEdge(upstreams, {}, limits, { together })
    trusting = await testEdge(upstreams, { trusted_proxies: ['127.0.0.1', '10.0.0.0/8'] }, {}, { together })
    base = edge.addresses[0] ?? ''
    port = Number(new URL(base).port)
  })
  afterAll(async () => {
    await Promise.all([edge.close(), trusting.close()])
    await Promise.all(handlers.map((handler) => handler.close()))
  })

  async function seen(target: string, init: RequestInit = {}, at = base): Promise<Seen> {
    const answer = await fetch(`${at}${target}`, init)
    expect(answer.status).toBe(200)
    return (await answer.json()) as Seen
  }

  function raw(
    head: readonly string[],
    body: string | Buffer = '',
  ): Promise<{ status: number; head: string; seen: Seen }> {
    const text = Buffer.concat([
      Buffer.from(`${head.join('\r\n')}\r\nConnection: close\r\n\r\n`, 'latin1'),
      Buffer.from(body),
    ])
    return rawRequest(port, text).then(({ status, head: answerHead, body: answer }) => {
      const start = answer.indexOf('{')
      const json = answer.slice(start, answer.lastIndexOf('}') + 1)
      return { status, head: answerHead, seen: JSON.parse(json) as Seen }
    })
  }

  describe('the path', () => {
    test.each([
      '/_matrix/client/v3/rooms/!a%3Ab/state/m.x/a%2Fb%252Fc',
      '/_matrix/client/v3/rooms/!a:b/state/m.x/',
      '/_matrix/client/v3/rooms//state',
      '/_matrix/client/v3/../v3/./sync',
      '/_matrix/client/v3/%zz%',
      '/_matrix/client/v3/profile/@a:b?x=%20+&y&&=#no',
      '/_matrix/federation/v1/event/$a%24b\'()*;=,~|{}^`\\"<>',
    ])('%s goes on byte for byte', async (target) => {
      const { status, seen: got } = await raw([`GET ${target} HTTP/1.1`, 'Host: example.org'])
      expect(status).toBe(200)
      expect(got.target).toBe(target)
    })

    test('that is no URL is refused: bytes beyond ASCII have to be encoded', async () => {
      const answer = await rawRequest(
        port,
        Buffer.from('GET /_matrix/client/v3/profile/\u00e9 HTTP/1.1\r\nHost: x\r\n\r\n', 'latin1'),
      )
      expect(answer.status).toBe(400)
    })

    test('of an absolute URL is taken from it', async () => {
      const { seen: got } = await raw([
        'GET http://example.org/_matrix/client/versions?a HTTP/1.1',
        'Host: example.org',
      ])
      expect(got.target).toBe('/_matrix/client/versions?a')
    })

    test('what is no path of this server ends here', async () => {
      for (const target of ['/metrics', '/commands/x', '*', '/']) {
        const answer = await rawRequest(port, `GET ${target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`)
        expect([400, 404]).toContain(answer.status)
        expect(answer.head).toMatch(/access-control-allow-origin: \*/i)
        expect(answer.body).toMatch(/^\{"errcode":"M_/)
      }
    })
  })

  describe('headers', () => {
    test("nobody passes for somebody else: a client's own X-Forwarded-… and ids are dropped", async () => {
      const { headers } = await seen('/_matrix/client/versions', {
        headers: {
          'X-Forwarded-For': '9.9.9.9',
          'X-Forwarded-Proto': 'https',
          'X-Forwarded-Host': 'evil.example',
          'X-Real-IP': '9.9.9.9',
          Forwarded: 'for=9.9.9.9',
          'X-Request-Id': 'mine',
          traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
          'X-Ganglion-Forwarded': '1',
        },
      })
      expect(headers).toMatchObject({
        'x-forwarded-for': '127.0.0.1',
        'x-forwarded-proto': 'http',
        host: `127.0.0.1:${port}`,
      })
      expect(headers['x-forwarded-host']).toBe(`127.0.0.1:${port}`)
      expect(headers['x-request-id']).not.toBe('mine')
      for (const name of ['forwarded', 'x-real-ip', 'x-ganglion-forwarded', 'traceparent'])
        expect(headers[name]).toBeUndefined()
    })

    test('a trusted proxy is believed as far as it can know: the right-most hop that is not trusted', async () => {
      const { headers } = await seen(
        '/_matrix/client/versions',
        {
          headers: {
            'X-Forwarded-For': '1.1.1.1, 2.2.2.2, 10.1.2.3',
            'X-Forwarded-Proto': 'https',
            'X-Forwarded-Host': 'matrix.example.org',
            'X-Request-Id': 'from-proxy',
          },
        },
        trusting.addresses[0],
      )
      expect(headers).toMatchObject({
        'x-forwarded-for': '2.2.2.2',
        'x-forwarded-proto': 'https',
        'x-forwarded-host': 'matrix.example.org',
        'x-request-id': 'from-proxy',
      })
    })

    test('what belongs to the connection stays on it', async () => {
      const { seen: got } = await raw([
        'GET /_matrix/client/versions HTTP/1.1',
        'Host: example.org',
        'Connection: x-mine, keep-alive, authorization',
        'X-Mine: 1',
        'Authorization: Bearer t',
        'Keep-Alive: 5',
        'TE: trailers',
        'Upgrade: websocket',
        'Proxy-Authorization: x',
      ])
      expect(Object.keys(got.headers).filter((name) => /mine|keep|^te$|upgrade|proxy/.test(name))).toEqual([])
      expect(got.headers.authorization).toBe('Bearer t')
    })

    test('each request has an id of its own', async () => {
      const ids = await Promise.all(
        [1, 2, 3].map(async () => (await seen('/_matrix/client/versions')).headers['x-request-id']),
      )
      expect(new Set(ids).size).toBe(3)
      for (const id of ids) expect(id).toMatch(/^[\w.:-]{1,64}$/)
    })
  })

  describe('bodies', () => {
    test.each([0, 1, 65_536, 65_537, 99_999])('%i bytes with their length', async (bytes) => {
      const init = { method: 'PUT', body: 'x'.repeat(bytes) }
      expect(await seen('/_matrix/client/v3/profile/@a:b/displayname', init)).toMatchObject({
        role: 'client',
        method: 'PUT',
        bodyBytes: bytes,
      })
    })

    test.each(['POST', 'PUT', 'DELETE'])('in chunks (%s)', async (method) => {
      const chunks = ['5\r\nhello\r\n', '6\r\n world\r\n', '0\r\n\r\n']
      const head = [`${method} /_matrix/client/v3/createRoom HTTP/1.1`, 'Host: x', 'Transfer-Encoding: chunked']
      const { seen: got } = await raw(head, chunks.join(''))
      expect(got).toMatchObject({ method, bodyBytes: 11 })
    })

    test('each role has its own largest body, told as Matrix does', async () => {
      const body = 'x'.repeat(100_001)
      const answer = await fetch(`${base}/_matrix/client/v3/createRoom`, { method: 'POST', body })
      expect(answer.status).toBe(413)
      expect(answer.headers.get('access-control-allow-origin')).toBe('*')
      expect(await answer.json()).toMatchObject({ errcode: 'M_TOO_LARGE' })
      expect(await seen('/_matrix/media/v3/upload', { method: 'POST', body })).toMatchObject({
        role: 'media',
        bodyBytes: 100_001,
      })
    })

    test('a body without a length is counted', async () => {
      const chunk = `${(50_000).toString(16)}\r\n${'x'.repeat(50_000)}\r\n`
      const head =
        'POST /_matrix/client/v3/createRoom HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n'
      const answer = await rawRequest(port, `${head}${chunk.repeat(3)}0\r\n\r\n`)
      expect(answer.status).toBe(413)
      expect(answer.body).toContain('M_TOO_LARGE')
    })

    test.each([
      'GET /_matrix\n/x HTTP/1.1',
      'GET / HTTP/1.1\r\nX-A: b\r\n c',
      'GET / HTTP/1.1\r\nX-A: b\n c',
      'GET / HTTP/1.1\r\nX-A: b\rc',
    ])('a line break inside of a line is refused: %j', async (lines) => {
      const { status } = await rawRequest(port, `${lines}\r\nHost: x\r\nConnection: close\r\n\r\n`)
      expect(status).toBe(400)
    })

    test('two framings of one body are refused, not guessed', async () => {
      const answer = await rawRequest(
        port,
        'POST /_matrix/client/v3/createRoom HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /metrics HTTP/1.1\r\n\r\n',
      )
      expect(answer.status).toBe(400)
    })
  })

  describe('browsers', () => {
    test('a preflight is answered here', async () => {
      for (const target of ['/_matrix/client/v3/sync', '/_matrix/media/v3/upload']) {
        const answer = await fetch(`${base}${target}`, { method: 'OPTIONS' })
        expect(answer.status).toBe(204)
        expect(answer.headers.get('access-control-allow-headers')).toContain('Authorization')
        expect(Number(answer.headers.get('access-control-max-age'))).toBeGreaterThan(0)
      }
    })
  })

  test('probes of the edge itself', async () => {
    expect((await fetch(`${base}/health`)).status).toBe(200)
    expect(await (await fetch(`${base}/ready`)).json()).toEqual({ ready: true, reasons: [] })
    const lonely = await testEdge({ client: ['http://127.0.0.1:9'] })
    const answer = await fetch(`${lonely.addresses[0]}/ready`)
    expect(answer.status).toBe(503)
    expect(await answer.json()).toEqual({ ready: false, reasons: ['sync'] })
    await lonely.close()
  })

  test('HEAD has the headers and no body', async () => {
    const answer = await fetch(`${base}/_matrix/client/versions`, { method: 'HEAD' })
    expect(answer.status).toBe(200)
    expect(answer.headers.get('content-type')).toBe('application/json')
    expect(await answer.text()).toBe('')
  })

  test('requests are counted by role, and traced on to the handler', async () => {
    const requests = new RequestTallies()
    const exporter: EndedSpan[] = []
    const tracer = createTracer({
      sampleRatio: 1,
      exporter: { add: (span) => void exporter.push(span), close: async () => {} },
    })
    const upstreams = Object.fromEntries(
      handlers.map((handler, i) => [['sync', 'client', 'federation', 'media'][i], [handler.url]]),
    )
    const observed = await testEdge(upstreams, {}, {}, { observe: requests.observe, tracer })
    const { headers } = await seen('/_matrix/client/v3/sync', {}, observed.addresses[0])
    await until(() => exporter.length === 1, 'the span ends')
    expect(headers.traceparent).toContain(exporter[0]?.trace_id)
    expect([...requests.used()].map(({ method, path, inFlight }) => [method, path, inFlight])).toEqual([
      ['GET', 'sync', 0],
    ])
    await observed.close()
  })
})
