import { randomBytes } from 'node:crypto'
import { mkdtemp, open, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { copied, filePieces, framed, type Pieces } from './pieces.ts'

const bytes = randomBytes(2_500_000)
let folder: string
let file: string
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'ganglion-pieces-'))
  file = path.join(folder, 'file')
  await writeFile(file, bytes)
})
afterAll(() => rm(folder, { recursive: true, force: true }))

async function piecesOf(start: number, end: number): Promise<Pieces> {
  return filePieces(await open(file), { start, end })
}

/** As who writes one piece while the next is fetched, and looks at it when the one after that is there. */
async function heldForOne(pieces: Pieces): Promise<Buffer> {
  const seen: Buffer[] = []
  let before: Uint8Array | undefined
  for await (const piece of pieces) {
    if (before) seen.push(Buffer.from(before))
    before = piece
  }
  // The others have had time to take what this one gave back.
  await new Promise((resolve) => setImmediate(resolve))
  if (before) seen.push(Buffer.from(before))
  await pieces.return()
  return Buffer.concat(seen)
}

const range = fc
  .tuple(fc.nat(bytes.length - 1), fc.nat(bytes.length - 1))
  .map(([a, b]) => ({ start: Math.min(a, b), end: Math.max(a, b) + 1 }))

test('any part of a file comes whole, also to several readers at a time', () =>
  fc.assert(
    fc.asyncProperty(fc.array(range, { minLength: 1, maxLength: 6 }), async (ranges) => {
      const got = await Promise.all(ranges.map(async ({ start, end }) => heldForOne(await piecesOf(start, end))))
      ranges.forEach(({ start, end }, i) => {
        expect(got[i]?.equals(bytes.subarray(start, end))).toBe(true)
      })
    }),
    { numRuns: 40 },
  ))

test('a file that is shorter than was said is an error, and the reading is over', async () => {
  const pieces = await piecesOf(bytes.length - 10, bytes.length + 10)
  expect((await pieces.next()).value).toHaveLength(10)
  await expect(pieces.next()).rejects.toThrow('the file ends too early')
  expect(await pieces.next()).toEqual({ done: true, value: undefined })
})

test.each([0, 1, 2])('ended after %i pieces, the file is closed, and there is no more', async (read) => {
  const handle = await open(file)
  const pieces = filePieces(handle, { start: 0, end: bytes.length })
  for (let i = 0; i < read; i++) await pieces.next()
  await Promise.all([pieces.return(), pieces.return()])
  expect(handle.fd).toBe(-1)
  expect(await pieces.next()).toEqual({ done: true, value: undefined })
  // Memory that was given back serves the next.
  expect((await heldForOne(await piecesOf(0, bytes.length))).equals(bytes)).toBe(true)
})

test('between a beginning and an end; ended before it was begun, what it holds is closed', async () => {
  const around = async (start: number, end: number) =>
    framed(Buffer.from('<'), await piecesOf(start, end), Buffer.from('>'))
  const got: Buffer[] = []
  for await (const piece of copied(await around(5, 8))) got.push(piece)
  expect(Buffer.concat(got)).toEqual(Buffer.concat([Buffer.from('<'), bytes.subarray(5, 8), Buffer.from('>')]))
  const handle = await open(file)
  await framed(Buffer.alloc(1), filePieces(handle, { start: 0, end: 9 }), Buffer.alloc(1)).return()
  expect(handle.fd).toBe(-1)
})
