/** What an image says of itself before anything of it is decoded: type, size, number of frames. A type is known by its first
 *  bytes alone, never by a name or a header of HTTP. Every step through the file goes forward, so it ends. */

export type ImageType = 'image/jpeg' | 'image/png' | 'image/gif' | 'image/webp' | 'image/avif'

export interface ImageHeader {
  readonly content_type: ImageType
  /** In pixels, as stored: before a rotation by EXIF. */
  readonly width: number
  readonly height: number
  /** Those that are in `bytes`; 1 for what does not move. */
  readonly frames: number
}

/** undefined for what is none of these types, or has no size. The start of the file suffices but for the frames. */
export function readImageHeader(bytes: Uint8Array): ImageHeader | undefined {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  try {
    const header = readers.reduce<ImageHeader | undefined>((found, read) => found ?? read(view), undefined)
    return header && header.width > 0 && header.height > 0 ? header : undefined
  } catch (error) {
    // It ends where a number should be.
    if (error instanceof RangeError) return undefined
    throw error
  }
}

type Reader = (bytes: Buffer) => ImageHeader | undefined

const pngSignature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a])

const readPng: Reader = (bytes) => {
  if (!bytes.subarray(0, 8).equals(pngSignature) || text(bytes, 12, 4) !== 'IHDR') return undefined
  // An APNG's frames beyond the first are never decoded.
  return { content_type: 'image/png', width: bytes.readUInt32BE(16), height: bytes.readUInt32BE(20), frames: 1 }
}

const readGif: Reader = (bytes) => {
  const version = text(bytes, 0, 6)
  if (version !== 'GIF87a' && version !== 'GIF89a') return undefined
  const [width, height] = [bytes.readUInt16LE(6), bytes.readUInt16LE(8)]
  return { content_type: 'image/gif', width, height, frames: Math.max(1, gifFrames(bytes)) }
}

function gifFrames(bytes: Buffer): number {
  const colours = (packed: number) => ((packed & 0x80) === 0 ? 0 : 3 * 2 ** ((packed & 7) + 1))
  const afterBlocks = (from: number): number => {
    let at = from
    for (let length = bytes[at]; length !== undefined && length > 0; length = bytes[at]) at += 1 + length
    return at + 1
  }
  let frames = 0
  let at = 13 + colours(bytes[10] ?? 0)
  for (;;) {
    const kind = bytes[at]
    if (kind === 0x21) at = afterBlocks(at + 2)
    else if (kind === 0x2c) {
      frames += 1
      at = afterBlocks(at + 11 + colours(bytes[at + 9] ?? 0))
    } else return frames
  }
}

/** Start-of-frame markers: C0 to CF but for DHT, JPG and DAC. */
const isStartOfFrame = (marker: number) => marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)

const readJpeg: Reader = (bytes) => {
  if (bytes.readUInt16BE(0) !== 0xffd8) return undefined
  let at = 2
  for (;;) {
    if (bytes.readUInt8(at) !== 0xff) return undefined
    const marker = bytes.readUInt8(at + 1)
    if (marker === 0xff) {
      // A filling byte.
      at += 1
    } else if (isStartOfFrame(marker)) {
      const [height, width] = [bytes.readUInt16BE(at + 5), bytes.readUInt16BE(at + 7)]
      return { content_type: 'image/jpeg', width, height, frames: 1 }
    } else if (marker === 0x01 || (marker >= 0xd0 && marker <= 0xd7)) {
      at += 2
    } else {
      at += 2 + Math.max(2, bytes.readUInt16BE(at + 2))
    }
  }
}

const readWebp: Reader = (bytes) => {
  if (text(bytes, 0, 4) !== 'RIFF' || text(bytes, 8, 4) !== 'WEBP') return undefined
  const still = { content_type: 'image/webp', frames: 1 } as const
  switch (text(bytes, 12, 4)) {
    case 'VP8 ': {
      if (bytes.readUIntBE(23, 3) !== 0x9d012a) return undefined
      return { ...still, width: bytes.readUInt16LE(26) & 0x3fff, height: bytes.readUInt16LE(28) & 0x3fff }
    }
    case 'VP8L': {
      if (bytes.readUInt8(20) !== 0x2f) return undefined
      const packed = bytes.readUInt32LE(21)
      return { ...still, width: (packed & 0x3fff) + 1, height: ((packed >>> 14) & 0x3fff) + 1 }
    }
    case 'VP8X': {
      const [width, height] = [bytes.readUIntLE(24, 3) + 1, bytes.readUIntLE(27, 3) + 1]
      return { ...still, width, height, frames: (bytes.readUInt8(20) & 2) === 0 ? 1 : Math.max(1, webpFrames(bytes)) }
    }
    default:
      return undefined
  }
}

function webpFrames(bytes: Buffer): number {
  let frames = 0
  for (let at = 12; at + 8 <= bytes.length; ) {
    if (text(bytes, at, 4) === 'ANMF') frames += 1
    const length = bytes.readUInt32LE(at + 4)
    at += 8 + length + (length % 2)
  }
  return frames
}

const avifBrands = new Set(['avif', 'avis'])

/** The largest of the sizes that are declared: which of them is the picture, and which a part of it, is further inside. */
const readAvif: Reader = (bytes) => {
  if (text(bytes, 4, 4) !== 'ftyp') return undefined
  const end = Math.min(bytes.readUInt32BE(0), bytes.length)
  const brands = [text(bytes, 8, 4)]
  for (let at = 16; at + 4 <= end; at += 4) brands.push(text(bytes, at, 4))
  if (!brands.some((brand) => avifBrands.has(brand))) return undefined
  const sizes = boxes(bytes, 0, bytes.length, 'meta')
    .flatMap(([from, to]) => boxes(bytes, from + 4, to, 'iprp'))
    .flatMap(([from, to]) => boxes(bytes, from, to, 'ipco'))
    .flatMap(([from, to]) => boxes(bytes, from, to, 'ispe'))
    .map(([from]) => ({ width: bytes.readUInt32BE(from + 4), height: bytes.readUInt32BE(from + 8) }))
  const largest = sizes.reduce((a, b) => (b.width * b.height > a.width * a.height ? b : a), { width: 0, height: 0 })
  return { content_type: 'image/avif', ...largest, frames: 1 }
}

/** Where the contents of the boxes of a kind are, within (from, to). */
function boxes(bytes: Buffer, from: number, to: number, kind: string): readonly (readonly [number, number])[] {
  const found: [number, number][] = []
  for (let at = from; at + 8 <= to; ) {
    const length = bytes.readUInt32BE(at)
    // 1 would mean a length of 64 bits, which nothing of a header has; 0 means up to the end.
    const end = length === 0 ? to : at + length
    if (length === 1 || end > to || (length !== 0 && length < 8)) return found
    if (text(bytes, at + 4, 4) === kind) found.push([at + 8, end])
    at = end
  }
  return found
}

const readers: readonly Reader[] = [readPng, readGif, readJpeg, readWebp, readAvif]

function text(bytes: Buffer, at: number, length: number): string {
  return bytes.toString('latin1', at, at + length)
}
