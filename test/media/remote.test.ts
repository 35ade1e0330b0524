/** Media between servers, by the endpoints of federation; who signed a request is not looked at here. */
import { randomBytes } from 'node:crypto'
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { dispositionName } from '../../functions/media/remote/disposition-name.ts'
import { readMultipart } from '../../functions/media/remote/multipart.ts'
import type { ServerName } from '../../shared/matrix/ids.ts'
import { type MediaPerson, type MediaServer, mediaServer } from '../support/media-server.ts'

let remote: MediaServer
let server: MediaServer
let bob: MediaPerson
let alice: MediaPerson
/** What a server that is none of ours answers. */
let odd: (response: ServerResponse) => void = (response) => response.end()
const oddServer = createServer((_, response) => odd(response))

beforeAll(async () => {
  await new Promise<void>((resolve) => oddServer.listen(0, '127.0.0.1', resolve))
  const requestingServer = async () => 'other' as ServerName
  const oddUrl = `http://127.0.0.1:${(oddServer.address() as AddressInfo).port}`
  remote = await mediaServer({}, {}, { requestingServer, signedRequest: async () => Promise.reject(new Error('none')) })
  server = await mediaServer(
    { max_upload_size: 1_000_000 },
    // Other servers of a test are on this machine.
    { egress: { allowed_ranges: ['127.0.0.0/8'] } },
    {
      requestingServer,
      signedRequest: async (name, target) => ({
        url: new URL(target, name === 'odd.example' ? oddUrl : remote.address),
        headers: {},
      }),
    },
  )
  ;[alice, bob] = [await server.person('alice'), await remote.person('bob')]
})
afterAll(async () => {
  await server.close()
  await remote.close()
  oddServer.close()
})

/** As the other server's, whose name both of these have. */
const of = (uri: string) => uri.replace('hs1/', 'hs2.example/')
const get = (uri: string) => alice.ask('GET', `/_matrix/client/v1/media/download/${uri}`)
async function errcodeOf(answer: Response): Promise<string> {
  return `${answer.status} ${((await answer.json()) as { errcode: string }).errcode}`
}

describe('server-server-api/#get_matrixfederationv1mediadownloadmediaid', () => {
  test('content of another server is fetched once, and served as it says', async () => {
    for (const size of [0, 1, 300_000]) {
      const bytes = randomBytes(size)
      const uri = of(await bob.upload(bytes, { type: 'image/png', filename: 'ké "x".png' }))
      const answers = await Promise.all([get(uri), get(uri)])
      for (const answer of answers) {
        expect(answer.status).toBe(200)
        expect(Buffer.from(await answer.arrayBuffer()).equals(bytes)).toBe(true)
        expect(answer.headers.get('content-type')).toBe('image/png')
        expect(answer.headers.get('content-disposition')).toBe("inline; filename*=utf-8''k%C3%A9%20%22x%22.png")
      }
      await remote.sql`delete from media where media_id = ${uri.slice('hs2.example/'.length)}`
      expect((await get(uri)).status).toBe(200)
    }
  })

  test('what is too large, and what is not there', async () => {
    expect(await errcodeOf(await get(of(await bob.upload(randomBytes(1_000_001)))))).toBe('502 M_TOO_LARGE')
    expect(await errcodeOf(await get('hs2.example/nothing'))).toBe('404 M_NOT_FOUND')
    const rows = await server.sql`select from media_objects where sha256 is null and doomed_ts is null`
    expect(rows).toHaveLength(0)
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
    odd = (response) => response.writeHead(200, { 'content-type': type }).end(body)
    expect(await errcodeOf(await get(`odd.example/${randomBytes(6).toString('hex')}`))).toBe('502 M_UNKNOWN')
  })

  test('what it says of the content cannot hurt', async () => {
    odd = (response) =>
      response
        .writeHead(200, { 'content-type': 'multipart/mixed; boundary="b"' })
        .end(parts('Content-Type: text/html\r\nContent-Disposition: inline; filename="../a.html"\r\n\r\n<script>'))
    const answer = await get('odd.example/page')
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
