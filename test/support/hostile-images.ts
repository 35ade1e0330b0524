/** Images that are more than they seem, made by hand. */
import { crc32, deflateSync } from 'node:zlib'
import sharp from 'sharp'

const u32 = (value: number) => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value >>> 0)
  return bytes
}
const u16le = (value: number) => Buffer.from([value & 0xff, (value >> 8) & 0xff])

export const pngSignature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a])

export function pngChunk(type: string, data: Buffer = Buffer.alloc(0)): Buffer {
  const body = Buffer.concat([Buffer.from(type, 'latin1'), data])
  return Buffer.concat([u32(data.length), body, u32(crc32(body))])
}

/** Greyscale, 8 bits; `idat` is what is compressed in it, whatever the size says. */
export function png(width: number, height: number, idat: Buffer, between: readonly Buffer[] = []): Buffer {
  const header = Buffer.concat([u32(width), u32(height), Buffer.from([8, 0, 0, 0, 0])])
  return Buffer.concat([
    pngSignature,
    pngChunk('IHDR', header),
    ...between,
    pngChunk('IDAT', deflateSync(idat)),
    pngChunk('IEND'),
  ])
}

/** One frame is one pixel, in a palette of two colours. */
export function gif(screen: { width: number; height: number }, frames: readonly Buffer[]): Buffer {
  return Buffer.concat([
    Buffer.from('GIF89a', 'latin1'),
    u16le(screen.width),
    u16le(screen.height),
    Buffer.from([0x80, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff]),
    ...frames,
    Buffer.from([0x3b]),
  ])
}

export function gifFrame({ width = 1, height = 1, delay = 0, colour = 0 } = {}): Buffer {
  return Buffer.concat([
    Buffer.from([0x21, 0xf9, 4, 0]),
    u16le(delay),
    Buffer.from([0, 0, 0x2c, 0, 0, 0, 0]),
    u16le(width),
    u16le(height),
    Buffer.from([0, 2, 2, 0x44 | (colour << 3), 1, 0]),
  ])
}

/** Patches the size into the first start-of-frame of a JPEG. */
export function resizedJpeg(jpeg: Buffer, width: number, height: number): Buffer {
  const bytes = Buffer.from(jpeg)
  const at = [0xc0, 0xc2].map((sof) => bytes.indexOf(Buffer.from([0xff, sof]))).find((found) => found > 0) ?? -1
  bytes.writeUInt16BE(height, at + 5)
  bytes.writeUInt16BE(width, at + 7)
  return bytes
}

/** Its last scan again and again: each is decoded over the whole picture. */
export function manyScans(progressive: Buffer, scans: number): Buffer {
  const last = progressive.lastIndexOf(Buffer.from([0xff, 0xda]))
  const scan = progressive.subarray(last, -2)
  return Buffer.concat([
    progressive.subarray(0, -2),
    ...Array.from({ length: scans }, () => scan),
    Buffer.from([0xff, 0xd9]),
  ])
}

/** `VP8X`, with a canvas of this size and nothing on it. */
export function emptyWebp(width: number, height: number, animated: boolean): Buffer {
  const size = (length: number) =>
    Buffer.from([(length - 1) & 0xff, ((length - 1) >> 8) & 0xff, ((length - 1) >> 16) & 0xff])
  const chunk = Buffer.concat([
    Buffer.from('VP8X', 'latin1'),
    Buffer.from([10, 0, 0, 0, animated ? 2 : 0, 0, 0, 0]),
    size(width),
    size(height),
  ])
  const length = Buffer.alloc(4)
  length.writeUInt32LE(chunk.length + 4)
  return Buffer.concat([Buffer.from('RIFF', 'latin1'), length, Buffer.from('WEBP', 'latin1'), chunk])
}

/** Patches the size into all of its `ispe` boxes. */
export function resizedAvif(avif: Buffer, width: number, height: number): Buffer {
  const bytes = Buffer.from(avif)
  for (let at = bytes.indexOf('ispe'); at >= 0; at = bytes.indexOf('ispe', at + 4)) {
    bytes.writeUInt32BE(width, at + 8)
    bytes.writeUInt32BE(height, at + 12)
  }
  return bytes
}

export function plain(width: number, height: number) {
  return sharp({ create: { width, height, channels: 3, background: '#336699' } })
}
