/** Requests to the outside, to hosts that somebody else chose: what must not be reached is not, and what comes back costs
 *  little, whatever it is. */
import { brotliCompressSync, deflateRawSync, deflateSync, gzipSync, constants as zlib } from 'node:zlib'
import * as v from 'valibot'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { fakeClock } from '../../shared/clock.ts'
import { Config } from '../../shared/config/schema.ts'
import { createEgress, type Egress, type EgressOptions, type EgressRequest } from '../../shared/egress/egress.ts'
import { EgressError, type EgressReason } from '../../shared/egress/egress-error.ts'
import { endlessly, fakeNames, type HostileWeb, hostileWeb, inside, outside } from '../support/hostile-web.ts'
import { type Cost, costTable, measured } from '../support/measured.ts'

const bytesMax = 256 * 1024
const caseMsMax = 5_000
const grownMiBMax = 96

let web: HostileWeb
const costs: Cost[] = []
beforeAll(async () => {
  web = await hostileWeb()
})
afterAll(async () => {
  await web.close()
  console.log(costTable(costs))
})

const opened: Egress[] = []
afterEach(async () => {
  await Promise.all(opened.splice(0).map((egress) => egress.close()))
})

function egress(options: Partial<Omit<EgressOptions, 'config'>> & { config?: object } = {}): Egress {
  const { config = {}, ...rest } = options
  const made = createEgress({
    config: v.parse(Config.entries.egress, { allowed_ranges: [outside], body_bytes_max: bytesMax, ...config }),
    ...rest,
  })
  opened.push(made)
  return made
}

/** Asks and reads all of it; every case is held to the same bounds. */
async function fetched(name: string, client: Egress, request: EgressRequest): Promise<string> {
  try {
    return await measured(name, costs, async () => {
      const answer = await client.request(request)
      return (await answer.bytes()).toString()
    })
  } finally {
    const cost = costs.at(-1)!
    expect(cost.wallMs).toBeLessThan(caseMsMax)
    expect(cost.grownMiB).toBeLessThan(grownMiBMax)
  }
}

async function expectRefused(
  name: string,
  reason: EgressReason,
  client: Egress,
  request: EgressRequest,
): Promise<void> {
  const error = await fetched(name, client, request).then(
    () => undefined,
    (error: unknown) => error,
  )
  expect(error).toBeInstanceOf(EgressError)
  expect(error).toMatchObject({ reason })
  // Whatever was in the URL or in the answer, none of it is in the message.
  expect(String(error)).not.toMatch(/hush/)
  expect(web.reachedInside).toEqual([])
}

describe('URLs that are not what they seem', () => {
  test.each([
    ['a private address', `http://${inside}:PORT/hush`, 'denied'],
    ['decimal', 'http://2130706434:PORT/hush', 'denied'],
    ['octal', 'http://0177.0.0.2:PORT/', 'denied'],
    ['hexadecimal', 'http://0x7f000002:PORT/', 'denied'],
    ['parts left out', 'http://127.2:PORT/', 'denied'],
    ['mixed', 'http://0x7f.0.2:PORT/', 'denied'],
    ['full-width digits', 'http://１２７.0.0.2:PORT/', 'denied'],
    ['a dot at the end', 'http://127.0.0.2.:PORT/', 'denied'],
    ['percent-encoded', 'http://%31%32%37.0.0.2:PORT/', 'denied'],
    ['mapped IPv6', 'http://[::ffff:127.0.0.2]:PORT/', 'denied'],
    ['mapped IPv6 in hexadecimal', 'http://[::ffff:7f00:2]:PORT/', 'denied'],
    ['compatible IPv6', 'http://[::127.0.0.2]:PORT/', 'denied'],
    ['loopback of IPv6', 'http://[::1]:PORT/', 'denied'],
    ['unspecified', 'http://0:PORT/', 'denied'],
    ['unspecified of IPv6', 'http://[::]:PORT/', 'denied'],
    ['the address of metadata', 'http://169.254.169.254/latest/meta-data/', 'denied'],
    ['NAT64 to a private address', 'http://[64:ff9b::7f00:2]:PORT/', 'denied'],
    ['6to4', 'http://[2002:7f00:2::]:PORT/', 'denied'],
    ['a zone', 'http://[fe80::1%25eth0]:PORT/', 'bad_url'],
    ['a name and a password', `http://user:hush@${outside}:PORT/`, 'bad_url'],
    ['a host in front of an @', `http://example.org@${inside}:PORT/`, 'bad_url'],
    ['a backslash in front of an @', `http://${inside}:PORT\\@example.org/`, 'denied'],
    ['a file', 'file:///etc/passwd?hush', 'bad_url'],
    ['another scheme', 'gopher://127.0.0.1:6379/_FLUSHALL', 'bad_url'],
    ['data', 'data:text/html,hush', 'bad_url'],
    ['no URL', 'http://', 'bad_url'],
    ['a port out of range', `http://${outside}:99999/`, 'bad_url'],
  ] as const)('%s', (name, url, reason) =>
    expectRefused(`url: ${name}`, reason, egress(), { url: url.replace('PORT', String(web.port)), redirects: 3 }),
  )

  test('a port that is not listed', () =>
    expectRefused('url: a port', 'denied', egress({ config: { ports: [443] } }), { url: web.origin }))

  test('line ends in a URL start no other request', async () => {
    web.page('/split', (request, response) => response.end(request.rawHeaders.join(' ')))
    const url = `${web.origin}/split?a\r\nX-Injected: yes\r\n\r\nGET /injected HTTP/1.1\r\n`
    expect(await fetched('url: line ends', egress(), { url })).not.toMatch(/injected/i)
    expect(web.asked).not.toContain('/injected')
  })
})

