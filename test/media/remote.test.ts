/** Media between servers: found by their names, asked by signed requests. */
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import fc from 'fast-check'
import sharp from 'sharp'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { dispositionName } from '../../functions/media/remote/disposition-name.ts'
import { readMultipart } from '../../functions/media/remote/multipart.ts'
import type { FederationNetwork } from '../../shared/federation/federation.ts'
import { testAuthority } from '../support/federation-peer.ts'
import { type MediaPerson, type MediaServer, mediaServer } from '../support/media-server.ts'

const authority = testAuthority()
const names = { server: 'hs1.peers.test', remote: 'hs2.peers.test', odd: 'odd.peers.test' }
let remote: MediaServer
let server: MediaServer
let bob: MediaPerson
let alice: MediaPerson
/** What a server that is none of ours answers. */
let odd: (request: IncomingMessage, response: ServerResponse) => void = (_, response) => response.end()
const tls = { key: readFileSync(authority.keyPath), cert: readFileSync(authority.caPath) }
const oddServer = createServer(tls, (request, response) => odd(request, response))
const ports = new Map<string, number>()
/** All of the test's servers are on this machine, and their records say where. */
const network: FederationNetwork = {
  srv: async (name) => {
    const port = ports.get(name.replace('_matrix-fed._tcp.', ''))
    return port === undefined ? [] : [{ name: 'peers.test', port, priority: 1, weight: 1 }]
  },
  resolve: async () => ({ addresses: ['127.0.0.1'] }),
}
const further = (server_name: string) => ({
  server_name,
  listeners: [
    { port: 0 },
    { port: 0, tls_certificate_path: authority.caPath, tls_private_key_path: authority.keyPath },
  ],
  federation: { ca_path: authority.caPath },
  egress: { allowed_ranges: ['127.0.0.0/8'] },
})

beforeAll(async () => {
  await new Promise<void>((resolve) => oddServer.listen(0, '127.0.0.1', resolve))
  ports.set(names.odd, (oddServer.address() as AddressInfo).port)
  remote = await mediaServer({}, further(names.remote), network)
  server = await mediaServer({ max_upload_size: 1_000_000 }, further(names.server), network)
  ports.set(names.remote, remote.encryptedPort)
  ports.set(names.server, server.encryptedPort)
  ;[alice, bob] = [await server.person('alice'), await remote.person('bob')]
})
afterAll(async () => {
  await server.close()
  await remote.close()
  oddServer.close()
  authority.close()
})

const get = (uri: string) => alice.ask('GET', `/_matrix/client/v1/media/download/${uri}`)
async function errcodeOf(answer: Response): Promise<string> {
  return `${answer.status} ${((await answer.json()) as { errcode: string }).errcode}`
}

