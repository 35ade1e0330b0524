import { describe, expect, test } from 'vitest'
import { fakeClock } from '../clock.ts'
import type { Egress, EgressRequest, EgressResponse } from '../egress/egress.ts'
import { EgressError } from '../egress/egress-error.ts'
import type { ServerName } from '../matrix/ids.ts'
import { createDiscovery } from './discovery.ts'
import { inOrder, type SrvRecord } from './srv.ts'

/** Hosts that say where their server is, by the text of their document; the others give no answer. */
function world(options: {
  readonly documents?: Record<string, string | { text: string; headers: Record<string, string> }>
  readonly records?: Record<string, readonly SrvRecord[] | 'unknown'>
}) {
  const { documents = {}, records = {} } = options
  const asked: string[] = []
  const clock = fakeClock()
  const egress: Egress = {
    async request({ url }: EgressRequest): Promise<EgressResponse> {
      asked.push(String(url))
      const { hostname } = new URL(url)
      const document = documents[hostname]
      if (document === undefined) throw new EgressError('unreachable', `no ${hostname}`)
      const { text, headers } = typeof document === 'string' ? { text: document, headers: {} } : document
      const bytes = Buffer.from(text)
      return {
        status: text === '' ? 404 : 200,
        headers: new Headers(headers),
        url: new URL(url),
        body: (async function* () {
          yield bytes
        })(),
        bytes: async () => bytes,
        close() {},
      }
    },
    async close() {},
  }
  const discovery = createDiscovery({
    egress,
    clock,
    random: () => 0,
    async srv(name) {
      asked.push(name)
      const found = records[name]
      if (found === 'unknown') throw new Error('SERVFAIL')
      return found ?? []
    },
  })
  const targets = (name: string) => discovery.targets(name as ServerName)
  return { targets, asked, clock, discovery }
}
const record = (name: string, port: number, priority = 1, weight = 1): SrvRecord => ({ name, port, priority, weight })
const delegates = (to: string) => JSON.stringify({ 'm.server': to })

