import sharp from 'sharp'
import * as v from 'valibot'
import { afterAll, describe, expect, test } from 'vitest'
import { systemClock } from '../../../shared/clock.ts'
import { Config } from '../../../shared/config/schema.ts'
import { readImageHeader } from './image-header.ts'
import { fitted, type ThumbnailSize, thumbnailSize } from './sizes.ts'
import { createThumbnailer } from './thumbnailer.ts'

const config = v.parse(Config.entries.thumbnails, {})
const thumbnailer = createThumbnailer({ config, clock: systemClock })
afterAll(() => thumbnailer.close())

/** Red up to the middle, then blue. */
function picture(
  width: number,
  height: number,
  { opacity, middle = width / 2 }: { opacity?: number; middle?: number } = {},
) {
  const channels = opacity === undefined ? 3 : 4
  const pixels = Buffer.alloc(width * height * channels, opacity)
  for (let at = 0; at < width * height; at++) {
    pixels.set(at % width < middle ? [255, 0, 0] : [0, 0, 255], at * channels)
  }
  return sharp(pixels, { raw: { width, height, channels } })
}

async function moving(width: number, height: number, frames: number): Promise<Buffer> {
  const all = Array.from({ length: frames }, (_, index) =>
    picture(width, height, { middle: (width * (index + 1)) / (frames + 1) })
      .png()
      .toBuffer(),
  )
  return sharp(await Promise.all(all), { join: { animated: true } })
    .gif({ delay: all.map(() => 70), loop: 3 })
    .toBuffer()
}

const scale = (width: number, height: number): ThumbnailSize => ({ width, height, method: 'scale' })
const crop = (width: number, height: number): ThumbnailSize => ({ width, height, method: 'crop' })

describe('the header of an image', () => {
  test.each([
    ['image/jpeg', () => picture(300, 200).jpeg().toBuffer()],
    ['image/jpeg', () => picture(300, 200).jpeg({ progressive: true }).withMetadata({ orientation: 6 }).toBuffer()],
    ['image/png', () => picture(300, 200).png().toBuffer()],
    ['image/gif', () => picture(300, 200).gif().toBuffer()],
    ['image/webp', () => picture(300, 200).webp().toBuffer()],
    ['image/webp', () => picture(300, 200).webp({ lossless: true }).toBuffer()],
    ['image/webp', () => picture(300, 200).withMetadata({ orientation: 3 }).webp().toBuffer()],
    ['image/avif', () => picture(300, 200).avif({ effort: 0 }).toBuffer()],
  ])('%s', async (content_type, make) => {
    const bytes = await make()
    expect(readImageHeader(bytes)).toEqual({ content_type, width: 300, height: 200, frames: 1 })
    for (let length = 0; length < 64; length++) readImageHeader(bytes.subarray(0, length))
  })

  test('frames are counted', async () => {
    const gif = await moving(20, 10, 7)
    expect(readImageHeader(gif)).toMatchObject({ width: 20, height: 10, frames: 7 })
    const webp = await sharp(gif, { animated: true }).webp().toBuffer()
    expect(readImageHeader(webp)).toMatchObject({ content_type: 'image/webp', width: 20, height: 10, frames: 7 })
  })

  test.each(['', 'GIF89a', '<svg xmlns="http://www.w3.org/2000/svg"/>', '%PDF-1.7', 'RIFF1234WEBPVP8 ', '\x89PNG'])(
    'none in %j',
    (text) => expect(readImageHeader(Buffer.from(text, 'latin1'))).toBeUndefined(),
  )
})

