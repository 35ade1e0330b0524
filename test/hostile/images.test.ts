/** Images from anybody, made into thumbnails: whatever they are, the process that asks goes on, and what comes out is small
 *  and made here. */
import { deflateSync } from 'node:zlib'
import sharp from 'sharp'
import * as v from 'valibot'
import { afterAll, describe, expect, test } from 'vitest'
import { readImageHeader } from '../../functions/media/thumbnails/image-header.ts'
import { ThumbnailError, type ThumbnailProblem } from '../../functions/media/thumbnails/thumbnail-error.ts'
import { createThumbnailer } from '../../functions/media/thumbnails/thumbnailer.ts'
import { fakeClock, systemClock } from '../../shared/clock.ts'
import { Config } from '../../shared/config/schema.ts'
import {
  emptyWebp,
  gif,
  gifFrame,
  manyScans,
  plain,
  png,
  pngChunk,
  pngSignature,
  resizedAvif,
  resizedJpeg,
} from '../support/hostile-images.ts'
import { type Cost, costTable, measured } from '../support/measured.ts'

const config = v.parse(Config.entries.thumbnails, {})
const thumbnailer = createThumbnailer({ config, clock: systemClock })
const size = { width: 96, height: 96, method: 'scale' } as const
const costs: Cost[] = []
/** The configuration's limits, and room for a busy machine and for what one check of the memory may miss. */
const caseMsMax = config.timeout + 5_000
const grownMiBMax = config.memory / 2 ** 20 + 128
afterAll(async () => {
  await thumbnailer.close()
  console.log(costTable(costs))
})

type Outcome = ThumbnailProblem | 'made'
interface Case {
  readonly name: string
  readonly source: () => Buffer | Promise<Buffer>
  /** More than one where libraries differ in what they take. */
  readonly outcome: Outcome | readonly Outcome[]
}

const svg = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><script>alert(1)</script></svg>'
const laughs = `<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY a "ha">${'bcdefghij'
  .split('')
  .map((name, index) => `<!ENTITY ${name} "${`&${'abcdefghij'[index]};`.repeat(10)}">`)
  .join('')}]><svg xmlns="http://www.w3.org/2000/svg"><text>&j;</text></svg>`