describe('server-server-api/#resolving-server-names', () => {
  test.each([
    ['1', 'an address', '1.2.3.4', '1.2.3.4 8448', '1.2.3.4'],
    ['1', 'an address with a port', '1.2.3.4:1', '1.2.3.4 1', '1.2.3.4:1'],
    ['1', 'an IPv6 address', '[::1]', '::1 8448', '[::1]'],
    ['1', 'an IPv6 address with a port', '[::1]:1', '::1 1', '[::1]:1'],
    ['2', 'a port', 'port.example:443', 'port.example 443', 'port.example:443'],
    ['3.1', 'delegated to an address', 'a.example', '1.2.3.4 8448', '1.2.3.4'],
    ['3.1', 'delegated to an address with a port', 'b.example', '::2 9', '[::2]:9'],
    ['3.2', 'delegated to a port', 'c.example', 'hs.c.example 443', 'hs.c.example:443'],
    ['3.3', 'delegated to a host with a record', 'd.example', 'srv.d.example 9000', 'hs.d.example'],
    ['3.4', 'delegated to a host with a record of the old service', 'e.example', 'srv.e.example 9001', 'hs.e.example'],
    ['3.5', 'delegated to a host', 'f.example', 'hs.f.example 8448', 'hs.f.example'],
    ['4', 'a record', 'g.example', 'srv.g.example 9002', 'g.example'],
    ['5', 'a record of the old service', 'h.example', 'srv.h.example 9003', 'h.example'],
    ['6', 'nothing', 'i.example', 'i.example 8448', 'i.example'],
    ['6', 'records that the name servers do not tell', 'j.example', 'j.example 8448', 'j.example'],
    ['6', 'a service that is decidedly not there', 'k.example', 'k.example 8448', 'k.example'],
    ['4', 'a document that is no JSON', 'l.example', 'l.example 8448', 'l.example'],
    ['4', 'a document without a server', 'm.example', 'm.example 8448', 'm.example'],
    ['4', 'a document with no server name', 'n.example', 'n.example 8448', 'n.example'],
    ['4', 'no document', 'o.example', 'o.example 8448', 'o.example'],
  ])('step %s: %s', async (_, __, name, to, host) => {
    const { targets } = world({
      documents: {
        'a.example': delegates('1.2.3.4'),
        'b.example': delegates('[::2]:9'),
        'c.example': delegates('hs.c.example:443'),
        'd.example': delegates('hs.d.example'),
        'e.example': delegates('hs.e.example'),
        'f.example': delegates('hs.f.example'),
        'l.example': '{"m.server"',
        'm.example': '{"server":"x"}',
        'n.example': delegates('https://x.example/'),
        'o.example': '',
      },
      records: {
        '_matrix-fed._tcp.hs.d.example': [record('srv.d.example', 9000)],
        '_matrix._tcp.hs.d.example': [record('old.d.example', 1)],
        '_matrix._tcp.hs.e.example': [record('srv.e.example', 9001)],
        '_matrix-fed._tcp.g.example': [record('srv.g.example', 9002)],
        '_matrix._tcp.h.example': [record('srv.h.example', 9003)],
        '_matrix-fed._tcp.j.example': 'unknown',
        '_matrix._tcp.j.example': 'unknown',
        '_matrix-fed._tcp.k.example': [record('.', 0)],
      },
    })
    const [target, ...more] = await targets(name)
    expect(more).toEqual([])
    expect(target?.host).toBe(host)
    expect(`${target?.connectTo.host} ${target?.connectTo.port}`).toBe(to)
  })

  test('a name that says all itself asks nobody', async () => {
    const { targets, asked } = world({})
    await targets('1.2.3.4')
    await targets('a.example:1')
    expect(asked).toEqual([])
  })

  test('several records are all there, in their order', async () => {
    const { targets } = world({
      records: { '_matrix-fed._tcp.a.example': [record('c.', 3, 20), record('a.', 1, 10), record('b.', 2, 10, 0)] },
    })
    expect((await targets('a.example')).map(({ connectTo }) => connectTo)).toEqual([
      { host: 'a.', port: 1 },
      { host: 'b.', port: 2 },
      { host: 'c.', port: 3 },
    ])
  })

  test.each([
    ['a day without a word', {}, 24 * 60],
    ['what Cache-Control says', { 'cache-control': 'public, max-age=7200' }, 120],
    ['never less than five minutes', { 'cache-control': 'no-store' }, 5],
    ['never more than two days', { 'cache-control': 'max-age=99999999' }, 48 * 60],
    ['what Expires says', { date: 'Tue, 01 Dec 2026 00:00:00 GMT', expires: 'Tue, 01 Dec 2026 01:00:00 GMT' }, 60],
  ])('a document is remembered: %s', async (_, headers, minutes) => {
    const { targets, asked, clock } = world({
      documents: { 'a.example': { text: delegates('hs.a.example:1'), headers: headers as Record<string, string> } },
    })
    await Promise.all([targets('a.example'), targets('a.example')])
    clock.advance(minutes * 60_000 - 1)
    await targets('a.example')
    expect(asked.length).toBe(1)
    clock.advance(1)
    await targets('a.example')
    expect(asked.length).toBe(2)
  })

  test('a failure is remembered for a minute, then for longer each time, an hour at most', async () => {
    const { targets, asked, clock } = world({})
    const looks = () => asked.filter((what) => what.startsWith('https:')).length
    const pauses = [1, 2, 4, 8, 16, 32, 60, 60]
    await targets('a.example')
    for (const [i, minutes] of pauses.entries()) {
      clock.advance(minutes * 60_000 - 1)
      await targets('a.example')
      expect(looks()).toBe(i + 1)
      clock.advance(1)
      await targets('a.example')
      expect(looks()).toBe(i + 2)
    }
  })

  test('it can say how it came to that', async () => {
    const { discovery } = world({ records: { '_matrix._tcp.a.example': [record('srv.a.example', 9)] } })
    expect(await discovery.explain('a.example' as ServerName)).toEqual([
      'https://a.example/.well-known/matrix/server: nothing that counts',
      'SRV _matrix-fed._tcp.a.example: 0 records',
      'SRV _matrix._tcp.a.example: 1 records',
      'connects to srv.a.example:9, as a.example',
    ])
  })
})

describe('RFC 2782', () => {
  test('of one priority, each comes first as often as it has weight', () => {
    let seed = 1
    const random = () => {
      seed = (seed * 16_807) % 2_147_483_647
      return seed / 2_147_483_647
    }
    const records = [record('a', 1, 1, 3), record('b', 1, 1, 1), record('none', 1, 1, 0)]
    const first = { a: 0, b: 0, none: 0 } as Record<string, number>
    for (let i = 0; i < 4_000; i++) {
      const [one] = inOrder(records, random)
      first[one?.name ?? ''] = (first[one?.name ?? ''] ?? 0) + 1
    }
    expect(first.a).toBeGreaterThan(2_800)
    expect(first.b).toBeGreaterThan(800)
    expect(first.none).toBeLessThan(50)
  })
})
