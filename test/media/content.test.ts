/** Uploads and downloads, over HTTP. */
import { createHash, randomBytes } from 'node:crypto'
import { Readable } from 'node:stream'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type MediaPerson, type MediaServer, mediaServer } from '../support/media-server.ts'

let server: MediaServer
let alice: MediaPerson
let bob: MediaPerson
beforeAll(async () => {
  server = await mediaServer({}, { federation: { allowed_servers: [] } })
  alice = await server.person('alice')
  bob = await server.person('bob')
})
afterAll(() => server.close())

const get = (path: string, headers: Record<string, string> = {}, who = alice) =>
  who.ask('GET', `/_matrix/client/v1/media/download/${path}`, { headers })
async function errcodeOf(answer: Response): Promise<string> {
  return `${answer.status} ${((await answer.json()) as { errcode: string }).errcode}`
}

describe('client-server-api/#post_matrixmediav3upload', () => {
  test('what is uploaded is downloaded as it was', async () => {
    for (const size of [0, 1, 65_536, 3_000_000]) {
      const bytes = randomBytes(size)
      const uri = await alice.upload(bytes, { type: 'image/png', filename: 'a cat.png' })
      const answer = await get(uri, {}, bob)
      expect(answer.status).toBe(200)
      expect(answer.headers.get('content-length')).toBe(String(size))
      expect(answer.headers.get('content-type')).toBe('image/png')
      expect(answer.headers.get('content-disposition')).toBe('inline; filename="a cat.png"')
      expect(Buffer.from(await answer.arrayBuffer()).equals(bytes)).toBe(true)
    }
  })

  test('the same bytes are kept once, whoever uploads them', async () => {
    const bytes = randomBytes(1_000)
    const [one, two] = [
      await alice.upload(bytes, { type: 'image/png' }),
      await bob.upload(bytes, { type: 'image/gif' }),
    ]
    const hash = createHash('sha256').update(bytes).digest('hex')
    expect(one).not.toBe(two)
    expect((await get(two)).headers.get('content-type')).toBe('image/gif')
    const rows = await server.sql`select object_key from media_objects where sha256 = ${hash} and doomed_ts is null`
    expect(rows).toHaveLength(1)
  })

  test('a body that is larger than it may be is refused, and nothing of it stays', async () => {
    const small = await mediaServer({ max_upload_size: 1_000 })
    try {
      const carol = await small.person('carol')
      const declared = await carol.ask('POST', '/_matrix/media/v3/upload', { body: randomBytes(1_001) })
      expect(await errcodeOf(declared)).toBe('413 M_TOO_LARGE')
      async function* chunks() {
        for (let i = 0; i < 20; i++) yield randomBytes(100)
      }
      const init = {
        method: 'POST',
        headers: { authorization: `Bearer ${carol.token}` },
        body: Readable.toWeb(Readable.from(chunks())) as ReadableStream<Uint8Array>,
        duplex: 'half',
      }
      const chunked = await fetch(`${small.address}/_matrix/media/v3/upload`, init)
      expect(await errcodeOf(chunked)).toBe('413 M_TOO_LARGE')
      await expect.poll(() => small.sql`select from media_objects where doomed_ts is null`).toHaveLength(0)
    } finally {
      await small.close()
    }
  })

  test('without a token, and by guests, nothing is uploaded', async () => {
    const answer = await fetch(`${server.address}/_matrix/media/v3/upload`, { method: 'POST', body: 'x' })
    expect(await errcodeOf(answer)).toBe('401 M_MISSING_TOKEN')
  })
})

