/** Pages from anybody, made into previews: whatever they hold, the answer is short text and a picture that was looked at, and
 *  costs little. */
import { gzipSync } from 'node:zlib'
import * as v from 'valibot'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { createPreviewMaker, type PreviewMaker } from '../../functions/media/previews/preview-maker.ts'
import { fakeClock } from '../../shared/clock.ts'
import { Config } from '../../shared/config/schema.ts'
import { createEgress, type Egress } from '../../shared/egress/egress.ts'
import { emptyWebp, gif, gifFrame, plain, png } from '../support/hostile-images.ts'
import { endlessly, type HostileWeb, hostileWeb, inside, outside, type Page } from '../support/hostile-web.ts'
import { type Cost, costTable, measured } from '../support/measured.ts'

const config = v.parse(Config.entries.url_previews, {})
const clock = fakeClock()
const costs: Cost[] = []
const caseMsMax = 10_000
const grownMiBMax = 128
/** Of one answer. */
const answerCharactersMax = 150_000

let web: HostileWeb
let egress: Egress
let maker: PreviewMaker
const images: { content_type: string; bytes: Buffer }[] = []
beforeAll(async () => {
  web = await hostileWeb()
  egress = createEgress({ config: v.parse(Config.entries.egress, { allowed_ranges: [outside] }), clock })
  maker = createPreviewMaker({
    config,
    egress,
    clock,
    denied: () => false,
    storeImage: async (image) => {
      images.push(image)
      return { mxc_uri: 'mxc://hs1/stored' }
    },
    onError: (error) => expect(error).toBeUndefined(),
  })
  const picture = await plain(90, 60).png().toBuffer()
  web.page('/picture.png', (_request, response) => response.end(picture))
})
afterAll(async () => {
  await egress.close()
  await web.close()
  console.log(costTable(costs))
})
beforeEach(() => {
  images.length = 0
})

const html =
  (text: string | Buffer, type = 'text/html'): Page =>
  (_request, response) =>
    response.writeHead(200, { 'content-type': type }).end(text)
const many = (text: string) => text.repeat(Math.ceil(config.page_bytes_max / text.length))
const og = (property: string, content: string) => `<meta property="og:${property}" content="${content}">`