describe('server-server-api/#get_matrixfederationv1mediadownloadmediaid', () => {
  test('content of another server is fetched once, and served as it says', async () => {
    for (const size of [0, 1, 300_000]) {
      const bytes = randomBytes(size)
      const uri = await bob.upload(bytes, { type: 'image/png', filename: 'ké "x".png' })
      const answers = await Promise.all([get(uri), get(uri)])
      for (const answer of answers) {
        expect(answer.status).toBe(200)
        expect(Buffer.from(await answer.arrayBuffer()).equals(bytes)).toBe(true)
        expect(answer.headers.get('content-type')).toBe('image/png')
        expect(answer.headers.get('content-disposition')).toBe("inline; filename*=utf-8''k%C3%A9%20%22x%22.png")
      }
      await remote.sql`delete from media where media_id = ${uri.slice(`${names.remote}/`.length)}`
      expect((await get(uri)).status).toBe(200)
    }
  })

  test('what is too large, and what is not there', async () => {
    expect(await errcodeOf(await get(await bob.upload(randomBytes(1_000_001))))).toBe('502 M_TOO_LARGE')
    expect(await errcodeOf(await get(`${names.remote}/nothing`))).toBe('404 M_NOT_FOUND')
    const rows = await server.sql`select from media_objects where sha256 is null and doomed_ts is null`
    expect(rows).toHaveLength(0)
  })

  test('a server from before v1.11 is asked as in its time', async () => {
    const unrecognised = JSON.stringify({ errcode: 'M_UNRECOGNIZED', error: 'No such endpoint' })
    const open = { 'access-control-allow-origin': '*' }
    const missing = JSON.stringify({ errcode: 'M_NOT_FOUND', error: 'No such medium' })
    odd = ({ url = '' }, response) => {
      if (url.startsWith('/_matrix/federation/')) response.writeHead(404).end(unrecognised)
      else if (url.startsWith(`/_matrix/media/v3/download/${names.odd}/old?allow_remote=false`)) {
        response.writeHead(200, { ...open, 'content-type': 'image/gif', 'content-disposition': 'inline' }).end('GIF89a')
      } else response.writeHead(404, open).end(missing)
    }
    const answer = await get(`${names.odd}/old`)
    expect([answer.status, answer.headers.get('content-type'), await answer.text()]).toEqual([
      200,
      'image/gif',
      'GIF89a',
    ])
    expect(await errcodeOf(await get(`${names.odd}/older`))).toBe('404 M_NOT_FOUND')
  })

  test('a thumbnail of it is made here', async () => {
    const png = await sharp({ create: { width: 64, height: 64, channels: 3, background: 'red' } })
      .png()
      .toBuffer()
    const uri = await bob.upload(png, { type: 'image/png' })
    const answer = await alice.ask('GET', `/_matrix/client/v1/media/thumbnail/${uri}?width=32&height=32`)
    expect([answer.status, answer.headers.get('content-type')]).toEqual([200, 'image/png'])
  })

  const parts = (content: string) => `--b\r\nContent-Type: application/json\r\n\r\n{}\r\n--b\r\n${content}\r\n--b--\r\n`
  test.each([
    { what: 'no parts', type: 'image/png', body: 'x' },
    { what: 'no boundary', type: 'multipart/mixed', body: parts('\r\nx') },
    { what: 'another boundary', type: 'multipart/mixed; boundary=c', body: parts('\r\nx') },
    { what: 'an end too early', type: 'multipart/mixed; boundary=b', body: parts('\r\nx').slice(0, -10) },
    { what: 'headers without an end', type: 'multipart/mixed; boundary=b', body: parts(`A: ${'a'.repeat(40_000)}`) },
    {
      what: 'a place that is not to be reached',
      type: 'multipart/mixed; boundary=b',
      body: parts('Location: http://10.0.0.1/\r\n\r\n'),
    },
    {
      what: 'a place that is none',
      type: 'multipart/mixed; boundary=b',
      body: parts('Location: file:///etc/passwd\r\n\r\n'),
    },
  ])('$what is refused', async ({ type, body }) => {
    odd = (_, response) => response.writeHead(200, { 'content-type': type }).end(body)
    expect(await errcodeOf(await get(`${names.odd}/${randomBytes(6).toString('hex')}`))).toBe('502 M_UNKNOWN')
  })

  test('what it says of the content cannot hurt', async () => {
    odd = (_, response) =>
      response
        .writeHead(200, { 'content-type': 'multipart/mixed; boundary="b"' })
        .end(parts('Content-Type: text/html\r\nContent-Disposition: inline; filename="../a.html"\r\n\r\n<script>'))
    const answer = await get(`${names.odd}/page`)
    expect(await answer.text()).toBe('<script>')
    expect(answer.headers.get('content-disposition')).toBe('attachment; filename=.._a.html')
  })
})

test('rfc2046#section-5.1.1 the content is what is between the delimiters, however it comes', () =>
  fc.assert(
    fc.asyncProperty(
      fc.array(fc.constantFrom('\r\n', '--', 'bound', '\r\n--boun', 'x', '\r\n--', '\r')),
      fc.integer({ min: 1, max: 40 }),
      async (pieces, step) => {
        const content = Buffer.from(pieces.join(''))
        fc.pre(!content.includes('\r\n--bound'))
        const whole = Buffer.concat([
          Buffer.from('--bound\r\nContent-Type: application/json\r\n\r\n{}\r\n--bound\r\nA: b\r\n\r\n'),
          content,
          Buffer.from('\r\n--bound--\r\n'),
        ])
        async function* chunks() {
          for (let at = 0; at < whole.length; at += step) yield whole.subarray(at, at + step)
        }
        const read = await readMultipart('multipart/mixed; boundary=bound', chunks())
        if ('location' in read) throw new Error('a location')
        const got: Uint8Array[] = []
        for await (const chunk of read.body) got.push(chunk)
        expect(Buffer.concat(got).toString()).toBe(content.toString())
      },
    ),
  ))

test.each([
  ['attachment; filename=a.png', 'a.png'],
  ['attachment; filename="a \\"b\\".png"', 'a "b".png'],
  ["inline; filename=x; filename*=utf-8''%C3%A9", 'é'],
  ["inline; filename*=utf-8''%ZZ; filename=x", 'x'],
  ['inline', undefined],
])('rfc6266#section-4.3 %s', (header, name) => expect(dispositionName(header)).toBe(name))