describe('client-server-api/#thumbnails the sizes', () => {
  test.each([
    { asked: crop(32, 32), gives: crop(32, 32) },
    { asked: crop(20, 10), gives: crop(32, 32) },
    { asked: crop(33, 20), gives: crop(96, 96) },
    { asked: scale(32, 32), gives: scale(320, 240) },
    { asked: scale(320, 241), gives: scale(640, 480) },
    { asked: { width: 640, height: 480 }, gives: scale(640, 480) },
    // No cropped one is large enough.
    { asked: crop(200, 200), gives: scale(320, 240) },
    { asked: scale(10_000, 1), gives: scale(800, 600) },
  ])('$asked → $gives', ({ asked, gives }) => expect(thumbnailSize(config, asked)).toEqual(gives))

  test.each([
    { asked: crop(1, 33), gives: crop(32, 64) },
    { asked: scale(512, 10_000), gives: scale(512, 1600) },
  ])('dynamic: $asked → $gives', ({ asked, gives }) =>
    expect(thumbnailSize({ ...config, dynamic: true }, asked)).toEqual(gives),
  )

  test.each([
    { image: [1000, 500], size: scale(320, 240), gives: [320, 160] },
    { image: [500, 1000], size: scale(320, 240), gives: [120, 240] },
    { image: [100, 50], size: scale(320, 240), gives: [100, 50] },
    { image: [65_535, 1], size: scale(320, 240), gives: [320, 1] },
    { image: [1000, 500], size: crop(96, 96), gives: [96, 96] },
    { image: [300, 50], size: crop(96, 96), gives: [50, 50] },
    { image: [10, 10], size: crop(96, 96), gives: [10, 10] },
    { image: [64, 64], size: crop(128, 64), gives: [64, 32] },
  ] as const)('an image of $image in $size is $gives', ({ image: [width, height], size, gives }) =>
    expect(Object.values(fitted({ width, height }, size))).toEqual(gives),
  )
})

describe('a thumbnail', () => {
  test.each([
    ['jpeg', () => picture(300, 200).jpeg().toBuffer(), 'image/jpeg'],
    ['png', () => picture(300, 200).png().toBuffer(), 'image/png'],
    ['gif', () => picture(300, 200).gif().toBuffer(), 'image/png'],
    ['webp', () => picture(300, 200).webp().toBuffer(), 'image/jpeg'],
    ['webp with alpha', () => picture(300, 200, { opacity: 128 }).webp().toBuffer(), 'image/png'],
    ['avif', () => picture(300, 200).avif({ effort: 0 }).toBuffer(), 'image/jpeg'],
  ] as const)('of %s is small, whole and of a common type', async (_name, make, content_type) => {
    const made = await thumbnailer.make({ source: await make(), size: scale(96, 96), animated: false })
    expect(made).toMatchObject({ content_type, width: 96, height: 64 })
    expect(readImageHeader(made.bytes)).toMatchObject({ content_type, width: 96, height: 64 })
    const { data } = await sharp(made.bytes).removeAlpha().raw().toBuffer({ resolveWithObject: true })
    expect(data[0]).toBeGreaterThan(200)
    expect(data.at(-1)).toBeGreaterThan(200)
  })

  test('is turned as EXIF says, and tells nothing of where it was taken', async () => {
    const source = await picture(300, 200)
      .jpeg()
      .withExif({ IFD0: { Artist: 'somebody' }, IFD3: { GPSLatitude: '52/1 31/1 0/1' } })
      .withMetadata({ orientation: 6 })
      .toBuffer()
    const made = await thumbnailer.make({ source, size: scale(96, 96), animated: false })
    expect(made).toMatchObject({ width: 64, height: 96 })
    const { exif, orientation } = await sharp(made.bytes).metadata()
    expect([exif, orientation]).toEqual([undefined, undefined])
    // What was on the left is on top.
    const { data } = await sharp(made.bytes).raw().toBuffer({ resolveWithObject: true })
    expect(data[0]).toBeGreaterThan(200)
    expect(data.at(-1)).toBeGreaterThan(200)
  })

  test('moves where that is asked for, and else stands still', async () => {
    const source = await moving(200, 100, 5)
    const made = await thumbnailer.make({ source, size: scale(96, 96), animated: true })
    expect(made).toMatchObject({ content_type: 'image/webp', width: 96, height: 48 })
    expect(await sharp(made.bytes, { animated: true }).metadata()).toMatchObject({
      pages: 5,
      delay: [70, 70, 70, 70, 70],
      loop: 3,
    })
    const still = await thumbnailer.make({ source, size: crop(32, 32), animated: false })
    expect(still).toMatchObject({ content_type: 'image/png', width: 32, height: 32 })
  })

  test('is the same each time', async () => {
    const source = await picture(640, 480).jpeg().toBuffer()
    const made = await Promise.all(
      [1, 2, 3].map(() => thumbnailer.make({ source, size: crop(96, 96), animated: false })),
    )
    expect(new Set(made.map(({ bytes }) => Buffer.from(bytes).toString('base64'))).size).toBe(1)
    expect(thumbnailer.pids.length).toBeLessThanOrEqual(config.concurrency)
  })
})
