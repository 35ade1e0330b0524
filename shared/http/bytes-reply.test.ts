import { IncomingMessage, ServerResponse } from 'node:http'
import { Socket } from 'node:net'
import { expect, test } from 'vitest'
import type { Pieces } from '../media/pieces.ts'
import { sendBytes } from './bytes-reply.ts'
import { BytesReply } from './route.ts'

/** A thousand pieces, and how far they were read. */
function manyPieces(): Pieces & { readonly read: number; readonly ended: boolean } {
  let read = 0
  let ended = false
  return {
    get read() {
      return read
    },
    get ended() {
      return ended
    },
    [Symbol.asyncIterator]() {
      return this
    },
    async next() {
      return ++read > 1_000 ? { done: true, value: undefined } : { done: false, value: Buffer.alloc(1_000) }
    },
    async return() {
      ended = true
      return { done: true, value: undefined }
    },
  }
}

test.each([
  ['left before the answer began: next to nothing is read for it', 'GET', true, 1],
  ['asks for the head alone: nothing is read for it', 'HEAD', false, 0],
])('a client that %s', async (_, method, gone, readMost) => {
  const incoming = Object.assign(new IncomingMessage(new Socket()), { method })
  const outgoing = new ServerResponse(incoming)
  if (gone) outgoing.destroy()
  const pieces = manyPieces()
  const broken: unknown[] = []
  await sendBytes(new BytesReply(200, { 'Content-Length': '1000000' }, pieces), { incoming, outgoing }, (error) =>
    broken.push(error),
  )
  expect(pieces.read).toBeLessThanOrEqual(readMost)
  expect(pieces.ended).toBe(true)
  expect(broken).toEqual([])
})

test('without node’s answer, a body that nobody reads is ended with its response', async () => {
  const pieces = manyPieces()
  const response = await sendBytes(new BytesReply(200, {}, pieces), {}, () => {})
  await response.body?.cancel()
  await expect.poll(() => pieces.ended).toBe(true)
})