const cases: readonly Case[] = [
  { name: 'png: 4 gigapixels in 70 bytes', source: () => png(65_535, 65_535, Buffer.alloc(1)), outcome: 'too_large' },
  { name: 'png: sides of 2^31-1', source: () => png(2 ** 31 - 1, 2 ** 31 - 1, Buffer.alloc(1)), outcome: 'too_large' },
  { name: 'png: no height', source: () => png(10, 0, Buffer.alloc(1)), outcome: 'unsupported' },
  {
    name: 'png: as many pixels as are allowed',
    source: () => png(8_000, 8_000, Buffer.alloc(8_001 * 8_000)),
    outcome: 'made',
  },
  { name: 'png: a line of 60,000', source: () => png(60_000, 1, Buffer.alloc(60_001)), outcome: 'made' },
  { name: 'png: a column of 60,000', source: () => png(1, 60_000, Buffer.alloc(120_000)), outcome: 'made' },
  {
    name: 'png: 128 MiB of data for 100 pixels',
    source: () => png(10, 10, Buffer.alloc(128 * 1024 * 1024)),
    outcome: ['made', 'broken'],
  },
  {
    name: 'png: 64 MiB of text beside the picture',
    source: () =>
      png(10, 10, Buffer.alloc(110), [
        pngChunk('zTXt', Buffer.concat([Buffer.from('k\0\0', 'latin1'), deflateSync(Buffer.alloc(64 * 1024 * 1024))])),
      ]),
    outcome: ['made', 'broken'],
  },
  {
    name: 'png: 64 MiB of colour profile',
    source: () =>
      png(10, 10, Buffer.alloc(110), [
        pngChunk('iCCP', Buffer.concat([Buffer.from('k\0\0', 'latin1'), deflateSync(Buffer.alloc(64 * 1024 * 1024))])),
      ]),
    outcome: ['made', 'broken'],
  },
  { name: 'png: cut off', source: async () => cut(await noise().png().toBuffer()), outcome: 'broken' },
  {
    name: 'png: 20,000 pieces of data',
    source: () =>
      Buffer.concat([
        png(10, 10, Buffer.alloc(110)).subarray(0, 33),
        ...Array.from({ length: 20_000 }, () => pngChunk('IDAT')),
        pngChunk('IEND'),
      ]),
    outcome: 'broken',
  },
  {
    name: 'png: a chunk of 4 GiB',
    source: () => Buffer.concat([png(9, 9, Buffer.alloc(90)).subarray(0, 33), Buffer.alloc(8, 0xff)]),
    outcome: 'broken',
  },
  {
    name: 'png: the signature, and SVG',
    source: () => Buffer.concat([pngSignature, Buffer.from(svg)]),
    outcome: 'unsupported',
  },
  {
    name: 'png: junk before it',
    source: () => Buffer.concat([Buffer.from('\n'), png(9, 9, Buffer.alloc(90))]),
    outcome: 'unsupported',
  },
  {
    name: 'gif: a screen of 4 gigapixels',
    source: () => gif({ width: 65_535, height: 65_535 }, [gifFrame()]),
    outcome: 'too_large',
  },
  {
    name: 'gif: a frame of 4 gigapixels on a small screen',
    source: () => gif({ width: 9, height: 9 }, [gifFrame({ width: 65_535, height: 65_535 })]),
    outcome: ['made', 'broken'],
  },
  {
    name: 'gif: 100,000 frames',
    source: () =>
      gif(
        { width: 4, height: 4 },
        Array.from({ length: 100_000 }, () => gifFrame()),
      ),
    outcome: 'made',
  },
  {
    name: 'gif: as many pixels as are allowed, in frames',
    source: () =>
      gif(
        { width: 460, height: 460 },
        Array.from({ length: 300 }, () => gifFrame({ width: 9, height: 9 })),
      ),
    outcome: ['made', 'broken'],
  },
  {
    name: 'gif: blocks without end',
    source: () =>
      Buffer.concat([
        gif({ width: 9, height: 9 }, []).subarray(0, -1),
        Buffer.from([0x21, 0xfe]),
        Buffer.alloc(4_000_000, 0xff),
      ]),
    outcome: ['made', 'broken'],
  },
  { name: 'gif: no frame at all', source: () => gif({ width: 9, height: 9 }, []), outcome: 'broken' },
  {
    name: 'gif: script in its first bytes',
    source: () => Buffer.from('GIF89a/*\0\0\0\0\0\0*/=1;alert(document.cookie)//', 'latin1'),
    outcome: 'unsupported',
  },
  {
    name: 'jpeg: 4 gigapixels',
    source: async () => resizedJpeg(await noise().jpeg().toBuffer(), 65_535, 65_535),
    outcome: 'too_large',
  },
  {
    name: 'jpeg: larger than its data',
    source: async () => resizedJpeg(await noise().jpeg().toBuffer(), 8_000, 8_000),
    outcome: ['made', 'broken'],
  },
  { name: 'jpeg: cut off', source: async () => cut(await noise().jpeg().toBuffer()), outcome: ['made', 'broken'] },
  {
    name: 'jpeg: 5,000 scans',
    source: async () => manyScans(await plain(2_000, 2_000).jpeg({ progressive: true }).toBuffer(), 5_000),
    outcome: ['made', 'broken', 'timeout'],
  },
  {
    name: 'jpeg: markers without end',
    source: () => Buffer.concat([Buffer.from([0xff, 0xd8]), Buffer.alloc(8_000_000, 0xff)]),
    outcome: 'unsupported',
  },
  {
    name: 'jpeg: segments without a picture',
    source: () =>
      Buffer.concat([
        Buffer.from([0xff, 0xd8]),
        ...Array.from({ length: 100_000 }, () => Buffer.from([0xff, 0xe0, 0, 2])),
      ]),
    outcome: 'unsupported',
  },
  {
    name: 'jpeg: EXIF that makes no sense',
    source: async () =>
      withSegment(
        await noise().jpeg().toBuffer(),
        0xe1,
        Buffer.concat([Buffer.from('Exif\0\0MM\0*', 'latin1'), Buffer.alloc(5_000, 0xff)]),
      ),
    outcome: ['made', 'broken'],
  },
  {
    name: 'jpeg: HTML behind it',
    source: async () =>
      Buffer.concat([await noise().jpeg().toBuffer(), Buffer.from('<script>alert(1)</script>'.repeat(100))]),
    outcome: 'made',
  },
  {
    name: 'jpeg: script in its comment',
    source: async () => withSegment(await noise().jpeg().toBuffer(), 0xfe, Buffer.from('<script>alert(1)</script>')),
    outcome: 'made',
  },
  { name: 'webp: a canvas of 2^48 pixels', source: () => emptyWebp(2 ** 24, 2 ** 24, false), outcome: 'too_large' },
  { name: 'webp: a canvas with nothing on it', source: () => emptyWebp(8_000, 8_000, true), outcome: 'broken' },
  { name: 'webp: cut off', source: async () => cut(await noise().webp().toBuffer()), outcome: ['made', 'broken'] },
  {
    name: 'avif: 4 gigapixels',
    source: async () => resizedAvif(await plain(64, 64).avif({ effort: 0 }).toBuffer(), 65_535, 65_535),
    outcome: 'too_large',
  },
  {
    name: 'avif: smaller than its data',
    source: async () => resizedAvif(await plain(640, 640).avif({ effort: 0 }).toBuffer(), 8, 8),
    outcome: ['made', 'broken'],
  },
  {
    name: 'avif: boxes within themselves',
    source: () =>
      Buffer.concat([
        Buffer.from('\0\0\0\x10ftypavif\0\0\0\0', 'latin1'),
        Buffer.from('\0\0\0\x00meta', 'latin1').subarray(0, 8),
        Buffer.from('\0\0\0\x08iprp'.repeat(10_000), 'latin1'),
      ]),
    outcome: 'unsupported',
  },
  { name: 'svg: a script', source: () => Buffer.from(svg), outcome: 'unsupported' },
  {
    name: 'svg: a file of this machine',
    source: () =>
      Buffer.from(
        `<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"><image xlink:href="file:///etc/passwd"/></svg>`,
      ),
    outcome: 'unsupported',
  },
  { name: 'svg: a billion laughs', source: () => Buffer.from(laughs), outcome: 'unsupported' },
  { name: 'svg: compressed', source: () => deflateSync(Buffer.from(svg)), outcome: 'unsupported' },
  { name: 'html', source: () => Buffer.from('<!doctype html><script>alert(1)</script>'), outcome: 'unsupported' },
  { name: 'postscript', source: () => Buffer.from('%!PS\n(/etc/passwd) (r) file'), outcome: 'unsupported' },
  {
    name: 'mvg that runs a command',
    source: () => Buffer.from('push graphic-context\nfill "url(https://x/|ls)"\npop graphic-context'),
    outcome: 'unsupported',
  },
  { name: 'pdf', source: () => Buffer.from('%PDF-1.7\n'), outcome: 'unsupported' },
  { name: 'tiff', source: () => plain(9, 9).tiff().toBuffer(), outcome: 'unsupported' },
  { name: 'bmp', source: () => Buffer.from('BM'.padEnd(60, '\0')), outcome: 'unsupported' },
  { name: 'heic', source: () => Buffer.from('\0\0\0\x18ftypheic\0\0\0\0mif1heic', 'latin1'), outcome: 'unsupported' },
  { name: 'nothing', source: () => Buffer.alloc(0), outcome: 'unsupported' },
  { name: 'more bytes than are read', source: () => Buffer.alloc(config.source_bytes_max + 1), outcome: 'too_large' },
]

