/** client-server-api/#get_matrixclientv1mediapreview_url, from the request to the picture that is stored. */
import { setImmediate as nextTurn } from 'node:timers/promises'
import { brotliCompressSync, gzipSync } from 'node:zlib'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { createMediaRole } from '../../functions/media/media-role.ts'
import { plain } from '../support/hostile-images.ts'
import { type HostileWeb, hostileWeb, inside, outside, type Page } from '../support/hostile-web.ts'
import { type MediaPerson, type MediaServer, mediaServer } from '../support/media-server.ts'

let web: HostileWeb
let server: MediaServer
let alice: MediaPerson
let picture: Buffer
beforeAll(async () => {
  web = await hostileWeb()
  server = await mediaServer(
    {},
    {
      egress: { allowed_ranges: [outside] },
      url_previews: {
        forward_language: true,
        denied_urls: [
          { path: '/secret/*' },
          { host: outside, path: '^/[0-9]+/private$' },
          { scheme: 'https', port: '8443' },
        ],
        oembed_providers: [{ endpoint: `${web.origin}/provider`, urls: [`${web.origin}/provided/*`] }],
      },
    },
  )
  alice = await server.person('alice')
  picture = await plain(200, 100).png().toBuffer()
})
afterAll(async () => {
  await server?.close()
  await web?.close()
})
beforeEach(() => {
  web.asked.length = 0
  web.page('/picture.png', (_request, response) => response.setHeader('content-type', 'image/png').end(picture))
})

let pages = 0
/** At a path of its own, so that no test meets what another left in the cache. */
function page(answer: string | Buffer | Page, type = 'text/html'): string {
  const path = `/page${++pages}`
  const plainly: Page = (_request, response) => {
    response.setHeader('content-type', type)
    response.end(typeof answer === 'function' ? '' : answer)
  }
  web.page(path, typeof answer === 'function' ? answer : plainly)
  return `${web.origin}${path}`
}

async function preview(url: string, headers: Record<string, string> = {}, path = '/_matrix/client/v1/media') {
  const answer = await alice.ask('GET', `${path}/preview_url?url=${encodeURIComponent(url)}`, { headers })
  return { status: answer.status, body: (await answer.json()) as Record<string, unknown> }
}

