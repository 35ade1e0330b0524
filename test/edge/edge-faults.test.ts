/** The edge on Node where something goes away or takes its time: clients, handlers, and the connections between. */
import { connect } from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'
import type { Edge } from '../../functions/edge/edge.ts'
import { type Answer, rawRequest, type TestHandler, telling, testEdge, testHandler, until, ways } from './support.ts'

describe.each(ways)('%s', (_way, together) => {
  const opened: { close(): Promise<void> }[] = []
  afterEach(async () => {
    for (const each of opened.splice(0).reverse()) await each.close()
  })
  async function handler(answer: Answer, port?: number): Promise<TestHandler> {
    const made = await testHandler(answer, port)
    opened.push(made)
    return made
  }
  async function edgeBefore(...args: Parameters<typeof testEdge>): Promise<{ edge: Edge; base: string; port: number }> {
    const [upstreams, settings, edgeSettings, options] = args
    const edge = await testEdge(upstreams, settings, edgeSettings, { ...options, together })
    opened.push(edge)
    const base = edge.addresses[0] ?? ''
    return { edge, base, port: Number(new URL(base).port) }
  }
  async function deadUrl(): Promise<string> {
    const gone = await testHandler(telling('client'))
    await gone.close()
    return gone.url
  }
  const send = '/_matrix/client/v3/rooms/!a:b/send/m.room.message/1'

  describe('a handler that is gone', () => {
    test('another gets the request, whatever it is: nobody saw it before', async () => {
      const dead = await deadUrl()
      const alive = await handler(telling('client'))
      const { base } = await edgeBefore({ client: [dead, alive.url] })
      for (let i = 0; i < 20; i++) {
        const body = i % 2 === 0 ? '{}' : 'x'.repeat(100_000)
        const answer = await fetch(`${base}/_matrix/client/v3/createRoom`, { method: 'POST', body })
        expect(answer.status).toBe(200)
        expect(await answer.json()).toMatchObject({ bodyBytes: body.length })
      }
    })

    test('with nobody else, the client is told to come back', async () => {
      const { base } = await edgeBefore({ client: [await deadUrl()] })
      const answer = await fetch(`${base}${send}`, { method: 'PUT', body: '{}' })
      expect(answer.status).toBe(503)
      expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(0)
      expect(answer.headers.get('access-control-allow-origin')).toBe('*')
      expect(await answer.json()).toMatchObject({ errcode: 'M_UNAVAILABLE', retry_after_ms: expect.any(Number) })
    })

    test('it is tried again when it is back', async () => {
      const gone = await testHandler(telling('client'))
      await gone.close()
      const { base } = await edgeBefore({ client: [gone.url] })
      expect((await fetch(`${base}/_matrix/client/versions`)).status).toBe(503)
      await handler(telling('client'), gone.port)
      expect((await fetch(`${base}/_matrix/client/versions`)).status).toBe(200)
    })

    test('requests wait for the first handler of a role to appear', async () => {
      const { base, edge } = await edgeBefore({ client: [] })
      const waiting = fetch(`${base}/_matrix/client/versions`)
      const alive = await handler(telling('client'))
      edge.setUpstreams('client', [alive.url])
      expect((await waiting).status).toBe(200)
    })
  })

  describe('a handler that dies with the request', () => {
    const dying: Answer = (incoming, outgoing) => {
      incoming.resume()
      incoming.on('end', () => outgoing.destroy())
    }
    test.each([
      ['GET', '/_matrix/client/v3/joined_rooms'],
      ['PUT', send],
      ['PUT', '/_matrix/client/v3/rooms/!a:b/typing/@a:b'],
      ['POST', '/_matrix/client/v3/keys/query'],
    ])('%s %s: another gets it', async (method, target) => {
      const [dead, alive] = [await handler(dying), await handler(telling('client'))]
      const { base } = await edgeBefore({ client: [dead.url, alive.url] })
      for (let i = 0; i < 10; i++) {
        const headers = { Authorization: `Bearer gat_00000${i}_x` }
        const answer = await fetch(`${base}${target}`, {
          method,
          headers,
          ...(method === 'GET' ? {} : { body: '{"a":1}' }),
        })
        expect(answer.status).toBe(200)
        expect(await answer.json()).toMatchObject({ target, bodyBytes: method === 'GET' ? 0 : 7 })
      }
    })

    test('what is not to be done twice is not sent twice', async () => {
      let seen = 0
      const counting: Answer = (incoming, outgoing) => {
        seen++
        dying(incoming, outgoing)
      }
      const [one, other] = [await handler(counting), await handler(counting)]
      const { base } = await edgeBefore({ client: [one.url, other.url] })
      const answer = await fetch(`${base}/_matrix/client/v3/createRoom`, { method: 'POST', body: '{}' })
      expect(answer.status).toBe(502)
      expect(await answer.json()).toMatchObject({ errcode: 'M_UNAVAILABLE' })
      expect(seen).toBe(1)
    })

    test('an answer that broke off is seen to have broken off', async () => {
      const broken = await handler((_, outgoing) => {
        outgoing.writeHead(200, { 'Content-Length': '100' })
        outgoing.write('half', () => outgoing.destroy())
      })
      const { base } = await edgeBefore({ client: [broken.url] })
      const answer = await fetch(`${base}/_matrix/client/versions`)
      expect(answer.status).toBe(200)
      await expect(answer.text()).rejects.toThrow()
    })
  })

  describe('a handler that hangs', () => {
    test('loses its requests when it is struck off: what may be repeated goes elsewhere', async () => {
      let held = 0
      const hanging = await handler(() => held++)
      const { base, edge } = await edgeBefore({ client: [hanging.url] }, {}, {}, { handlersLastAnswersMs: 50 })
      const get = fetch(`${base}/_matrix/client/v3/joined_rooms`)
      const post = fetch(`${base}/_matrix/client/v3/createRoom`, { method: 'POST', body: '{}' })
      await until(() => held === 2, 'both hang')
      const alive = await handler(telling('client'))
      edge.setUpstreams('client', [alive.url])
      expect((await get).status).toBe(200)
      expect((await post).status).toBe(502)
    })
  })

  describe('a handler that takes its time', () => {
    test('is waited for until its answer begins, and no longer cut then', async () => {
      const slow = await handler((incoming, outgoing) => {
        if (incoming.url?.includes('never')) return
        outgoing.writeHead(200)
        outgoing.write('begun')
        // Beyond what it has for the beginning.
        setTimeout(() => outgoing.end(' and ended'), 1_200)
      })
      const { base } = await edgeBefore({ client: [slow.url] }, {}, {}, { answerMs: 400 })
      const never = await fetch(`${base}/_matrix/client/versions?never`)
      expect(never.status).toBe(504)
      expect(await never.json()).toMatchObject({ errcode: 'M_UNAVAILABLE' })
      const answer = await fetch(`${base}/_matrix/client/versions`)
      expect(await answer.text()).toBe('begun and ended')
    })
  })

  describe('a client that leaves', () => {
    test('its long poll ends at the handler', async () => {
      let left = 0
      let came = 0
      const polled = await handler((_, outgoing) => {
        came++
        outgoing.on('close', () => left++)
      })
      const { port } = await edgeBefore({ sync: [polled.url] })
      const socket = connect(port, '127.0.0.1')
      socket.write('GET /_matrix/client/v3/sync?timeout=30000 HTTP/1.1\r\nHost: x\r\n\r\n')
      await until(() => came === 1, 'the handler has the request')
      socket.destroy()
      await until(() => left === 1, 'the handler is told')
    })

    test('its half upload ends at the handler', async () => {
      let aborted = 0
      let bytes = 0
      const media = await handler((incoming) => {
        incoming.on('data', (chunk: Buffer) => {
          bytes += chunk.length
        })
        incoming.on('error', () => aborted++)
      })
      const { port } = await edgeBefore({ media: [media.url] })
      const socket = connect(port, '127.0.0.1')
      socket.write('POST /_matrix/media/v3/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n')
      socket.write('x'.repeat(500_000))
      await until(() => bytes === 500_000, 'the first half is there')
      socket.destroy()
      await until(() => aborted === 1, 'the handler is told')
    })

    test('its half small body reaches nobody', async () => {
      let came = 0
      const client = await handler(() => came++)
      const { port, base } = await edgeBefore({ client: [client.url] })
      const socket = connect(port, '127.0.0.1')
      socket.write(`PUT ${send} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{`)
      await fetch(`${base}/health`)
      socket.destroy()
      await fetch(`${base}/health`)
      expect(came).toBe(0)
    })
  })

  describe('an early answer', () => {
    test('to an upload that goes on reaches the client', async () => {
      const refusing = await handler((_, outgoing) => {
        outgoing.writeHead(401, { 'Content-Type': 'application/json' })
        outgoing.end('{"errcode":"M_MISSING_TOKEN"}')
      })
      const { port } = await edgeBefore({ media: [refusing.url] })
      const head =
        'POST /_matrix/media/v3/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\nConnection: close\r\n\r\n'
      const answer = await rawRequest(port, head + 'x'.repeat(3_000_000))
      expect(answer.status).toBe(401)
      expect(answer.body).toContain('M_MISSING_TOKEN')
    })
  })

  describe('amounts', () => {
    test('1,000 long polls wait at once, and are answered together', async () => {
      const waiting: (() => void)[] = []
      const sync = await handler((_, outgoing) => {
        waiting.push(() => outgoing.end('{}'))
      })
      const { port } = await edgeBefore({ sync: [sync.url] })
      const request = 'GET /_matrix/client/v3/sync HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'
      const answers = Array.from({ length: 1_000 }, () => rawRequest(port, request))
      await until(() => waiting.length === 1_000, 'all wait')
      for (const answer of waiting) answer()
      expect((await Promise.all(answers)).filter(({ status }) => status === 200)).toHaveLength(1_000)
      // The connections to the handler are kept, but not all for ever.
      await until(() => sync.connections() <= 512, 'the pool is bounded')
    })
  })
})
