/** `ganglion doctor` on servers of this machine: the server-server API behind a proxy under TLS, and all that can be wrong
 *  between a name and it. */
import { execFile } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:net'
import path from 'node:path'
import * as v from 'valibot'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { diagnose } from '../../infra/cli/doctor/diagnose.ts'
import type { Finding } from '../../infra/cli/doctor/finding.ts'
import type { Instruments } from '../../infra/cli/doctor/patient.ts'
import { type Clock, fakeClock, systemClock } from '../../shared/clock.ts'
import { Config } from '../../shared/config/schema.ts'
import { addressRules } from '../../shared/egress/address-rules.ts'
import { createEgress, type Egress } from '../../shared/egress/egress.ts'
import type { SrvRecord } from '../../shared/federation/srv.ts'
import type { ServerName } from '../../shared/matrix/ids.ts'
import type { JsonObject } from '../../shared/matrix/json-value.ts'
import { generateSigningKey } from '../../shared/matrix/signatures.ts'
import {
  type FederationPeer,
  federationPeer,
  type PeerAnswer,
  type PeerRequest,
  type TestAuthority,
  testAuthority,
} from '../support/federation-peer.ts'
import { type FederationServer, federationServer } from '../support/federation-server.ts'

const name = 'hs1' as ServerName
const day = 24 * 3_600_000

let authority: TestAuthority
let stranger: TestAuthority
let server: FederationServer
/** What stands in front of the server, and what serves https://hs1. */
let proxy: FederationPeer
let web: FederationPeer
let untrusted: FederationPeer
let plain: Server
beforeAll(async () => {
  authority = testAuthority(['hs1', 'clients.test'])
  stranger = testAuthority(['hs1'])
  server = await federationServer({ authority })
  ;[proxy, web] = await Promise.all([federationPeer(authority), federationPeer(authority)])
  untrusted = await federationPeer(stranger)
  plain = createServer((socket) => socket.end('HTTP/1.1 200 OK\r\n\r\n'))
  await new Promise<void>((resolve) => plain.listen(0, '127.0.0.1', resolve))
})
afterAll(async () => {
  await server?.close()
  await Promise.all([proxy?.close(), web?.close(), untrusted?.close()])
  plain?.close()
  authority?.close()
  stranger?.close()
})

type Answer = (request: PeerRequest) => PeerAnswer | Promise<PeerAnswer>
const passOn: Answer = async ({ method, uri, headers: { authorization } }) => {
  const { status, body } = await server.ask(method, uri, authorization === undefined ? {} : { authorization })
  return { status, body: JSON.stringify(body) }
}
const document =
  (body: JsonObject | string): Answer =>
  () => ({ body, headers: { 'access-control-allow-origin': '*' } })
beforeEach(() => {
  proxy.on('/', passOn)
  web.on('/', () => ({ status: 404 }))
  web.on('/.well-known/matrix/server', document({ 'm.server': `peers.test:${portOf(proxy)}` }))
  web.on('/.well-known/matrix/client', document({ 'm.homeserver': { base_url: 'https://clients.test' } }))
  web.on('/_matrix/client/versions', document({ versions: ['v1.11'] }))
})

function portOf(peer: FederationPeer): number {
  return Number(peer.server_name.split(':')[1])
}

interface World {
  readonly of?: string
  readonly own?: Record<string, unknown> | false
  readonly key?: ReturnType<typeof generateSigningKey> | null
  readonly records?: Record<string, readonly SrvRecord[] | 'SERVFAIL'>
  readonly addresses?: readonly string[]
  readonly allowed?: readonly string[]
  readonly clock?: Clock
}