const stored = {
  'og:image': expect.stringMatching(/^mxc:\/\/hs1\//),
  'og:image:type': 'image/png',
  'og:image:width': 200,
  'og:image:height': 100,
  'matrix:image:size': expect.any(Number),
}

describe('what a page says', () => {
  test('Open Graph, with its picture as media of this server', async () => {
    const url = page(`<html><head><title>No</title>
      <meta property="og:title" content="The &amp; Rock">
      <meta property="og:type" content="video.movie"><meta property="og:image" content="picture.png">
      <meta property="og:image:width" content="9999"><meta property="og:image:alt" content="A rock">
      <meta property="og:description" content="It is a
         rock."></head><body>`)
    const { status, body } = await preview(url)
    expect({ status, body }).toEqual({
      status: 200,
      body: {
        'og:title': 'The & Rock',
        'og:type': 'video.movie',
        'og:description': 'It is a rock.',
        'og:image:alt': 'A rock',
        ...stored,
      },
    })
    const found = await alice.ask('GET', `/_matrix/client/v1/media/download/${String(body['og:image']).slice(6)}`)
    expect(Buffer.from(await found.arrayBuffer())).toEqual(picture)
    expect(await preview(url, {}, '/_matrix/media/v3')).toEqual({ status, body })
  })

  test.each([
    [
      'a title and text',
      '<title> A\n title </title><body><nav>Menu</nav><p>First <b>words</b>.</p><script>no</script><p>More.',
      { 'og:title': 'A title', 'og:description': 'First words.\n\nMore.' },
    ],
    [
      'a description',
      '<title>T</title><meta name="Description" content="D">',
      { 'og:title': 'T', 'og:description': 'D' },
    ],
    [
      'cards',
      '<meta name="twitter:title" content="T"><meta name="twitter:description" content="D"><meta name="twitter:image" content="/picture.png">',
      { 'og:title': 'T', 'og:description': 'D', ...stored },
    ],
    [
      'a picture among its text',
      '<title>T</title><img src="data:image/png;base64,AA"><img src="/pixel.png" width=1 height=1><img src="picture.png">',
      { 'og:title': 'T', ...stored },
    ],
    [
      'another base',
      '<base href="/else/where/"><title>T</title><img src="../../picture.png">',
      { 'og:title': 'T', ...stored },
    ],
    [
      'the next picture where the first is none',
      '<title>T</title><meta property="og:image" content="/missing.png"><img src="/picture.png">',
      { 'og:title': 'T', ...stored },
    ],
    ['nothing', '', {}],
  ])('%s', async (_name, html, told) => expect(await preview(page(html))).toEqual({ status: 200, body: told }))

  test.each([
    ['the header', 'text/html; charset=Shift_JIS', Buffer.from('<title>\x93\xfa\x96\x7b</title>', 'latin1'), '日本'],
    ['a meta', 'text/html', Buffer.from('<meta charset="windows-1251"><title>\xcc\xe8\xf0</title>', 'latin1'), 'Мир'],
    [
      'an old meta',
      'text/html',
      Buffer.from(
        '<meta http-equiv=content-type content="text/html; charset=iso-8859-2"><title>\xb3</title>',
        'latin1',
      ),
      'ł',
    ],
    ['a byte order mark', 'text/html; charset=latin1', Buffer.from('\ufeff<title>żółw</title>', 'utf16le'), 'żółw'],
    ['UTF-8 by its bytes', 'text/html', Buffer.from('<title>żółw</title>'), 'żółw'],
    ['bytes that are no UTF-8', 'text/html', Buffer.from('<title>caf\xe9</title>', 'latin1'), 'café'],
    ['a name that nobody knows', 'text/html; charset=x-none', Buffer.from('<title>żółw</title>'), 'żółw'],
  ])('characters by %s', async (_name, type, bytes, title) =>
    expect((await preview(page(bytes, type))).body['og:title']).toBe(title),
  )

  test.each([
    ['gzip', gzipSync('<title>packed</title>')],
    ['br', brotliCompressSync('<title>packed</title>')],
  ])('compressed as %s', async (encoding, bytes) => {
    const url = page((_request, response) => {
      response.writeHead(200, { 'content-type': 'text/html', 'content-encoding': encoding }).end(bytes)
    })
    expect((await preview(url)).body).toEqual({ 'og:title': 'packed' })
  })

  test('only as much is read as a preview needs', async () => {
    const head =
      '<meta property="og:title" content="T"><meta property="og:description" content="D"><meta property="og:image" content="/picture.png"><body>'
    const url = page((_request, response) => {
      response.writeHead(200, { 'content-type': 'text/html' })
      response.write(head.padEnd(1_100))
      // It never ends.
    })
    expect(await preview(url)).toMatchObject({ status: 200, body: { 'og:title': 'T', ...stored } })
  })
})

describe('what is no page', () => {
  test('a picture', async () =>
    expect((await preview(`${web.origin}/picture.png?direct`)).body).toEqual({ 'og:title': 'picture.png', ...stored }))

  test('a text', async () =>
    expect((await preview(page('Some <b>words</b>,\nand more', 'text/plain'))).body).toEqual({
      'og:title': expect.stringMatching(/^page/),
      'og:description': 'Some <b>words</b>, and more',
    }))

  test.each(['application/pdf', 'application/octet-stream', 'video/mp4'])('a file of %s is not read', async (type) => {
    const url = page((_request, response) => {
      const disposition = 'attachment; filename="report.pdf"'
      response.writeHead(200, { 'content-type': type, 'content-disposition': disposition }).write('%PDF')
    })
    expect((await preview(url)).body).toEqual({ 'og:title': 'report.pdf' })
  })

  test.each([404, 500])('an answer of %i', async (code) => {
    const url = page((_request, response) => response.writeHead(code, { 'content-type': 'text/html' }).end('<title>T'))
    expect(await preview(url)).toMatchObject({ status: 502, body: { errcode: 'M_UNKNOWN' } })
  })
})

describe('oEmbed', () => {
  const oembed = (path: string, answer: object) =>
    web.page(path, (_request, response) =>
      response.setHeader('content-type', 'application/json').end(JSON.stringify(answer)),
    )
  const link = (path: string) => `<link rel="alternate" type="application/json+oembed" href="${path}">`

  test('says what the page does not', async () => {
    oembed('/oembed', { version: '1.0', type: 'photo', title: 'Of oEmbed', url: '/picture.png', provider_name: 'P' })
    const { body } = await preview(page(`<title>Of the page</title>${link('/oembed')}`))
    expect(body).toEqual({ 'og:title': 'Of the page', 'og:site_name': 'P', ...stored })
  })

  test('is not asked where the page says it all', async () => {
    oembed('/unasked', { version: '1.0', type: 'link', title: 'no' })
    await preview(
      page(
        `<meta property="og:title" content="T"><meta property="og:image" content="/picture.png">${link('/unasked')}`,
      ),
    )
    expect(web.asked).not.toContain('/unasked')
  })

  test('of a provider of the configuration takes the place of the page', async () => {
    oembed('/provider', { version: 1, type: 'rich', title: 'T', html: '<p>Words</p><script>alert(1)</script>' })
    const { body } = await preview(`${web.origin}/provided/1`)
    expect(body).toEqual({ 'og:title': 'T', 'og:description': 'Words' })
    expect(web.asked).toEqual(['/provider'])
  })

  test.each([
    ['no JSON', '<html>'],
    ['another shape', '[1]'],
    ['nothing', ''],
  ])('that is %s is left out', async (_name, text) => {
    web.page('/bad-oembed', (_request, response) => response.end(text))
    expect((await preview(page(`<title>T</title>${link('/bad-oembed')}`))).body).toEqual({ 'og:title': 'T' })
  })
})

describe('who may ask for what', () => {
  test('not without an access token', async () => {
    const answer = await fetch(`${server.address}/_matrix/client/v1/media/preview_url?url=http://x.test/`)
    expect(answer.status).toBe(401)
  })

  test.each([
    ['no URL', 'nonsense'],
    ['another scheme', 'ftp://example.org/'],
    ['a file', 'file:///etc/passwd'],
    ['a name and a password', `http://a:b@${outside}/`],
    ['a very long one', `http://${outside}/${'x'.repeat(5_000)}`],
  ])('%s', async (_name, url) =>
    expect(await preview(url)).toMatchObject({ status: 400, body: { errcode: 'M_INVALID_PARAM' } }),
  )

  test.each(['/secret/plans', '/123/private'])('a URL that the operator denies: %s', async (path) => {
    expect(await preview(`${web.origin}${path}`)).toMatchObject({ status: 403, body: { errcode: 'M_FORBIDDEN' } })
    expect(
      await preview(page((_request, response) => response.writeHead(302, { location: path }).end())),
    ).toMatchObject({
      status: 502,
    })
    expect(web.asked).not.toContain(path)
  })

  test('the inside of the network is as if it were not there', async () => {
    const [denied, missing] = await Promise.all([
      preview(`http://${inside}:${web.port}/`),
      preview('http://no.invalid/'),
    ])
    expect(denied).toMatchObject({ status: 502 })
    expect(missing).toEqual(denied)
    expect(web.reachedInside).toEqual([])
  })
})

describe('the cache', () => {
  test('a page is fetched once for all who ask at once, on any handler, and again when its time is over', async () => {
    const held: (() => void)[] = []
    let fetches = 0
    const url = page((_request, response) => {
      fetches += 1
      held.push(() => response.setHeader('content-type', 'text/html').end(`<title>${fetches}</title>`))
    })
    const reached = web.next(new URL(url).pathname)
    const other = createMediaRole({ ...server.role.deps, federation: server.federation })
    const asked = [preview(url), preview(url), preview(`${url}#part`)]
    await reached
    const elsewhere = other.deps.previews.of(url, '*')
    held.shift()?.()
    for (const { body } of await Promise.all(asked)) expect(body).toEqual({ 'og:title': '1' })
    // The other handler looks again and again, by the clock.
    let told = false
    elsewhere.finally(() => {
      told = true
    })
    while (!told) {
      server.clock.advance(250)
      await nextTurn()
    }
    expect(await elsewhere).toEqual({ 'og:title': '1' })
    expect(fetches).toBe(1)
    await other.close()

    server.clock.advance(3_600_000)
    const again = preview(url)
    await web.next(new URL(url).pathname)
    held.shift()?.()
    expect((await again).body).toEqual({ 'og:title': '2' })
  })

  test('what cannot be fetched is not tried again at once', async () => {
    let fetches = 0
    const url = page((_request, response) => {
      fetches += 1
      response.writeHead(500).end()
    })
    await preview(url)
    expect(await preview(url)).toMatchObject({ status: 502 })
    expect(fetches).toBe(1)
    server.clock.advance(60_000)
    await preview(url)
    expect(fetches).toBe(2)
  })

  test('keeps an answer for each language, which goes along', async () => {
    const url = page((request, response) =>
      response.setHeader('content-type', 'text/html').end(`<title>${request.headers['accept-language']}</title>`),
    )
    expect((await preview(url, { 'accept-language': 'de' })).body['og:title']).toBe('de')
    expect((await preview(url, { 'accept-language': 'fr, en;q=0.5' })).body['og:title']).toBe('fr, en;q=0.5')
    expect((await preview(url, { 'accept-language': 'x"<y>' })).body['og:title']).toBe('en;q=0.9, *;q=0.5')
  })
})