describe('client-server-api/#post_matrixmediav1create', () => {
  async function created(who = alice): Promise<string> {
    const answer = await who.ask('POST', '/_matrix/media/v1/create', { body: {} })
    expect(answer.status).toBe(200)
    const { content_uri } = (await answer.json()) as { content_uri: string }
    return content_uri.slice('mxc://'.length)
  }
  const put = (path: string, body: string, who = alice) =>
    who.ask('PUT', `/_matrix/media/v3/upload/${path}`, { body, headers: { 'content-type': 'text/plain' } })

  test('before the upload: M_NOT_YET_UPLOADED; after it: the content; a second time: M_CANNOT_OVERWRITE_MEDIA', async () => {
    const uri = await created()
    expect(await errcodeOf(await get(`${uri}?timeout_ms=0`))).toBe('504 M_NOT_YET_UPLOADED')
    expect((await put(uri, 'hello')).status).toBe(200)
    expect(await (await get(uri)).text()).toBe('hello')
    expect(await errcodeOf(await put(uri, 'other'))).toBe('409 M_CANNOT_OVERWRITE_MEDIA')
    expect(await (await get(uri)).text()).toBe('hello')
  })

  test('who waits is answered when the upload is there', async () => {
    const uri = await created()
    const waiting = get(`${uri}?timeout_ms=30000`, {}, bob)
    // Whichever comes first, the answer is the same.
    await put(uri, 'at last')
    expect(await (await waiting).text()).toBe('at last')
  })

  test('who waits for too long is told so', async () => {
    const uri = await created()
    const waiting = get(`${uri}?timeout_ms=5000`, {}, bob)
    const answered = waiting.then(() => true)
    while (!(await Promise.race([answered, new Promise<false>((resolve) => setTimeout(resolve, 20, false))]))) {
      server.clock.advance(1_000)
    }
    expect(await errcodeOf(await waiting)).toBe('504 M_NOT_YET_UPLOADED')
  })

  test("another user's URI, one that nobody made, and one that has expired are refused", async () => {
    const uri = await created()
    expect(await errcodeOf(await put(uri, 'x', bob))).toBe('403 M_FORBIDDEN')
    expect(await errcodeOf(await put('hs1/nobodymadethis', 'x'))).toBe('404 M_NOT_FOUND')
    expect(await errcodeOf(await put('elsewhere/nobodymadethis', 'x'))).toBe('404 M_NOT_FOUND')
    server.clock.advance(24 * 3_600_000)
    expect(await errcodeOf(await put(uri, 'x'))).toBe('404 M_NOT_FOUND')
    expect(await errcodeOf(await get(uri))).toBe('404 M_NOT_FOUND')
  })

  test('a user has so many that wait for their upload', async () => {
    const carol = await server.person('carol')
    for (let i = 0; i < server.config.media.pending_per_user; i++) await created(carol)
    expect(await errcodeOf(await carol.ask('POST', '/_matrix/media/v1/create', { body: {} }))).toBe(
      '429 M_LIMIT_EXCEEDED',
    )
  })
})