/** Its findings by what was checked; of several alike the last. */
async function findings(world: World = {}): Promise<Record<string, Finding>> {
  const { records = {}, addresses = ['127.0.0.1'], allowed = ['127.0.0.0/8'], clock = systemClock } = world
  const lookUp = async () => {
    if (addresses.length === 0) throw Object.assign(new Error('nobody'), { code: 'ENOTFOUND' })
    return { addresses }
  }
  const own = v.parse(Config, {
    server_name: name,
    public_baseurl: 'https://clients.test',
    federation: { delegate_to: `peers.test:${portOf(proxy)}` },
    ...(world.own === false ? {} : world.own),
  })
  const inner = createEgress({
    config: { ...own.egress, allowed_ranges: ['127.0.0.0/8'] },
    caPath: authority.caPath,
    resolve: lookUp,
  })
  // Port 443 of this machine may be somebody's.
  const egress: Egress = {
    request: (request) =>
      inner.request({ connectTo: { host: new URL(request.url).hostname, port: portOf(web) }, ...request }),
    close: inner.close,
  }
  const instruments: Instruments = {
    egress,
    resolve: lookUp,
    async srv(record) {
      const found = records[record] ?? []
      if (found === 'SERVFAIL') throw Object.assign(new Error('no answer'), { code: 'ESERVFAIL' })
      return found
    },
    rules: addressRules({ allowed_ranges: allowed, denied_ranges: [] }),
    clock,
    ca: readFileSync(authority.caPath, 'utf8'),
  }
  const key = world.key === undefined ? server.main.federation.signingKeys[0] : world.key
  const patient = {
    name: (world.of ?? name) as ServerName,
    own: world.own === false ? undefined : { config: own, signingKeys: key ? ([key] as const) : undefined },
  }
  const all: Record<string, Finding> = {}
  try {
    for await (const finding of diagnose(patient, instruments)) all[finding.check.replace(/:\d+$/, '')] = finding
  } finally {
    await inner.close()
  }
  return all
}

const outcomes = (all: Record<string, Finding>) =>
  Object.fromEntries(Object.entries(all).map(([check, { outcome }]) => [check, outcome]))
const tls = 'TLS at 127.0.0.1'
const paths = 'paths through the proxy'
const version = '/_matrix/federation/v1/version'
const wellKnown = '.well-known/matrix/server'
const client = '.well-known/matrix/client'
const record = (port: number): SrvRecord => ({ name: 'peers.test', port, priority: 1, weight: 1 })

describe('a server', () => {
  test('that is well', async () => {
    const all = await findings()
    expect(outcomes(all)).toEqual({
      configuration: 'ok',
      [wellKnown]: 'ok',
      'addresses of peers.test': 'ok',
      // The certificate of these tests lives for two days.
      [tls]: 'note',
      [version]: 'ok',
      keys: 'ok',
      [paths]: 'ok',
      [client]: 'ok',
    })
    expect(all[version]?.found).toMatch(/^Ganglion /)
    for (const { outcome, fix } of Object.values(all)) expect(fix !== undefined).toBe(outcome !== 'ok')
  })

  test('of somebody else', async () => {
    const all = await findings({ own: false })
    expect(outcomes(all)).toMatchObject({
      [wellKnown]: 'ok',
      [version]: 'ok',
      keys: 'ok',
      [paths]: 'ok',
      [client]: 'ok',
    })
    expect(all[paths]?.found).toMatch(/only a request that the server itself signs/)
  })

  test('whose name is an address', async () => {
    proxy.on('/_matrix/key/v2/server', () => ({ body: proxy.keyDocument() }))
    const all = await findings({ of: proxy.server_name, own: false })
    expect(outcomes(all)).toMatchObject({ [wellKnown]: 'skipped', [tls]: 'note', keys: 'ok' })
  })

  test('that SRV records lead to', async () => {
    web.on('/.well-known/matrix/server', () => ({ status: 404 }))
    const own = { federation: {} }
    const found = await findings({ own, records: { '_matrix-fed._tcp.hs1': [record(portOf(proxy))] } })
    expect(outcomes(found)).toMatchObject({ [wellKnown]: 'ok', 'SRV _matrix-fed._tcp.hs1': 'ok', keys: 'ok' })
    const old = await findings({ own, records: { '_matrix._tcp.hs1': [record(portOf(proxy))] } })
    expect(outcomes(old)).toMatchObject({ 'SRV _matrix._tcp.hs1': 'note', keys: 'ok', [paths]: 'ok' })
  })
})

