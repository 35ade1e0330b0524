/** Which sizes thumbnails come in. https://spec.matrix.org/v1.19/client-server-api/#thumbnails */
import type { Config } from '../../../shared/config/schema.ts'

export type ThumbnailMethod = 'crop' | 'scale'

export interface ThumbnailSize {
  readonly width: number
  readonly height: number
  readonly method: ThumbnailMethod
}

/** Dynamic sizes are rounded up to multiples of this, so that an image has not one thumbnail for every width there is. */
const dynamicStep = 32

/** The size to make for the one that was asked for: never smaller than that where there is a larger one. */
export function thumbnailSize(
  config: Pick<Config['thumbnails'], 'sizes' | 'dynamic' | 'dynamic_max'>,
  asked: { readonly width: number; readonly height: number; readonly method?: ThumbnailMethod | undefined },
): ThumbnailSize {
  const { width, height, method = 'scale' } = asked
  if (config.dynamic) {
    const rounded = (length: number) =>
      Math.min(config.dynamic_max, Math.max(dynamicStep, Math.ceil(length / dynamicStep) * dynamicStep))
    return { width: rounded(width), height: rounded(height), method }
  }
  const bySize = config.sizes.toSorted((a, b) => a.width * a.height - b.width * b.height)
  const enough = bySize.filter((size) => size.width >= width && size.height >= height)
  const best = enough.find((size) => size.method === method) ?? enough[0] ?? bySize.at(-1)
  return best ?? { width, height, method }
}

/** What an image of this size becomes. Nothing is ever enlarged.
 *  - `scale`: as large as fits into the size, in the image's own proportions.
 *  - `crop`: the middle part, in the proportions of the size as far as the image has the pixels. */
export function fitted(
  image: { readonly width: number; readonly height: number },
  size: ThumbnailSize,
): { readonly width: number; readonly height: number } {
  const byWidth = size.width / image.width
  const byHeight = size.height / image.height
  if (size.method === 'scale') {
    const factor = Math.min(1, byWidth, byHeight)
    return { width: pixels(image.width * factor), height: pixels(image.height * factor) }
  }
  const covering = Math.max(byWidth, byHeight)
  const factor = Math.min(1, 1 / covering)
  return {
    width: pixels(Math.min(image.width, size.width * factor)),
    height: pixels(Math.min(image.height, size.height * factor)),
  }
}

function pixels(length: number): number {
  return Math.max(1, Math.round(length))
}
