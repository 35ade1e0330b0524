/** Bytes of an object on their way out. */
import type { FileHandle } from 'node:fs/promises'
import type { Readable } from 'node:stream'
import type { ByteRange } from './store.ts'

/** A piece is good until the next but one is asked for: its memory may be used again then. So one can be written while the
 *  next is fetched. To be read to the end, or ended by `return`; after the end, `return` says that the last ones are not used
 *  any more either. */
export interface Pieces extends AsyncIterableIterator<Uint8Array> {
  return(): Promise<IteratorReturnResult<undefined>>
}

const pieceBytes = 512 * 1024
/** One that is written, one that was asked for meanwhile, one that is read ahead. */
const buffersMax = 3
/** Kept for the next reader: memory that is asked of the system anew for each piece costs more than the reading. */
const keptMax = 16
const kept: Buffer[] = []
const ended = { done: true, value: undefined } as const

/** A part of a file, read one piece ahead. The handle is closed with it. */
export function filePieces(handle: FileHandle, { start, end }: ByteRange): Pieces {
  const buffers: Buffer[] = []
  let at = start
  let turn = 0
  let ahead: Promise<Uint8Array> | undefined
  let over = false
  let whole = false

  async function read(): Promise<Uint8Array> {
    const bytes = Math.min(end - at, pieceBytes)
    const place = turn++ % buffersMax
    let buffer = buffers[place]
    if (!buffer) {
      // What fits into one piece needs no more memory than it is long.
      buffer = end - start < pieceBytes ? Buffer.allocUnsafe(bytes) : (kept.pop() ?? Buffer.allocUnsafeSlow(pieceBytes))
      buffers[place] = buffer
    }
    const { bytesRead } = await handle.read(buffer, 0, bytes, at)
    if (bytesRead === 0) throw new Error('the file ends too early')
    at += bytesRead
    return buffer.subarray(0, bytesRead)
  }
  async function close(): Promise<void> {
    if (over) return
    over = true
    await ahead?.catch(() => {})
    await handle.close()
  }

  return {
    [Symbol.asyncIterator]() {
      return this
    },
    async next() {
      if (over) return ended
      try {
        const piece = ahead ?? (at < end ? read() : undefined)
        ahead = undefined
        if (!piece) {
          whole = true
          await close()
          return ended
        }
        const value = await piece
        if (at < end && !over) {
          ahead = read()
          // Whoever asks for it hears of it.
          ahead.catch(() => {})
        }
        return { done: false, value }
      } catch (error) {
        await close()
        throw error
      }
    },
    async return() {
      await close()
      // Of a reading that was given up, pieces may be on their way still.
      const unused = whole ? buffers.splice(0) : []
      for (const buffer of unused) if (buffer.length === pieceBytes && kept.length < keptMax) kept.push(buffer)
      return ended
    },
  }
}

/** What comes over a connection. */
export function streamPieces(stream: Readable): Pieces {
  const iterator: AsyncIterator<Uint8Array> = stream[Symbol.asyncIterator]()
  return {
    [Symbol.asyncIterator]() {
      return this
    },
    next: () => iterator.next(),
    async return() {
      stream.destroy()
      return ended
    },
  }
}

/** Pieces with something before and after them. */
export function framed(before: Uint8Array, pieces: Pieces | undefined, after: Uint8Array): Pieces {
  async function* all(): AsyncGenerator<Uint8Array, undefined> {
    yield before
    if (pieces) yield* pieces
    yield after
    return undefined
  }
  const generator = all()
  return {
    [Symbol.asyncIterator]() {
      return this
    },
    next: () => generator.next(),
    async return() {
      // A generator that was not begun ends nothing that it holds.
      await pieces?.return()
      await generator.return(undefined)
      return ended
    },
  }
}

/** For who keeps pieces. */
export async function* copied(pieces: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer> {
  for await (const piece of pieces) yield Buffer.from(piece)
}
