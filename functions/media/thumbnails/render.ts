/** Makes a thumbnail of an image. Runs in a process of its own: what decodes is native code, and the images are anybody's. */
import sharp from 'sharp'
import type { Thumbnail, ThumbnailJob } from './job.ts'
import { fitted } from './sizes.ts'

// Of the formats that libvips knows, those that are looked for: no SVG, no PDF, no TIFF, whatever a file turns out to be.
sharp.block({ operation: ['VipsForeignLoad'] })
sharp.unblock({
  operation: ['Jpeg', 'Png', 'Nsgif', 'Webp', 'Heif'].map((loader) => `VipsForeignLoad${loader}Buffer`),
})
// Each picture is another one; and one thread works for each, so the same bytes come out wherever it runs.
sharp.cache(false)
sharp.concurrency(1)

const jpegQuality = 80
const webpQuality = 75
/** Milliseconds between two frames: below, viewers each do as they like; above, nothing moves any more. */
const delays = { least: 20, most: 10_000 }

/** Without metadata, turned as EXIF says. Rejects what can't be decoded, or is not what its first bytes said. */
export async function renderThumbnail({ source, format, size, frames, pixelsMax }: ThumbnailJob): Promise<Thumbnail> {
  const open = () =>
    sharp(source, {
      limitInputPixels: pixelsMax,
      failOn: 'error',
      sequentialRead: true,
      pages: frames,
      autoOrient: true,
    })
  const found = await open().metadata()
  if (found.format !== format) throw new Error(`${found.format} within what seemed ${format}`)
  // Frames are stacked on each other while they are worked on.
  const { width, height } = found.autoOrient
  const target = fitted({ width, height: found.pageHeight ?? height }, size)
  const resized = open().resize(target.width, target.height, { fit: size.method === 'crop' ? 'cover' : 'fill' })
  const animated = frames > 1 && (found.pages ?? 1) > 1
  const encoded = animated
    ? resized.webp({ quality: webpQuality, effort: 2, loop: found.loop ?? 0, delay: (found.delay ?? []).map(bounded) })
    : format === 'jpeg' || (found.hasAlpha === false && (format === 'webp' || format === 'heif'))
      ? resized.jpeg({ quality: jpegQuality })
      : resized.png()
  const { data, info } = await encoded.toBuffer({ resolveWithObject: true })
  return {
    bytes: data,
    content_type: info.format === 'jpeg' ? 'image/jpeg' : info.format === 'webp' ? 'image/webp' : 'image/png',
    width: info.width,
    height: info.pageHeight ?? info.height,
  }
}

function bounded(delay: number): number {
  return Math.min(delays.most, Math.max(delays.least, delay))
}