describe('names that lead elsewhere', () => {
  test.each([
    ['to a private address', [inside], 'denied'],
    ['to mapped IPv6', [`::ffff:${inside}`], 'denied'],
    ['to several private addresses', [inside, '::1', '10.0.0.1'], 'denied'],
    ['to what is no address', ['inside.test'], 'denied'],
    ['nowhere', [], 'unresolved'],
  ] as const)('%s', (name, addresses, reason) =>
    expectRefused(`name: ${name}`, reason, egress({ resolve: fakeNames({ 'evil.test': [addresses] }) }), {
      url: `http://evil.test:${web.port}/`,
    }),
  )

  test('of public and private addresses the public ones alone are tried', async () => {
    web.page('/', (_request, response) => response.end('public'))
    const resolve = fakeNames({ 'evil.test': [[inside, '::1', outside]] })
    const body = await fetched('name: mixed', egress({ resolve }), { url: `http://evil.test:${web.port}/` })
    expect(body).toBe('public')
    expect(web.reachedInside).toEqual([])
  })

  test('rebinding: the address that was checked is the one that is connected to', async () => {
    web.page('/bound', (_request, response) => response.setHeader('connection', 'close').end('public'))
    const resolve = fakeNames({ 'evil.test': [[outside], [inside]] })
    const client = egress({ resolve })
    const url = `http://evil.test:${web.port}/bound`
    expect(await fetched('name: rebinding, first', client, { url })).toBe('public')
    expect(resolve.asked).toHaveLength(1)
    await expectRefused('name: rebinding, then', 'denied', client, { url })
    expect(resolve.asked).toHaveLength(2)
  })

  test('name servers that never answer', async () => {
    const clock = fakeClock()
    const asked = Promise.withResolvers<void>()
    const client = egress({
      clock,
      resolve: () => {
        asked.resolve()
        return new Promise(() => {})
      },
    })
    asked.promise.then(() => clock.advance(10_000))
    await expectRefused('name: slow name servers', 'timeout', client, { url: 'http://evil.test/' })
  })

  test('the hosts file of this machine counts, and leads to the inside', () =>
    expectRefused('name: localhost', 'denied', egress({ config: { denied_ranges: ['127.0.0.0/8', '127.0.0.1'] } }), {
      url: `http://localhost:${web.port}/`,
    }))
})