describe('client-server-api/#get_matrixclientv1mediadownloadservernamemediaid', () => {
  test('ranges, conditions, and HEAD', async () => {
    const uri = await alice.upload('0123456789')
    const whole = await get(uri)
    const etag = whole.headers.get('etag') ?? ''
    expect(etag).toMatch(/^"[0-9a-f]{64}"$/)
    const part = async (range: string, headers: Record<string, string> = {}) => {
      const answer = await get(uri, { range, ...headers })
      return [answer.status, answer.headers.get('content-range'), await answer.text()]
    }
    expect(await part('bytes=2-4')).toEqual([206, 'bytes 2-4/10', '234'])
    expect(await part('bytes=7-')).toEqual([206, 'bytes 7-9/10', '789'])
    expect(await part('bytes=-3')).toEqual([206, 'bytes 7-9/10', '789'])
    expect(await part('bytes=5-99')).toEqual([206, 'bytes 5-9/10', '56789'])
    expect(await part('bytes=10-')).toEqual([416, 'bytes */10', expect.stringContaining('M_INVALID_PARAM')])
    expect(await part('bytes=-0')).toEqual([416, 'bytes */10', expect.stringContaining('M_INVALID_PARAM')])
    expect(await part('bytes=0-1,4-5')).toEqual([200, null, '0123456789'])
    expect(await part('lines=0-1')).toEqual([200, null, '0123456789'])
    expect(await part('bytes=2-4', { 'if-range': etag })).toEqual([206, 'bytes 2-4/10', '234'])
    expect(await part('bytes=2-4', { 'if-range': '"other"' })).toEqual([200, null, '0123456789'])
    for (const tag of [etag, `W/${etag}`, `"x", ${etag}`, '*']) {
      const answer = await get(uri, { 'if-none-match': tag })
      expect([answer.status, await answer.text()]).toEqual([304, ''])
      expect(answer.headers.get('etag')).toBe(etag)
    }
    const head = await alice.ask('HEAD', `/_matrix/client/v1/media/download/${uri}`)
    expect([head.status, head.headers.get('content-length'), await head.text()]).toEqual([200, '10', ''])
  })

  test.each([
    { type: 'text/html', is: 'text/html', disposition: 'attachment' },
    { type: 'image/svg+xml', is: 'image/svg+xml', disposition: 'attachment' },
    { type: 'image/png; charset=utf-8', is: 'image/png; charset=utf-8', disposition: 'inline' },
    { type: 'IMAGE/PNG', is: 'IMAGE/PNG', disposition: 'inline' },
    { type: 'image/png, text/html', is: 'application/octet-stream', disposition: 'attachment' },
    { type: 'nonsense', is: 'application/octet-stream', disposition: 'attachment' },
    { type: `a/${'b'.repeat(300)}`, is: 'application/octet-stream', disposition: 'attachment' },
  ])('content of type $type is served as $disposition', async ({ type, is, disposition }) => {
    const answer = await get(await alice.upload('<script>alert(1)</script>', { type }))
    expect(answer.headers.get('content-type')).toBe(is)
    expect(answer.headers.get('content-disposition')).toBe(disposition)
    expect(answer.headers.get('content-security-policy')).toContain("sandbox; default-src 'none'")
    expect(answer.headers.get('cross-origin-resource-policy')).toBe('cross-origin')
    expect(answer.headers.get('x-content-type-options')).toBe('nosniff')
    expect(answer.headers.get('cache-control')).toBe('private, max-age=86400, immutable')
  })

  test.each([
    { name: 'ascii', is: 'filename=ascii' },
    { name: 'name;with;semicolons', is: 'filename="name;with;semicolons"' },
    { name: 'quo"te', is: "filename*=utf-8''quo%22te" },
    { name: '🐔.png', is: "filename*=utf-8''%F0%9F%90%94.png" },
    { name: '../../etc/passwd', is: 'filename=.._.._etc_passwd' },
    { name: 'a\r\nSet-Cookie: x=y', is: 'filename="aSet-Cookie: x=y"' },
    { name: 'exe\u202Egpj.scr', is: 'filename=exegpj.scr' },
    { name: '\ud800', is: "filename*=utf-8''%EF%BF%BD" },
    { name: "it's (1)*", is: 'filename="it\'s (1)*"' },
    { name: 'é'.repeat(400), is: `filename*=utf-8''${'%C3%A9'.repeat(255)}` },
  ])('a file name is told safely: $name', async ({ name, is }) => {
    const query = new URLSearchParams({ filename: name })
    const answer = await alice.ask('POST', `/_matrix/media/v3/upload?${query}`, { body: 'x' })
    const uri = ((await answer.json()) as { content_uri: string }).content_uri.slice('mxc://'.length)
    const told = await get(uri)
    expect(told.headers.get('content-disposition')).toBe(`attachment; ${is}`)
    expect(told.headers.get('set-cookie')).toBe(null)
  })

  test('a name in the path counts instead', async () => {
    const uri = await alice.upload('x', { filename: 'before.txt' })
    expect((await get(`${uri}/after.txt`)).headers.get('content-disposition')).toBe('inline; filename=after.txt')
    expect((await get(`${uri}/a%2Fb`)).headers.get('content-disposition')).toBe('inline; filename=a_b')
  })

  test.each([
    'hs1/..',
    'hs1/..%2F..%2Fhomeserver.yaml',
    'hs1/%2e%2e',
    'hs1/a.b',
    'hs1/%00',
    `hs1/${'a'.repeat(256)}`,
    '..%2Fhs1/abc',
    'hs1%00/abc',
    'user@hs1/abc',
  ])('an id that is none is refused: %s', async (path) => {
    const answer = await get(path)
    expect([400, 404]).toContain(answer.status)
    expect(await answer.text()).toContain('"errcode":"M_')
  })

  test('what is not there is M_NOT_FOUND', async () => {
    expect(await errcodeOf(await get('hs1/nothing'))).toBe('404 M_NOT_FOUND')
    expect(await errcodeOf(await get('elsewhere.example/nothing'))).toBe('404 M_NOT_FOUND')
  })
})

describe('client-server-api/#content-repo-client-behaviour the freeze', () => {
  test('what is uploaded after it is not on the old endpoints; what was there before is', async () => {
    const uri = await alice.upload('new')
    const old = (path: string) => fetch(`${server.address}${path}`)
    expect(await errcodeOf(await old(`/_matrix/media/v3/download/${uri}`))).toBe('404 M_NOT_FOUND')
    await server.sql`update media set authenticated = false where media_id = ${uri.split('/')[1] ?? ''}`
    for (const version of ['v3', 'r0', 'v1']) {
      const answer = await old(`/_matrix/media/${version}/download/${uri}`)
      expect(await answer.text()).toBe('new')
      const named = await old(`/_matrix/media/${version}/download/${uri}/as%20asked.txt`)
      expect(named.headers.get('content-disposition')).toContain('as asked.txt')
      expect(await named.text()).toBe('new')
      expect(answer.headers.get('cache-control')).toBe('public, max-age=86400, immutable')
    }
    expect(await errcodeOf(await old(`/_matrix/client/v1/media/download/${uri}`))).toBe('401 M_MISSING_TOKEN')
  })
})

test('client-server-api/#get_matrixclientv1mediaconfig', async () => {
  for (const path of ['/_matrix/client/v1/media/config', '/_matrix/media/v3/config', '/_matrix/media/r0/config']) {
    expect(await (await alice.ask('GET', path)).json()).toEqual({ 'm.upload.size': 100 * 1024 ** 2 })
  }
})