describe('what is wrong is told with what to do', () => {
  interface Case {
    readonly why: string
    readonly world?: World | (() => World)
    readonly arrange?: () => void
    readonly check: string
    readonly found: RegExp
    readonly outcome?: Finding['outcome']
  }
  const elsewhere = (peer: () => FederationPeer) => () =>
    web.on('/.well-known/matrix/server', document({ 'm.server': `peers.test:${portOf(peer())}` }))
  const decoding = (decoded: (uri: string) => string) => () =>
    proxy.on('/', (request) => passOn({ ...request, uri: decoded(request.uri) }))
  const cases: Case[] = [
    {
      why: 'federation is off',
      world: { own: { federation: { enabled: false } } },
      check: 'configuration',
      found: /enabled is false/,
    },
    { why: 'the key is not to be read', world: { key: null }, check: 'configuration', found: /signing key/ },
    {
      why: 'the document is not passed on',
      arrange: () => web.on('/.well-known/matrix/server', () => ({ status: 404 })),
      check: wellKnown,
      found: /status 404, although federation.delegate_to/,
    },
    {
      why: 'the document is a web page',
      arrange: () => web.on('/.well-known/matrix/server', document('<!doctype html>')),
      check: wellKnown,
      found: /no JSON object/,
    },
    {
      why: 'the document names a URL',
      arrange: () => web.on('/.well-known/matrix/server', document({ 'm.server': 'https://peers.test' })),
      check: wellKnown,
      found: /no JSON object with a server name/,
    },
    {
      why: 'the document leads elsewhere than configured',
      world: { own: { federation: { delegate_to: 'other.test:443' } } },
      check: wellKnown,
      found: /federation.delegate_to is other.test:443/,
      outcome: 'note',
    },
    {
      why: 'the name servers fail',
      arrange: () => web.on('/.well-known/matrix/server', () => ({ status: 404 })),
      world: { own: { federation: {} }, records: { '_matrix-fed._tcp.hs1': 'SERVFAIL' } },
      check: 'SRV _matrix-fed._tcp.hs1',
      found: /ESERVFAIL/,
    },
    { why: 'there is no address', world: { addresses: [] }, check: 'addresses of hs1', found: /ENOTFOUND/ },
    {
      why: 'all addresses are private',
      world: { allowed: [] },
      check: 'addresses of peers.test',
      found: /other servers do not connect/,
    },
    {
      why: 'some are',
      world: { addresses: ['127.0.0.1', '10.0.0.1'], allowed: ['10.0.0.0/8'] },
      check: 'addresses of peers.test',
      found: /some are private/,
      outcome: 'note',
    },
    {
      why: 'nobody listens',
      arrange: () => web.on('/.well-known/matrix/server', document({ 'm.server': 'peers.test:1' })),
      check: tls,
      found: /ECONNREFUSED/,
    },
    {
      why: 'no TLS is spoken',
      arrange: () => {
        const address = plain.address() as { port: number }
        web.on('/.well-known/matrix/server', document({ 'm.server': `peers.test:${address.port}` }))
      },
      check: tls,
      found: /no connection under TLS/,
    },
    {
      why: 'the certificate ran out',
      world: () => ({ clock: fakeClock(Date.now() + 3 * day) }),
      check: tls,
      found: /ran out on/,
    },
    {
      why: 'it is for another name',
      arrange: () => web.on('/.well-known/matrix/server', document({ 'm.server': `other.test:${portOf(proxy)}` })),
      check: tls,
      found: /is for .*peers.test.*, not for other.test/,
    },
    { why: 'nobody vouches for it', arrange: elsewhere(() => untrusted), check: tls, found: /not trusted: / },
    {
      why: 'what answers is a web site',
      arrange: () => proxy.on('/', document('<!doctype html>')),
      check: version,
      found: /no homeserver/,
    },
    {
      why: 'the paths are not passed on',
      arrange: () => proxy.on('/', () => ({ status: 502, body: 'Bad Gateway' })),
      check: version,
      found: /status 502/,
    },
    {
      why: 'another server answers',
      arrange: () => proxy.on('/_matrix/key/v2/server', () => ({ body: proxy.keyDocument() })),
      check: 'keys',
      found: /the server there has another name/,
    },
    {
      why: 'the keys are changed on the way',
      arrange: () =>
        proxy.on('/_matrix/key/v2/server', async (request) => {
          const { body } = await passOn(request)
          return { body: String(body).replace('{', '{"more":"advertisement",') }
        }),
      check: 'keys',
      found: /no signature/,
    },
    {
      why: 'the keys are cached for too long',
      world: () => ({ clock: { ...systemClock, now: () => Date.now() + 1.5 * day } }),
      check: 'keys',
      found: /which is over/,
    },
    {
      why: 'a process with another key answers',
      world: () => ({ key: generateSigningKey('a_other') }),
      check: 'keys',
      found: /a_other.* is not among them/,
    },
    {
      why: 'a proxy decodes slashes',
      arrange: decoding((uri) => uri.replaceAll('%2F', '/')),
      check: paths,
      found: /%2F is decoded/,
    },
    {
      why: 'a proxy decodes and encodes',
      arrange: decoding((uri) => uri.replaceAll('%40', '@')),
      check: paths,
      found: /not what was signed/,
    },
    {
      why: 'a proxy encodes twice',
      arrange: decoding((uri) => uri.replaceAll('%25', '%2525')),
      check: paths,
      found: /not what was signed/,
    },
    {
      why: 'a proxy keeps the header',
      arrange: () => proxy.on('/', (request) => passOn({ ...request, headers: {} })),
      check: paths,
      found: /Authorization header/,
    },
    {
      why: 'a proxy of somebody else decodes slashes',
      arrange: decoding((uri) => uri.replaceAll('%2F', '/')),
      world: { own: false },
      check: paths,
      found: /answered with 404/,
      outcome: 'note',
    },
    {
      why: 'clients are told nothing',
      arrange: () => web.on('/.well-known/matrix/client', () => ({ status: 404 })),
      check: client,
      found: /status 404/,
      outcome: 'note',
    },
    {
      why: 'browsers may not read it',
      arrange: () =>
        web.on('/.well-known/matrix/client', () => ({
          body: { 'm.homeserver': { base_url: 'https://clients.test' } },
        })),
      check: client,
      found: /browsers/,
    },
    {
      why: 'clients are sent elsewhere',
      world: { own: { public_baseurl: 'https://other.test' } },
      check: client,
      found: /public_baseurl is https:\/\/other.test/,
    },
    {
      why: 'clients are sent to where nobody answers',
      arrange: () => web.on('/_matrix/client/versions', () => ({ status: 503 })),
      check: client,
      found: /does not answer: status 503/,
    },
    {
      why: 'the document for clients is no JSON',
      arrange: () => web.on('/.well-known/matrix/client', document('x')),
      check: client,
      found: /no JSON object/,
    },
  ]
  test.each(cases)('$why', async ({ world, arrange, check, found, outcome = 'wrong' }) => {
    arrange?.()
    const all = await findings(typeof world === 'function' ? world() : world)
    expect(all[check]).toMatchObject({ outcome, found: expect.stringMatching(found), fix: expect.any(String) })
  })

  test('what can not be asked is left out, not taken for well', async () => {
    elsewhere(() => untrusted)()
    expect(outcomes(await findings())).toMatchObject({ [version]: 'skipped', keys: 'skipped', [paths]: 'skipped' })
  })
})