function noise() {
  return sharp(Buffer.from(Array.from({ length: 3 * 200 * 200 }, (_, at) => (at * 7919) % 251)), {
    raw: { width: 200, height: 200, channels: 3 },
  })
}

function cut(bytes: Buffer): Buffer {
  return bytes.subarray(0, Math.floor(bytes.length / 2))
}

function withSegment(jpeg: Buffer, marker: number, data: Buffer): Buffer {
  const length = data.length + 2
  return Buffer.concat([
    jpeg.subarray(0, 2),
    Buffer.from([0xff, marker, length >> 8, length & 0xff]),
    data,
    jpeg.subarray(2),
  ])
}

describe.each([false, true])('a thumbnail, animated %s, of', (animated) => {
  test.each(cases)('$name', async ({ name, source: make, outcome }) => {
    const source = await make()
    const pids = () => thumbnailer.pids
    const result = await measured(
      `${name}${animated ? ', animated' : ''}`,
      costs,
      () => thumbnailer.make({ source, size, animated }).catch((error: unknown) => error),
      pids,
    )
    const cost = costs.at(-1)!
    expect(cost.wallMs).toBeLessThan(caseMsMax)
    expect(cost.grownMiB).toBeLessThan(grownMiBMax)
    if (result instanceof ThumbnailError) {
      expect([outcome].flat()).toContain(result.reason)
      return
    }
    expect([outcome].flat()).toContain('made')
    const made = v.parse(v.object({ bytes: v.instance(Uint8Array), content_type: v.string() }), result)
    const header = readImageHeader(made.bytes)
    expect(header?.content_type).toBe(made.content_type)
    expect(header?.width).toBeLessThanOrEqual(size.width)
    expect(header?.height).toBeLessThanOrEqual(size.height)
    expect(Buffer.from(made.bytes).toString('latin1')).not.toMatch(/script|alert/)
  })
})