describe('redirects', () => {
  const redirect = (path: string, location: string, status = 302) =>
    web.page(path, (_request, response) => response.writeHead(status, { location }).end())

  test.each([
    ['to a private address', `http://${inside}:PORT/`, 'denied'],
    ['to IPv6 loopback', 'http://[::1]:PORT/', 'denied'],
    ['to decimal', 'http://2130706434:PORT/', 'denied'],
    ['without a scheme', `//${inside}:PORT/`, 'denied'],
    ['to a file', 'file:///etc/passwd', 'bad_url'],
    ['to a name and a password', `http://user:hush@${outside}:PORT/`, 'bad_url'],
    ['to itself', '/redirect', 'redirect'],
    ['nowhere', 'http://', 'redirect'],
  ] as const)('%s', (name, location, reason) => {
    redirect('/redirect', location.replace('PORT', String(web.port)))
    return expectRefused(`redirect: ${name}`, reason, egress(), { url: `${web.origin}/redirect`, redirects: 5 })
  })

  test('no more are followed than was said', async () => {
    for (let i = 0; i < 4; i++) redirect(`/hop${i}`, `/hop${i + 1}`)
    web.page('/hop4', (_request, response) => response.end('arrived'))
    const url = `${web.origin}/hop0`
    expect(await fetched('redirect: four', egress(), { url, redirects: 4 })).toBe('arrived')
    await expectRefused('redirect: one too many', 'redirect', egress(), { url, redirects: 3 })
    expect((await egress().request({ url })).status).toBe(302)
  })

  test('none leads from https to http unasked, and none takes secrets along', async () => {
    const { caPath } = web
    web.page('/down', (_request, response) =>
      response.writeHead(307, { location: `${web.origin}/headers` }).end('x'.repeat(10)),
    )
    web.page('/headers', (request, response) => response.end(JSON.stringify(request.headers)))
    const request = {
      url: `https://${outside}:${web.securePort}/down`,
      headers: { Authorization: 'hush', Cookie: 'hush', 'X-Key': 'hush', Accept: 'text/plain' },
      redirects: 1,
    }
    await expectRefused('redirect: downgrade', 'redirect', egress({ caPath }), request)
    const seen = await fetched('redirect: downgrade, asked for', egress({ caPath }), { ...request, downgrade: true })
    expect(JSON.parse(seen)).toMatchObject({ accept: 'text/plain' })
    expect(seen).not.toMatch(/hush/)
  })

  test('the body of a redirect is not read', async () => {
    web.page('/endless-redirect', (_request, response) => {
      response.writeHead(302, { location: '/arrived' })
      endlessly(response, Buffer.alloc(65_536))
    })
    web.page('/arrived', (_request, response) => response.end('arrived'))
    const request = { url: `${web.origin}/endless-redirect`, redirects: 1 }
    expect(await fetched('redirect: endless body', egress(), request)).toBe('arrived')
  })
})

describe('TLS', () => {
  test('a certificate that nobody vouches for', () =>
    expectRefused('tls: self-signed', 'tls', egress(), { url: `https://${outside}:${web.securePort}/` }))

  test('a certificate of another host', () =>
    expectRefused(
      'tls: other host',
      'tls',
      egress({ caPath: web.caPath, resolve: fakeNames({ 'other.test': [[outside]] }) }),
      { url: `https://other.test:${web.securePort}/` },
    ))

  test('the name in the URL is the one asked for, at an address and a port that are looked up', async () => {
    web.page('/named', (request, response) => response.end(request.headers.host))
    const client = egress({
      caPath: web.caPath,
      resolve: async () => ({ addresses: [outside], port: web.securePort }),
    })
    expect(await fetched('tls: looked up', client, { url: 'https://secure.test/named' })).toBe('secure.test')
  })

  test('a connection to elsewhere keeps to the name in the URL, and to the rules', async () => {
    web.page('/srv', (request, response) => response.end(request.headers.host))
    const client = egress({
      caPath: web.caPath,
      resolve: fakeNames({ 'srv.test': [[outside]], 'inner.test': [[inside]] }),
    })
    const to = (host: string) => ({ host, port: web.securePort })
    const url = 'https://secure.test/srv'
    const asked = { url, connectTo: to('srv.test'), headers: { Host: 'other.test' } }
    expect(await fetched('tls: elsewhere', client, asked)).toBe('secure.test')
    expect(await fetched('tls: elsewhere by address', client, { url, connectTo: to(outside) })).toBe('secure.test')
    const other = { url: 'https://other.test/srv', connectTo: to('srv.test') }
    await expectRefused('tls: elsewhere, other name', 'tls', client, other)
    await expectRefused('tls: elsewhere inside', 'denied', client, { url, connectTo: to('inner.test') })
    await expectRefused('tls: elsewhere by inner address', 'denied', client, { url, connectTo: to(inside) })
    const byAddress = { url: `https://${outside}/`, connectTo: to('srv.test') }
    await expectRefused('tls: an address elsewhere', 'bad_url', client, byAddress)
  })

  test('no TLS at all', () =>
    expectRefused('tls: plain', 'tls', egress({ caPath: web.caPath }), { url: `https://${outside}:${web.port}/` }))

  test('a handshake that never ends', async () => {
    const clock = fakeClock()
    const port = await web.raw((socket) => socket.once('data', () => clock.advance(10_000)))
    await expectRefused('tls: silence', 'timeout', egress({ clock }), { url: `https://${outside}:${port}/` })
  })
})