/** What the answer has to be like: 502, or these properties and no others. */
type Outcome = 'refused' | Readonly<Record<string, unknown>>
const cases: readonly { readonly name: string; readonly page: Page; readonly outcome: Outcome }[] = [
  {
    name: 'html: a million open elements',
    page: html(`<title>T</title>${many('<div>')}`),
    outcome: { 'og:title': 'T' },
  },
  {
    name: 'html: a million elements that end',
    page: html(`<title>T</title>${many('</p></div></b>')}`),
    outcome: expect.objectContaining({ 'og:title': 'T' }),
  },
  {
    name: 'html: elements within each other, of two kinds',
    page: html(`<title>T</title>${many('<b><p>')}`),
    outcome: { 'og:title': 'T' },
  },
  {
    name: 'html: one tag that never ends',
    page: html(`<title>T</title><a ${many('x=y ')}`),
    outcome: { 'og:title': 'T' },
  },
  {
    name: 'html: one attribute that never ends',
    page: html(`<title>T</title><a x="${many('y')}`),
    outcome: { 'og:title': 'T' },
  },
  {
    name: 'html: a tag with 100,000 attributes',
    page: html(`<title>T</title><a ${Array.from({ length: 100_000 }, (_, i) => `a${i}`).join(' ')}>`),
    outcome: { 'og:title': 'T' },
  },
  { name: 'html: one comment', page: html(`<title>T</title><!--${many('-')}`), outcome: { 'og:title': 'T' } },
  { name: 'html: one title', page: html(`<title>${many('T')}`), outcome: { 'og:title': 'T'.repeat(2_000) } },
  {
    name: 'html: a long title',
    page: html(`<title>${'T'.repeat(100_000)}</title>`),
    outcome: { 'og:title': 'T'.repeat(2_000) },
  },
  {
    name: 'html: only entities',
    page: html(`<title>T</title><p>${many('&amp;&#0;&#x10ffff;&nosuch;')}`),
    outcome: { 'og:title': 'T', 'og:description': expect.any(String) },
  },
  {
    name: 'html: 10,000 properties',
    page: html(Array.from({ length: 10_000 }, (_, i) => og(`p${i}`, 'x')).join('')),
    outcome: expect.objectContaining({ 'og:p0': 'x' }),
  },
  {
    name: 'html: long properties',
    page: html(Array.from({ length: 100 }, (_, i) => og(`p${i}`, 'x'.repeat(9_000))).join('')),
    outcome: expect.objectContaining({ 'og:p0': 'x'.repeat(2_000) }),
  },
  {
    name: 'html: properties of every object',
    page: html(`${og('__proto__', 'x') + og('constructor', 'x')}<meta name="__proto__" content="x"><title>T</title>`),
    outcome: { 'og:__proto__': 'x', 'og:constructor': 'x', 'og:title': 'T' },
  },
  {
    name: 'html: script in its title',
    page: html('<title><script>alert(1)</script></title>'),
    outcome: { 'og:title': '<script>alert(1)</script>' },
  },
  {
    name: 'html: script where its text is',
    page: html(
      '<title>T</title><body><script>alert(1)</script><style>x</style><svg><title>no</title><text>no</text></svg><p>yes',
    ),
    outcome: { 'og:title': 'T', 'og:description': 'yes' },
  },
  {
    name: 'html: text that runs backwards',
    page: html(`<title>a\u202eb\u0000c\u200bd\r\n</title>`),
    outcome: { 'og:title': 'ab cd' },
  },
  { name: 'html: half a surrogate', page: html(og('title', '&#xd83d;')), outcome: { 'og:title': '\ufffd' } },
  {
    name: 'html: endless',
    page: (_request, response) =>
      endlessly(response.writeHead(200, { 'content-type': 'text/html' }), '<title>T</title><p>x '),
    outcome: expect.objectContaining({ 'og:title': 'T' }),
  },
  {
    name: 'html: packed as a bomb',
    page: (_request, response) =>
      response
        .writeHead(200, { 'content-type': 'text/html', 'content-encoding': 'gzip' })
        .end(gzipSync(`<title>T</title>${' '.repeat(64 * 1024 * 1024)}`)),
    outcome: { 'og:title': 'T' },
  },
  {
    name: 'html: packed and not',
    page: (_request, response) =>
      response.writeHead(200, { 'content-type': 'text/html', 'content-encoding': 'gzip' }).end('<title>T'),
    outcome: 'refused',
  },
  {
    name: 'html: a refresh to the inside',
    page: html(`<meta http-equiv="refresh" content="0;url=http://${inside}/"><title>T</title>`),
    outcome: { 'og:title': 'T' },
  },
  {
    name: 'html: a frame of the inside',
    page: (_request, response) =>
      html(`<title>T</title><iframe src="http://${inside}:${web.port}/"></iframe>`)(_request, response),
    outcome: { 'og:title': 'T' },
  },
  {
    name: 'charset: UTF-7',
    page: html('<meta charset="utf-7"><title>+ADw-script+AD4-</title>'),
    outcome: { 'og:title': '+ADw-script+AD4-' },
  },
  {
    name: 'charset: UTF-16 that is not',
    page: html('<meta charset="utf-16"><title>T</title>'),
    outcome: { 'og:title': 'T' },
  },
  {
    name: 'charset: one that stands for none',
    page: html('<title>T</title>', 'text/html; charset=iso-2022-kr'),
    outcome: { 'og:title': 'T' },
  },
  {
    name: 'charset: escapes of ISO-2022-JP',
    page: html(Buffer.from('<meta charset="iso-2022-jp"><title>\x1b(J\\</title>', 'latin1')),
    outcome: { 'og:title': '¥' },
  },
  {
    name: 'charset: bytes that are nothing',
    page: html(
      Buffer.concat([Buffer.from('<title>T'), Buffer.alloc(2_000, 0xff), Buffer.from('</title>')]),
      'text/html; charset=utf-8',
    ),
    outcome: { 'og:title': expect.stringMatching(/^T\ufffd+$/) },
  },
  { name: 'charset: half of UTF-16', page: html(Buffer.from([0xff, 0xfe, 0x3c])), outcome: expect.anything() },
  {
    name: 'picture: of the inside',
    page: (request, response) =>
      html(`<title>T</title>${og('image', `http://${inside}:${web.port}/i.png`)}`)(request, response),
    outcome: { 'og:title': 'T' },
  },
  {
    name: 'picture: that leads inside',
    page: html(`<title>T</title>${og('image', '/inside')}`),
    outcome: { 'og:title': 'T' },
  },
  {
    name: 'picture: a file',
    page: html(`<title>T</title>${og('image', 'file:///etc/passwd')}`),
    outcome: { 'og:title': 'T' },
  },
  {
    name: 'picture: script',
    page: html(`<title>T</title>${og('image', 'javascript:alert(1)')}`),
    outcome: { 'og:title': 'T' },
  },
  {
    name: 'picture: mxc',
    page: html(`<title>T</title>${og('image', 'mxc://other/secret')}`),
    outcome: { 'og:title': 'T' },
  },
  { name: 'picture: SVG', page: html(`<title>T</title>${og('image', '/svg')}`), outcome: { 'og:title': 'T' } },
  { name: 'picture: endless', page: html(`<title>T</title>${og('image', '/endless')}`), outcome: { 'og:title': 'T' } },
  {
    name: 'picture: HTML called PNG',
    page: html(`<title>T</title>${og('image', '/html.png')}`),
    outcome: { 'og:title': 'T' },
  },
  {
    name: 'picture: the page itself',
    page: html(`<title>T</title>${og('image', '')}${og('image', '?')}`),
    outcome: { 'og:title': 'T' },
  },
  {
    name: 'picture: a hundred that are none',
    page: html(
      `<title>T</title>${'<img src="/none">'.repeat(50)}${Array.from({ length: 50 }, (_, i) => `<img src="/none${i}">`).join('')}`,
    ),
    outcome: { 'og:title': 'T' },
  },
  {
    name: 'picture: served as one, and a bomb',
    page: (_request, response) =>
      response.writeHead(200, { 'content-type': 'image/png' }).end(png(65_535, 65_535, Buffer.alloc(1))),
    outcome: expect.objectContaining({ 'og:image:width': 65_535 }),
  },
  {
    name: 'picture: served as one, and endless',
    page: (_request, response) => endlessly(response.writeHead(200, { 'content-type': 'image/png' }), 'x'),
    outcome: { 'og:title': 'picture: served as one, and endless' },
  },
  {
    name: 'picture: a text called one',
    page: html('GIF is what I am', 'image/gif'),
    outcome: { 'og:title': 'picture: a text called one' },
  },
  {
    name: 'picture: an animation called HTML',
    page: html(
      gif(
        { width: 4, height: 4 },
        Array.from({ length: 1_000 }, () => gifFrame()),
      ),
    ),
    outcome: expect.objectContaining({ 'og:image:type': 'image/gif' }),
  },
  {
    name: 'picture: a canvas of 2^48 pixels',
    page: html(emptyWebp(2 ** 24, 2 ** 24, true), 'image/webp'),
    outcome: expect.objectContaining({ 'og:image:type': 'image/webp' }),
  },
  {
    name: 'oembed: of itself',
    page: html('<link rel=alternate type="application/json+oembed" href="/loop">'),
    outcome: { 'og:title': 'loop' },
  },
  {
    name: 'oembed: that leads round and round',
    page: html('<title>T</title><link rel=alternate type="application/json+oembed" href="/round">'),
    outcome: { 'og:title': 'T' },
  },
  {
    name: 'oembed: of the inside',
    page: (request, response) =>
      html(`<title>T</title><link rel=alternate type="application/json+oembed" href="http://${inside}:${web.port}/">`)(
        request,
        response,
      ),
    outcome: { 'og:title': 'T' },
  },
  {
    name: 'oembed: endless',
    page: html('<title>T</title><link rel=alternate type="application/json+oembed" href="/endless">'),
    outcome: { 'og:title': 'T' },
  },
  {
    name: 'oembed: deep',
    page: html('<title>T</title><link rel=alternate type="application/json+oembed" href="/deep">'),
    outcome: { 'og:title': 'T' },
  },
  {
    name: 'oembed: script',
    page: html('<link rel=alternate type="application/json+oembed" href="/script">'),
    outcome: { 'og:title': '<script>alert(1)</script>', 'og:description': 'words' },
  },
  {
    name: 'file: a path in its name',
    page: (_request, response) =>
      response
        .writeHead(200, {
          'content-type': 'application/zip',
          'content-disposition': 'attachment; filename="../../etc/passwd"',
        })
        .end(),
    outcome: { 'og:title': 'passwd' },
  },
  {
    name: 'file: line ends in its name',
    page: (_request, response) =>
      response
        .writeHead(200, {
          'content-type': 'application/zip',
          'content-disposition': 'attachment; filename="a%0d%0aSet-Cookie:%20x"',
        })
        .end(),
    outcome: { 'og:title': 'a Set-Cookie: x' },
  },
  {
    name: 'file: a percent sign alone in its name',
    page: (_request, response) =>
      response
        .writeHead(200, { 'content-type': 'application/zip', 'content-disposition': 'attachment; filename="100%"' })
        .end(),
    outcome: { 'og:title': '100%' },
  },
  {
    name: 'file: a text without end',
    page: (_request, response) => endlessly(response.writeHead(200, { 'content-type': 'text/plain' }), 'x '),
    outcome: expect.objectContaining({ 'og:description': expect.any(String) }),
  },
  {
    name: 'file: no type, and no text',
    page: (_request, response) => response.end(Buffer.alloc(100, 1)),
    outcome: { 'og:title': 'file: no type, and no text' },
  },
]

describe('a preview of', () => {
  beforeAll(() => {
    const json =
      (answer: string): Page =>
      (_request, response) =>
        response.setHeader('content-type', 'application/json').end(answer)
    web.page('/inside', (_request, response) =>
      response.writeHead(302, { location: `http://${inside}:${web.port}/` }).end(),
    )
    web.page('/svg', html('<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>', 'image/svg+xml'))
    web.page('/html.png', html('<script>alert(1)</script>', 'image/png'))
    web.page('/endless', (_request, response) => endlessly(response, Buffer.alloc(65_536, '{"a":')))
    web.page('/round', (_request, response) => response.writeHead(302, { location: '/round' }).end())
    web.page(
      '/loop',
      json(
        JSON.stringify({
          type: 'rich',
          title: 'loop',
          html: '<link rel=alternate type="application/json+oembed" href="/loop">',
        }),
      ),
    )
    web.page('/deep', json('['.repeat(100_000)))
    web.page(
      '/script',
      json(
        JSON.stringify({
          type: 'rich',
          title: '<script>alert(1)</script>',
          html: '<script>no</script><p onclick="no">words</p>',
        }),
      ),
    )
  })

  test.each(cases)('$name', async ({ name, page, outcome }) => {
    const path = `/${encodeURIComponent(name)}`
    web.page(path, page)
    const before = web.asked.length
    const made = await measured(name, costs, () =>
      maker.make(new URL(`${web.origin}${path}`), 'en').catch((error: unknown) => error),
    )
    const cost = costs.at(-1)!
    expect(cost.wallMs).toBeLessThan(caseMsMax)
    expect(cost.grownMiB).toBeLessThan(grownMiBMax)
    // The page, its oEmbed, three pictures; and the redirects of one of them.
    expect(web.asked.length - before).toBeLessThanOrEqual(10)
    expect(web.reachedInside).toEqual([])
    if (outcome === 'refused') return expect(made).toMatchObject({ errcode: 'M_UNKNOWN', status: 502 })
    expect(JSON.stringify(made).length).toBeLessThan(answerCharactersMax)
    expect(made).toEqual(outcome)
    for (const { content_type } of images) expect(content_type).toMatch(/^image\/(?:png|gif|webp|jpeg|avif)$/)
    return undefined
  })
})