test('delays that are absurd come out as something that can be shown', async () => {
  const source = gif(
    { width: 4, height: 4 },
    [0, 65_535, 1].map((delay, index) => gifFrame({ delay, colour: index % 2 })),
  )
  const made = await thumbnailer.make({ source, size, animated: true })
  expect((await sharp(made.bytes, { animated: true }).metadata()).delay).toEqual([20, 10_000, 20])
})

describe('the process that decodes', () => {
  const picture = () => plain(300, 300).png().toBuffer()

  test('is ended when an image takes too long, and replaced', async () => {
    const clock = fakeClock()
    const own = createThumbnailer({ config, clock })
    const source = await picture()
    const slow = own.make({ source, size, animated: false })
    await Promise.resolve()
    const [pid] = own.pids
    clock.advance(config.timeout)
    await expect(slow).rejects.toMatchObject({ reason: 'timeout' })
    expect(own.pids).toEqual([])
    expect(await own.make({ source, size, animated: false })).toMatchObject({ width: 96, height: 96 })
    expect(own.pids).not.toContain(pid)
    await own.close()
  })

  test('is ended when it takes too much memory, and replaced', async () => {
    const own = createThumbnailer({ config: { ...config, memory: 1024 * 1024, concurrency: 1 }, clock: systemClock })
    const source = png(8_000, 8_000, Buffer.alloc(8_001 * 8_000))
    await expect(own.make({ source, size, animated: false })).rejects.toMatchObject({ reason: 'timeout' })
    expect(own.pids).toEqual([])
    await own.close()
  })

  test('may die, and the next image has another', async () => {
    const own = createThumbnailer({ config, clock: systemClock })
    const source = await picture()
    await own.make({ source, size, animated: false })
    const [first] = own.pids
    process.kill(first!, 'SIGSTOP')
    const stopped = own.make({ source, size, animated: false })
    process.kill(first!, 'SIGKILL')
    await expect(stopped).rejects.toMatchObject({ reason: 'broken' })
    expect(await own.make({ source, size, animated: false })).toMatchObject({ width: 96 })
    await own.close()
  })

  test('is not there when nothing is to be done', async () => {
    const clock = fakeClock()
    const own = createThumbnailer({ config, clock })
    await own.make({ source: await picture(), size, animated: false })
    expect(own.pids).toHaveLength(1)
    clock.advance(30_000)
    expect(own.pids).toEqual([])
    await own.close()
  })

  test('takes few at a time, and refuses a crowd', async () => {
    const own = createThumbnailer({ config: { ...config, concurrency: 1 }, clock: systemClock })
    const source = await picture()
    const leaving = new AbortController()
    const crowd = Array.from({ length: 80 }, (_, index) =>
      own
        .make({ source, size, animated: false, signal: index === 5 ? leaving.signal : undefined })
        .then(() => 'made')
        .catch((error: ThumbnailError) => error.reason),
    )
    leaving.abort()
    const count = (outcome: string, outcomes: string[]) => outcomes.filter((one) => one === outcome).length
    const outcomes = await Promise.all(crowd)
    expect([count('made', outcomes), count('busy', outcomes), count('aborted', outcomes)]).toEqual([64, 15, 1])
    expect(own.pids.length).toBeLessThanOrEqual(1)
    await own.close()
  })
})