describe('compression', () => {
  const zeros = Buffer.alloc(64 * 1024 * 1024)
  const bombs: Readonly<Record<string, () => Buffer>> = {
    gzip: () => gzipSync(zeros),
    br: () => brotliCompressSync(zeros, { params: { [zlib.BROTLI_PARAM_QUALITY]: 4 } }),
    deflate: () => deflateSync(zeros),
  }
  test.each(Object.keys(bombs))('64 MiB of nothing in %s', (encoding) => {
    const bomb = bombs[encoding]!()
    expect(bomb.length).toBeLessThan(bytesMax)
    web.page('/bomb', (_request, response) => response.setHeader('content-encoding', encoding).end(bomb))
    return expectRefused(`compression: ${encoding} bomb`, 'too_large', egress(), { url: `${web.origin}/bomb` })
  })

  test('deflate without its header, bomb too', () => {
    const bomb = deflateRawSync(zeros)
    web.page('/raw-bomb', (_request, response) => response.setHeader('content-encoding', 'deflate').end(bomb))
    return expectRefused('compression: raw deflate bomb', 'too_large', egress(), { url: `${web.origin}/raw-bomb` })
  })

  test.each([
    ['one on top of another', 'gzip, gzip', gzipSync(gzipSync('text'))],
    ['an unknown one', 'zstd', Buffer.from('text')],
    ['one that it is not', 'gzip', Buffer.from('text')],
    ['one that is cut off', 'gzip', gzipSync('text'.repeat(1000)).subarray(0, 30)],
  ])('%s', (name, encoding, body) => {
    web.page('/encoded', (_request, response) => response.setHeader('content-encoding', encoding).end(body))
    return expectRefused(`compression: ${name}`, 'broken', egress(), { url: `${web.origin}/encoded` })
  })

  test.each([
    ['gzip', gzipSync('text')],
    ['br', brotliCompressSync('text')],
    ['deflate', deflateSync('text')],
    ['deflate', deflateRawSync('text')],
  ])('%s that is what it says', async (encoding, body) => {
    web.page('/encoded', (_request, response) => response.setHeader('content-encoding', encoding).end(body))
    expect(await fetched(`compression: ${encoding}`, egress(), { url: `${web.origin}/encoded` })).toBe('text')
  })
})