describe('the command', () => {
  const program = path.resolve(import.meta.dirname, '../../infra/cli/ganglion.ts')
  /** Beside this process, which serves what is asked. */
  const doctor = (...args: string[]) =>
    new Promise<{ code: number; out: string; err: string }>((resolve) => {
      execFile(process.execPath, [program, 'doctor', ...args], { env: { PATH: process.env.PATH } }, (error, out, err) =>
        resolve({ code: error ? Number(error.code) : 0, out, err }),
      )
    })
  const configuration = () => {
    const file = path.join(path.dirname(authority.caPath), 'homeserver.yaml')
    writeFileSync(
      file,
      JSON.stringify({
        server_name: name,
        federation: { ca_path: authority.caPath },
        egress: { allowed_ranges: ['127.0.0.0/8'] },
      }),
    )
    return file
  }

  test('says what it looked at, and by its exit code whether something is wrong', async () => {
    proxy.on('/_matrix/key/v2/server', () => ({ body: proxy.keyDocument() }))
    const well = await doctor(proxy.server_name, '-c', configuration(), '--json')
    const found = well.out
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Finding)
    expect(found.filter(({ outcome }) => outcome === 'wrong')).toEqual([])
    expect(found.map(({ check }) => check)).toContain('keys')
    expect(well).toMatchObject({ code: 0, err: '' })

    proxy.on('/_matrix/key/v2/server', () => ({ status: 500 }))
    const ill = await doctor(proxy.server_name, '-c', configuration())
    expect(ill.code).toBe(1)
    expect(ill.out).toMatch(/WRONG {2}keys: status 500\n {7}→ have the proxy pass/)
  })

  test.each([
    { args: [], err: /whose\?/ },
    { args: ['https://example.org/'], err: /is no server's name/ },
    { args: ['a', 'b'], err: /takes one name/ },
  ])('a wrong command line: $args', async ({ args, err }) => {
    const told = await doctor(...args)
    expect(told.code).toBe(2)
    expect(told.err).toMatch(err)
  })
})
