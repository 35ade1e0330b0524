/** Uploads while media handlers, main and the object store are killed: afterwards there is no row without bytes and no bytes
 *  without a row, and what was acknowledged is there. */
import { createHash, randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { testBundles } from '../support/bundles.ts'
import { type TestDatabase, testDatabase } from '../support/database.ts'
import { type ObjectStore, objectStoreInstalled, startObjectStore } from '../support/object-store.ts'
import { seeded } from '../support/random.ts'
import { redisInstalled } from '../support/redis.ts'
import { type Account, type TestRoles, testRoles } from '../support/roles.ts'

const KB = 1024
const uploaders = 4
const kills = Number(process.env.GANGLION_MEDIA_KILLS ?? 6)

describe.runIf(redisInstalled && objectStoreInstalled)('uploads through kills', () => {
  let database: TestDatabase
  let store: ObjectStore
  let roles: TestRoles
  let user: Account
  beforeAll(async () => {
    const [made, started, dist] = await Promise.all([testDatabase(), startObjectStore(), testBundles()])
    ;[database, store] = [made, started]
    roles = await testRoles({
      dist,
      databaseUrl: database.url,
      handlers: { client: 1, media: 2 },
      edge: false,
      config: { media: { s3: { ...store.settings, part_size: '5M' } } },
    })
    user = await roles.register('alice')
  }, 120_000)
  afterAll(async () => {
    await roles?.close()
    await store?.stop()
    await database?.drop()
  })

  async function upload(bytes: Uint8Array): Promise<string | undefined> {
    const urls = roles.urls('media')
    const url = urls[bytes.length % Math.max(1, urls.length)]
    if (url === undefined) return undefined
    const answer = await fetch(`${url}/_matrix/media/v3/upload`, {
      method: 'POST',
      headers: { authorization: `Bearer ${user.access_token}` },
      body: new Uint8Array(bytes),
      signal: AbortSignal.timeout(30_000),
    }).catch(() => undefined)
    if (answer?.status !== 200) return undefined
    return ((await answer.json()) as { content_uri: string }).content_uri.slice('mxc://'.length)
  }

  test('leave nothing by halves', async () => {
    const seed = Number(process.env.GANGLION_SEED ?? 7)
    const random = seeded(seed)
    const acknowledged = new Map<string, string>()
    let over = false
    async function uploadOn(): Promise<void> {
      while (!over) {
        // Some small ones, some in parts.
        const bytes = randomBytes(random.next() < 0.7 ? 20 * KB : 7_000 * KB)
        const uri = await upload(bytes)
        if (uri === undefined) await sleep(50)
        else acknowledged.set(uri, createHash('sha256').update(bytes).digest('hex'))
      }
    }
    const running = Array.from({ length: uploaders }, uploadOn)
    for (let i = 0; i < kills; i++) {
      await sleep(300 + random.below(700))
      const [one, two] = roles.of('media')
      const [main] = roles.of('main')
      const victim = [one, main, store, two][i % 4]
      await victim?.kill()
      await victim?.start()
    }
    await sleep(500)
    over = true
    await Promise.all(running)
    expect(acknowledged.size, `seed ${seed}`).toBeGreaterThan(kills)
    // Who wrote them is dead: the time in which that shows is over.
    await database.sql`update media_objects set reserved_until = 0 where sha256 is null`
    const rows = (which: string) => database.sql<{ object_key: string }[]>`
      select object_key from media_objects where ${which === 'all'} or (sha256 is not null and doomed_ts is null)
      order by object_key`
    await expect
      .poll(
        async () => {
          const keys = (await rows('stored')).map((row) => row.object_key)
          const all = await rows('all')
          return [all.length - keys.length, await store.parts(), (await store.objects()).join() === keys.join()]
        },
        { timeout: 60_000, interval: 500 },
      )
      .toEqual([0, [], true])
    const broken = await database.sql`
      select from media m where not exists (
        select from media_objects o where o.object_key = m.object_key and o.sha256 = m.sha256 and o.doomed_ts is null)`
    expect(broken).toHaveLength(0)
    const [totals] = await database.sql`
      select bytes = (select sum(size) from media_objects) as bytes,
        objects = (select count(*) from media_objects) as objects from media_totals`
    expect(totals).toEqual({ bytes: true, objects: true })
    for (const [uri, hash] of acknowledged) {
      const answer = await fetch(`${roles.urls('media')[0]}/_matrix/client/v1/media/download/${uri}`, {
        headers: { authorization: `Bearer ${user.access_token}` },
      })
      expect(
        createHash('sha256')
          .update(Buffer.from(await answer.arrayBuffer()))
          .digest('hex'),
      ).toBe(hash)
    }
  }, 180_000)
})