describe('bodies and headers without end', () => {
  test('a body', () => {
    web.page('/endless', (_request, response) => endlessly(response, Buffer.alloc(65_536, 'hush')))
    return expectRefused('endless: body', 'too_large', egress(), { url: `${web.origin}/endless` })
  })

  test('a body that says how large it is', () => {
    web.page('/large', (_request, response) => response.setHeader('content-length', bytesMax + 1).write('x'))
    return expectRefused('endless: announced', 'too_large', egress(), { url: `${web.origin}/large` })
  })

  test.each([
    ['headers', 'HTTP/1.1 200 OK\r\n', 'X-More: of the hush headers\r\n', 'too_large'],
    ['one header', 'HTTP/1.1 200 OK\r\nX-Long: ', 'hush'.repeat(1000), 'too_large'],
    ['a status line', 'HTTP/1.1 200 ', 'OK'.repeat(1000), 'too_large'],
    ['something that is not HTTP', 'SSH-2.0-hush\r\n', 'hush', 'broken'],
    ['a chunk of bad length', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n', 'hush', 'broken'],
    ['two lengths', 'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 9\r\n\r\n', 'hush', 'broken'],
  ] as const)('%s', async (name, start, more, reason) => {
    const port = await web.raw((socket) =>
      socket.once('data', () => {
        socket.write(start)
        endlessly(socket, more)
      }),
    )
    await expectRefused(`endless: ${name}`, reason, egress(), { url: `http://${outside}:${port}/` })
  })

  test.each([
    ['a body that ends too early', 'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort'],
    ['no answer at all', ''],
  ])('%s', async (name, text) => {
    const port = await web.raw((socket) => socket.once('data', () => socket.end(text)))
    await expectRefused(`endless: ${name}`, 'broken', egress(), { url: `http://${outside}:${port}/` })
  })
})

describe('slowness', () => {
  test('an answer that does not begin', async () => {
    const clock = fakeClock()
    web.page('/silent', () => clock.advance(30_000))
    await expectRefused('slow: headers', 'timeout', egress({ clock }), { url: `${web.origin}/silent` })
  })

  test('early hints without end do not begin it', async () => {
    const clock = fakeClock()
    const port = await web.raw((socket) =>
      socket.once('data', () => {
        endlessly(socket, 'HTTP/1.1 103 Early Hints\r\n\r\n')
      }),
    )
    await expectRefused('slow: hints', 'too_large', egress({ clock }), { url: `http://${outside}:${port}/` })
  })

  test('a body that stops', async () => {
    const clock = fakeClock()
    web.page('/stops', (_request, response) => response.write('some'))
    const answer = await egress({ clock }).request({ url: `${web.origin}/stops` })
    const parts = answer.body[Symbol.asyncIterator]()
    expect((await parts.next()).value).toEqual(Buffer.from('some'))
    const more = parts.next()
    await Promise.resolve()
    clock.advance(15_000)
    await expect(more).rejects.toMatchObject({ reason: 'timeout' })
  })

  test('a body that drips', async () => {
    const clock = fakeClock()
    let drip = () => {}
    web.page('/drips', (_request, response) => {
      drip = () => response.write('x')
      drip()
    })
    const answer = await egress({ clock }).request({ url: `${web.origin}/drips` })
    const reading = (async () => {
      let parts = 0
      for await (const _part of answer.body) {
        parts += 1
        clock.advance(10_000)
        drip()
      }
      return parts
    })()
    await expect(reading).rejects.toMatchObject({ reason: 'timeout', message: /60000 ms in all/ })
  })

  test('a body that nobody reads holds its place no longer than a request may take', async () => {
    const clock = fakeClock()
    const client = egress({ clock, config: { connections: 1 } })
    web.page('/unread', (_request, response) => response.write('some'))
    web.page('/after', (_request, response) => response.end('after'))
    await client.request({ url: `${web.origin}/unread` })
    const after = client.request({ url: `${web.origin}/after`, limits: { totalMs: 120_000 } })
    clock.advance(60_000)
    expect((await (await after).bytes()).toString()).toBe('after')
  })
})

describe('crowds', () => {
  test('a busy host has its line, and holds up no other', async () => {
    const client = egress({ config: { connections_per_host: 2 }, resolve: fakeNames({ 'other.test': [[outside]] }) })
    const open: (() => void)[] = []
    web.page('/busy', (_request, response) => open.push(() => response.end('done')))
    web.page('/free', (_request, response) => response.end('free'))
    const busy = Array.from({ length: 6 }, () => client.request({ url: `${web.origin}/busy` }))
    const free = await client.request({ url: `http://other.test:${web.port}/free` })
    expect((await free.bytes()).toString()).toBe('free')
    expect(open.length).toBeLessThanOrEqual(2)
    for (const [index, request] of busy.entries()) {
      while (open.length <= index) await web.next('/busy')
      expect(web.asked.filter((path) => path === '/busy').length).toBeLessThanOrEqual(index + 2)
      open[index]!()
      expect((await (await request).bytes()).toString()).toBe('done')
    }
  })

  test('connections are used again', async () => {
    const ports = new Set<number | undefined>()
    web.page('/again', (request, response) => {
      ports.add(request.socket.remotePort)
      response.end('again')
    })
    const client = egress()
    for (let i = 0; i < 20; i++) await (await client.request({ url: `${web.origin}/again` })).bytes()
    // The second may begin before the first has let go of its connection.
    expect(ports.size).toBeLessThanOrEqual(2)
  })

  test('who gives up is out of the line, and out of the request', async () => {
    const client = egress({ config: { connections: 1 } })
    web.page('/held', () => {})
    const [held, waiting] = [new AbortController(), new AbortController()]
    const first = client.request({ url: `${web.origin}/held`, signal: held.signal })
    const reached = web.next('/held')
    const second = client.request({ url: `${web.origin}/held`, signal: waiting.signal })
    waiting.abort()
    await expect(second).rejects.toMatchObject({ reason: 'aborted' })
    await reached
    held.abort()
    await expect(first).rejects.toMatchObject({ reason: 'aborted' })
    web.page('/free', (_request, response) => response.end('free'))
    expect((await (await client.request({ url: `${web.origin}/free` })).bytes()).toString()).toBe('free')
  })

  test('proxies of the environment have no say', async () => {
    const before = process.env.HTTP_PROXY
    process.env.HTTP_PROXY = process.env.http_proxy = `http://${inside}:${web.port}`
    try {
      web.page('/direct', (_request, response) => response.end('direct'))
      expect(await fetched('environment', egress(), { url: `${web.origin}/direct` })).toBe('direct')
      expect(web.reachedInside).toEqual([])
    } finally {
      if (before === undefined) delete process.env.HTTP_PROXY
      else process.env.HTTP_PROXY = before
      delete process.env.http_proxy
    }
  })
})
