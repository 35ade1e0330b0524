/** What every store of media does, held against a folder and a real object store. */
import { createHash, randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import * as v from 'valibot'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Config } from '../../shared/config/schema.ts'
import { openMediaStore } from '../../shared/media/open-store.ts'
import { copied } from '../../shared/media/pieces.ts'
import { type MediaStore, NoSuchObjectError, newObjectKey } from '../../shared/media/store.ts'
import { type ObjectStore, objectStoreInstalled, startObjectStore } from '../support/object-store.ts'

const MB = 1024 * 1024
const signal = new AbortController().signal
let folder: string
let objects: ObjectStore | undefined
const open: Record<string, () => MediaStore> = {
  folder: () => openMediaStore(v.parse(Config, { server_name: 'hs1', media: { folder } })),
}
if (objectStoreInstalled) {
  open['object store'] = () => {
    const s3 = { ...objects?.settings, part_size: '5M', prefix: 'some/where/', redirect: true }
    return openMediaStore(v.parse(Config, { server_name: 'hs1', media: { s3 } }))
  }
}
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'ganglion-store-'))
  if (objectStoreInstalled) objects = await startObjectStore()
})
afterAll(async () => {
  await objects?.stop()
  await rm(folder, { recursive: true, force: true })
})

describe.each(Object.keys(open))('media in a %s', (name) => {
  let store: MediaStore
  beforeAll(() => {
    store = open[name]?.() as MediaStore
  })
  afterAll(() => store.close())

  async function read(key: ReturnType<typeof newObjectKey>, start: number, end: number): Promise<Buffer> {
    const pieces: Buffer[] = []
    for await (const piece of copied(await store.read(key, { start, end }))) pieces.push(piece)
    return Buffer.concat(pieces)
  }

  test('bytes come back as they were, whole and in parts', async () => {
    await store.check()
    // Below, at and over the size of a part, and several of them.
    for (const size of [0, 1, 300_000, 5 * MB, 5 * MB + 1, 12 * MB]) {
      const bytes = randomBytes(size)
      const key = newObjectKey()
      async function* chunks() {
        for (let at = 0; at < size; at += 700_001) yield bytes.subarray(at, at + 700_001)
      }
      await store.put(key, chunks())
      if (size === 0) continue
      expect((await read(key, 0, size)).equals(bytes)).toBe(true)
      expect((await read(key, size >> 1, size)).equals(bytes.subarray(size >> 1))).toBe(true)
      expect((await read(key, 0, 1)).equals(bytes.subarray(0, 1))).toBe(true)
    }
  })

  test('what is deleted is gone, and may be deleted again', async () => {
    const key = newObjectKey()
    await store.put(key, one(Buffer.from('bytes')))
    await store.delete(key)
    await store.delete(key)
    await expect(store.read(key, { start: 0, end: 5 })).rejects.toThrow(NoSuchObjectError)
  })

  test('an upload that fails in the middle leaves nothing after it is deleted', async () => {
    const key = newObjectKey()
    async function* failing() {
      for (let i = 0; i < 12; i++) yield randomBytes(MB)
      throw new Error('the client left')
    }
    await expect(store.put(key, failing())).rejects.toThrow('the client left')
    await store.delete(key)
    expect(await listed()).not.toContain(key)
    expect((await objects?.parts()) ?? []).toEqual([])
  })

  test('all objects are listed', async () => {
    const keys = Array.from({ length: 30 }, newObjectKey)
    await Promise.all(keys.map((key) => store.put(key, one(randomBytes(10)))))
    expect(await listed()).toEqual(expect.arrayContaining(keys))
  })

  async function listed(): Promise<string[]> {
    const found: string[] = []
    for await (const some of store.list(signal)) {
      for (const { key, modifiedTs } of some) {
        found.push(key)
        expect(Math.abs(modifiedTs - Date.now())).toBeLessThan(600_000)
      }
    }
    return found
  }

  test('a client is sent to the store where that is set', async () => {
    const key = newObjectKey()
    await store.put(key, one(Buffer.from('for the client')))
    const headers = { content_type: 'text/plain', content_disposition: "attachment; filename*=utf-8''%C3%A9" }
    const url = await store.redirect(key, headers)
    if (name === 'folder') expect(url).toBe(undefined)
    else {
      const answer = await fetch(String(url))
      expect(await answer.text()).toBe('for the client')
      expect(answer.headers.get('content-type')).toBe('text/plain')
      expect(answer.headers.get('content-disposition')).toBe(headers.content_disposition)
      expect((await fetch(String(url).replace(/(?<=X-Amz-Signature=)..../, '0bad'))).status).toBe(403)
    }
  })

  test('takes no more memory than a few parts, whatever the size', async () => {
    const key = newObjectKey()
    const chunk = randomBytes(MB)
    const before = process.memoryUsage().rss
    let most = 0
    async function* large() {
      for (let i = 0; i < 300; i++) {
        most = Math.max(most, process.memoryUsage().rss)
        yield chunk
      }
    }
    await store.put(key, large())
    expect((most - before) / MB).toBeLessThan(64)
    const hash = createHash('sha256')
    let bytes = 0
    for await (const piece of await store.read(key, { start: 0, end: 300 * MB })) {
      bytes += piece.length
      hash.update(piece)
      most = Math.max(most, process.memoryUsage().rss)
    }
    expect(bytes).toBe(300 * MB)
    expect((most - before) / MB).toBeLessThan(64)
    await store.delete(key)
  }, 60_000)
})

async function* one(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes
}
