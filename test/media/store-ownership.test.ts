/** Whose a store is: nobody deletes what they know nothing of in the store of somebody else, or of their own later self. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import * as v from 'valibot'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { compareStore } from '../../functions/main/media/compare-store.ts'
import { createStoreOwnership } from '../../functions/main/media/store-ownership.ts'
import { fakeClock } from '../../shared/clock.ts'
import { Config } from '../../shared/config/schema.ts'
import { openMediaStore } from '../../shared/media/open-store.ts'
import { type MediaStore, newObjectKey, type ObjectKey } from '../../shared/media/store.ts'
import { checkedStore, ForeignStoreError, markerName } from '../../shared/media/store-marker.ts'
import { installationId } from '../../shared/storage/media.ts'
import { type TestDatabase, testDatabase } from '../support/database.ts'
import { testMain } from '../support/main.ts'
import { type ObjectStore, objectStoreInstalled, startObjectStore } from '../support/object-store.ts'

const dayMs = 24 * 3_600_000
const signal = new AbortController().signal
let root: string
let objects: ObjectStore | undefined
let databases: [TestDatabase, TestDatabase]
let stores = 0
beforeAll(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'ganglion-owned-'))
  if (objectStoreInstalled) objects = await startObjectStore()
  databases = await Promise.all([testDatabase(), testDatabase()])
})
afterAll(async () => {
  await objects?.stop()
  for (const database of databases ?? []) await database.drop()
  await rm(root, { recursive: true, force: true })
})

const kinds = objectStoreInstalled ? ['folder', 'object store'] : ['folder']
/** A new one at each call. */
function settingsOf(kind: string) {
  const name = `store-${stores++}`
  return kind === 'folder' ? { folder: path.join(root, name) } : { s3: { ...objects?.settings, prefix: `${name}/` } }
}

describe.each(kinds)('a store in a %s', (kind) => {
  async function fixture(which: 0 | 1 = 0, media: object = settingsOf(kind)) {
    const { sql, read } = databases[which]
    const config = v.parse(Config, { server_name: 'hs1', media })
    const store = openMediaStore(config)
    const clock = fakeClock(Date.now())
    const logged: string[] = []
    const log = { error: (_: object, message: string) => void logged.push(message) }
    const ownership = createStoreOwnership({ sql, store, clock, log })
    return { media, config, sql, read, store, clock, logged, log, ownership }
  }
  async function put(store: MediaStore): Promise<ObjectKey> {
    const key = newObjectKey()
    await store.put(key, one())
    return key
  }
  async function listed(store: MediaStore): Promise<string[]> {
    const keys: string[] = []
    for await (const some of store.list(signal)) keys.push(...some.map(({ key }) => key))
    return keys
  }
  test('that is new is marked, and is another one’s from then on', async () => {
    const mine = await fixture(0)
    await mine.ownership.claim()
    await mine.ownership.claim()
    expect(await mine.store.readMarker()).toMatchObject({ installation_id: await installationId(mine.read) })
    const other = await fixture(1, mine.media)
    await expect(other.ownership.claim()).rejects.toThrow(ForeignStoreError)
    await expect(other.ownership.renew()).rejects.toThrow('belongs to another installation')
    const key = await put(mine.store)
    const handler = checkedStore(other.store, () => installationId(other.read))
    await expect(handler.check()).rejects.toThrow(ForeignStoreError)
    await expect(handler.delete(key)).rejects.toThrow(ForeignStoreError)
    await expect(put(handler)).rejects.toThrow(ForeignStoreError)
    other.clock.advance(30 * dayMs)
    await expect(compared(other)).rejects.toThrow(ForeignStoreError)
    expect(await listed(mine.store)).toEqual([key])
    await expect(testMain({ config: { media: mine.media } })).rejects.toThrow(ForeignStoreError)
  })

  async function compared({ sql, store, clock, ownership }: Awaited<ReturnType<typeof fixture>>) {
    const owned = await ownership.renew()
    return owned && compareStore({ sql, store, now: clock.now(), keptBefore: owned.keptBefore, signal })
  }

  test('that has objects of which the database knows none, and no marker, is refused', async () => {
    const mine = await fixture()
    await put(mine.store)
    await expect(mine.ownership.claim()).rejects.toThrow('knows nothing of')
    expect(await mine.store.readMarker()).toBe(undefined)
  })

  test('whose marker was lost gets it again, and keeps what was there', async () => {
    const mine = await fixture()
    const [known, unknown] = [await put(mine.store), await put(mine.store)]
    await mine.sql`insert into media_objects (object_key, sha256, size) values (${known}, ${known}, 5)`
    mine.clock.advance(30 * dayMs)
    expect(await compared(mine)).toBe(undefined)
    expect(await compared(mine)).toEqual({ deleted: 0, kept: 1 })
    expect((await listed(mine.store)).sort()).toEqual([known, unknown].sort())
    await mine.sql`delete from media_objects`
    await mine.sql`update media_store set kept_before_ts = null`
  })

  test('loses what is older than seven days and no row tells of', async () => {
    const mine = await fixture()
    await mine.ownership.claim()
    await put(mine.store)
    mine.clock.advance(6 * dayMs)
    expect(await compared(mine)).toEqual({ deleted: 0, kept: 1 })
    mine.clock.advance(2 * dayMs)
    expect(await compared(mine)).toEqual({ deleted: 1, kept: 0 })
    expect(mine.logged).toEqual([])
  })

  test('is kept as it is when the database was set back', async () => {
    const mine = await fixture()
    await mine.ownership.claim()
    await mine.ownership.renew()
    const [backup] = await mine.sql<{ token: string }[]>`select token::text from media_store`
    await mine.ownership.renew()
    await put(mine.store)
    await mine.sql`update media_store set token = ${String(backup?.token)}`
    mine.clock.advance(30 * dayMs)
    expect(await compared(mine)).toEqual({ deleted: 0, kept: 1 })
    expect(mine.logged).toEqual([expect.stringContaining('was set back')])
    mine.clock.advance(300 * dayMs)
    expect(await compared(mine)).toEqual({ deleted: 0, kept: 1 })
    expect(mine.logged).toHaveLength(1)
    await mine.sql`update media_store set kept_before_ts = null`
  })

  test('is still its own after an end between the two writes of the marker', async () => {
    const mine = await fixture()
    await mine.ownership.claim()
    const before = await mine.store.readMarker()
    const failing = { ...mine.store, writeMarker: async () => Promise.reject(new Error('the store is away')) }
    await expect(createStoreOwnership({ ...mine, store: failing }).renew()).rejects.toThrow('away')
    expect(await mine.store.readMarker()).toEqual(before)
    await mine.ownership.renew()
    const written = {
      ...mine.store,
      async writeMarker(marker: Parameters<MediaStore['writeMarker']>[0]) {
        await mine.store.writeMarker(marker)
        throw new Error('main is killed')
      },
    }
    await expect(createStoreOwnership({ ...mine, store: written }).renew()).rejects.toThrow('killed')
    await mine.ownership.renew()
    expect(mine.logged).toEqual([])
  })

  test.runIf(kind === 'folder')('whose marker cannot be read is refused', async () => {
    const mine = await fixture()
    await mine.ownership.claim()
    await writeFile(path.join(String(mine.config.media.folder), markerName), '{"installation_id": 1}')
    await expect(mine.ownership.claim()).rejects.toThrow(ForeignStoreError)
  })
})

async function* one(): AsyncGenerator<Uint8Array> {
  yield Buffer.from('bytes')
}
