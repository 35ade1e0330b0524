/** Takes compression off an answer, with an eye on what comes out: a few kilobytes may hold gigabytes. */
import type { Transform } from 'node:stream'
import { createBrotliDecompress, createGunzip, createInflate, createInflateRaw } from 'node:zlib'
import { EgressError } from './egress-error.ts'

/** What is asked for. Others, and several on top of each other, are refused: nobody was asked to send those. */
export const acceptedEncodings = 'gzip, br'

/** One pass of a decompressor makes no more than this. */
const chunkBytes = 64 * 1024

/** The answer's bytes as they were before compression. Throws EgressError for an encoding that was not asked for. */
export function decoded(encoding: string, bytes: AsyncIterable<Uint8Array>, host: string): AsyncIterable<Uint8Array> {
  const options = { chunkSize: chunkBytes }
  switch (encoding.trim().toLowerCase()) {
    case '':
    case 'identity':
      return bytes
    case 'gzip':
    case 'x-gzip':
      return through(createGunzip(options), bytes, host)
    case 'br':
      return through(createBrotliDecompress(options), bytes, host)
    case 'deflate':
      return inflated(bytes, host)
    default:
      throw new EgressError('broken', `${host} sent an encoding that was not asked for`)
  }
}

/** `deflate` is with the header of zlib; some servers leave that out. */
async function* inflated(bytes: AsyncIterable<Uint8Array>, host: string): AsyncIterable<Uint8Array> {
  const iterator = bytes[Symbol.asyncIterator]()
  const first = await iterator.next()
  const start = first.done ? undefined : first.value[0]
  const rest = {
    async *[Symbol.asyncIterator]() {
      if (!first.done) yield first.value
      for (let step = await iterator.next(); !step.done; step = await iterator.next()) yield step.value
    },
  }
  const hasHeader = start === undefined || (start & 0x0f) === 8
  yield* through((hasHeader ? createInflate : createInflateRaw)({ chunkSize: chunkBytes }), rest, host)
}

/** Writes only when what came out was taken, so memory holds one chunk whatever the ratio. */
async function* through(
  decompressor: Transform,
  bytes: AsyncIterable<Uint8Array>,
  host: string,
): AsyncIterable<Uint8Array> {
  let failed: unknown
  const fed = (async () => {
    for await (const chunk of bytes) {
      if (decompressor.destroyed) return
      if (!decompressor.write(chunk)) await drained(decompressor)
    }
    decompressor.end()
  })().catch((error: unknown) => {
    failed = error
    decompressor.destroy(error instanceof Error ? error : new Error('cannot be decompressed'))
  })
  try {
    for await (const chunk of decompressor) yield chunk
    await fed
  } catch (error) {
    if (failed !== undefined) throw failed
    throw error instanceof EgressError ? error : new EgressError('broken', `What ${host} sent cannot be decompressed`)
  } finally {
    decompressor.destroy()
  }
}

function drained(decompressor: Transform): Promise<void> {
  return new Promise((resolve) => {
    const settle = () => {
      decompressor.off('drain', settle).off('close', settle)
      resolve()
    }
    decompressor.on('drain', settle).on('close', settle)
  })
}
