import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { FrameReader, FrameWriter, kinds, messageOf } from './frames.ts'

interface Frame {
  readonly id: number
  readonly kind: number
  readonly head: string | undefined
  readonly body: string | Uint8Array | undefined
}

const frame: fc.Arbitrary<Frame> = fc.record({
  id: fc.integer({ min: 0, max: 0xffff_ffff }),
  kind: fc.constantFrom(...Object.values(kinds)),
  head: fc.option(
    fc.string({ unit: fc.integer({ min: 0, max: 255 }).map((code) => String.fromCharCode(code)), maxLength: 60 }),
    { nil: undefined },
  ),
  body: fc.option(fc.oneof(fc.string({ unit: 'grapheme', maxLength: 60 }), fc.uint8Array({ maxLength: 60 })), {
    nil: undefined,
  }),
})

function written(frames: readonly Frame[]): Buffer {
  const pieces: Buffer[] = []
  const writer = new FrameWriter((bytes) => pieces.push(bytes))
  for (const { id, kind, head, body } of frames) writer.put(id, kind as never, head, body)
  writer.flush()
  expect(pieces.length).toBeLessThanOrEqual(1)
  return Buffer.concat(pieces)
}

function contentOf({ head, body }: Frame): Buffer {
  const bytes = typeof body === 'string' ? Buffer.from(body) : Buffer.from(body ?? [])
  if (head === undefined) return bytes
  const length = Buffer.alloc(4)
  length.writeUInt32BE(head.length)
  return Buffer.concat([length, Buffer.from(head, 'latin1'), bytes])
}

describe('frames', () => {
  test('are read as they were written, however the bytes are cut', () => {
    fc.assert(
      fc.property(fc.array(frame, { maxLength: 12 }), fc.array(fc.nat(2_000), { maxLength: 12 }), (frames, cuts) => {
        const bytes = written(frames)
        const read: { id: number; kind: number; content: Buffer }[] = []
        const reader = new FrameReader(10_000, (id, kind, content) => {
          read.push({ id, kind, content: Buffer.from(content) })
        })
        let at = 0
        for (const cut of [...cuts.map((n) => Math.min(n, bytes.length)).sort((a, b) => a - b), bytes.length]) {
          if (cut > at) expect(reader.read(bytes.subarray(at, cut))).toBe(true)
          at = Math.max(at, cut)
        }
        expect(read).toEqual(frames.map((each) => ({ id: each.id, kind: each.kind, content: contentOf(each) })))
      }),
    )
  })

  test('one that is too long, or shorter than any, ends the reading', () => {
    const reader = () => new FrameReader(100, () => expect.unreachable())
    expect(reader().read(Buffer.from([0, 0, 0, 101]))).toBe(false)
    expect(reader().read(Buffer.from([0, 0, 0, 4, 0, 0, 0, 1]))).toBe(false)
    expect(reader().read(Buffer.from([0xff, 0xff, 0xff, 0xff, 0]))).toBe(false)
  })

  test('a message whose head is longer than it all is none', () => {
    expect(messageOf(Buffer.from([0, 0, 0]))).toBe(undefined)
    expect(messageOf(Buffer.from([0, 0, 0, 2, 65]))).toBe(undefined)
    expect(messageOf(Buffer.from([0, 0, 0, 1, 65, 66]))).toEqual({ head: 'A', body: Buffer.from('B') })
  })

  test('random bytes throw nothing', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 8 }), (chunks) => {
        const reader = new FrameReader(200, (_id, _kind, content) => {
          messageOf(content)
        })
        for (const chunk of chunks) if (!reader.read(Buffer.from(chunk))) return
      }),
    )
  })
})
