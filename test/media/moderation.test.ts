/** Retention, quarantine, deletion, quotas, blocked hashes, the scanner, and the disk budget. */
import { createHash, randomBytes } from 'node:crypto'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type MediaPerson, type MediaServer, mediaServer } from '../support/media-server.ts'

const dayMs = 24 * 3_600_000
let server: MediaServer
let alice: MediaPerson
let root: MediaPerson

async function begin(settings: object = {}): Promise<void> {
  server = await mediaServer(settings)
  alice = await server.person('alice')
  root = await server.person('root', true)
}
const get = async (uri: string, who = alice) =>
  (await who.ask('GET', `/_matrix/client/v1/media/download/${uri}`)).status
const idOf = (uri: string) => uri.slice('hs1/'.length)
async function admin(method: string, path: string, body?: object) {
  const answer = await root.ask(method, `/_synapse/admin/v1/${path}`, body === undefined ? {} : { body })
  // biome-ignore lint/suspicious/noExplicitAny: a test reads the answer as a tool would
  return { status: answer.status, body: (await answer.json()) as any }
}
/** Rows and bytes are at one, and nothing is half done. */
async function expectSettled(objects: number): Promise<void> {
  await expect
    .poll(async () => {
      server.clock.advance(15_000)
      const rows = await server.sql<{ object_key: string }[]>`
        select object_key from media_objects where sha256 is not null and doomed_ts is null order by object_key`
      const all = await server.sql`select from media_objects`
      const keys = rows.map((row) => row.object_key)
      return [all.length, keys.length, JSON.stringify(await server.objects()) === JSON.stringify(keys)]
    })
    .toEqual([objects, objects, true])
  const [totals] = await server.sql<{ bytes: number; objects: number }[]>`select bytes, objects from media_totals`
  const [sums] = await server.sql`
    select coalesce(sum(size), 0)::bigint as bytes, count(*) as objects from media_objects`
  expect({ ...totals, objects: Number(totals?.objects) }).toEqual({ ...sums, objects: Number(sums?.objects) })
}

describe('https://element-hq.github.io/synapse/latest/admin_api/media_admin_api.html', () => {
  beforeEach(() => begin())
  afterEach(() => server.close())

  test('only administrators', async () => {
    const answer = await alice.ask('GET', `/_synapse/admin/v1/users/${alice.user_id}/media`)
    expect(answer.status).toBe(403)
  })

  test('a medium is looked at, and deleted with its bytes, which others may still have', async () => {
    const shared = randomBytes(100)
    const [one, two] = [await alice.upload(shared, { type: 'image/png', filename: 'a.png' }), await root.upload(shared)]
    const { body } = await admin('GET', `media/${one}`)
    expect(body.media_info).toMatchObject({
      media_origin: 'hs1',
      media_id: idOf(one),
      user_id: alice.user_id,
      media_type: 'image/png',
      media_length: 100,
      upload_name: 'a.png',
      quarantined_by: null,
      authenticated: true,
      safe_from_quarantine: false,
      sha256: createHash('sha256').update(shared).digest('hex'),
    })
    expect((await admin('DELETE', `media/${one}`)).body).toEqual({ deleted_media: [idOf(one)], total: 1 })
    expect(await get(one)).toBe(404)
    expect(await get(two)).toBe(200)
    await expectSettled(1)
    await admin('DELETE', `media/${two}`)
    await expectSettled(0)
    expect((await admin('DELETE', `media/${two}`)).status).toBe(404)
    const { drops } = (await admin('GET', 'ganglion/media')).body
    expect(drops).toMatchObject([
      { reason: root.user_id, media_id: idOf(two), size: 100 },
      { reason: root.user_id, media_id: idOf(one) },
    ])
  })

  test('quarantine hides what has the same bytes too, later uploads as well; what is protected stays', async () => {
    const bytes = randomBytes(50)
    const [one, two] = [await alice.upload(bytes), await root.upload(bytes)]
    const kept = await alice.upload('kept')
    expect((await admin('POST', `media/protect/${idOf(kept)}`)).status).toBe(200)
    await admin('POST', `media/quarantine/${one}`)
    await admin('POST', `media/quarantine/${kept}`)
    expect([await get(one), await get(two), await get(kept)]).toEqual([404, 404, 200])
    expect(await get(await alice.upload(bytes))).toBe(404)
    expect((await admin('GET', 'media/quarantined?kind=local')).body.media).toHaveLength(3)
    await admin('POST', `media/unquarantine/${one}`)
    expect([await get(one), await get(two)]).toEqual([200, 200])
    expect((await admin('POST', `user/${alice.user_id}/media/quarantine`)).body.num_quarantined).toBeGreaterThan(0)
    expect([await get(one), await get(kept)]).toEqual([404, 200])
    expect((await admin('POST', 'media/protect/nothing')).status).toBe(404)
  })

  test("a user's media are listed and deleted", async () => {
    const uris: string[] = []
    for (let i = 0; i < 5; i++) {
      server.clock.advance(1_000)
      uris.push(await alice.upload(`text ${i}`.repeat(i + 1)))
    }
    const others = await root.upload('of another')
    const first = (await admin('GET', `users/${alice.user_id}/media?limit=2`)).body
    expect(first.media.map((medium: { media_id: string }) => medium.media_id)).toEqual([
      idOf(uris[4] ?? ''),
      idOf(uris[3] ?? ''),
    ])
    expect([first.total, first.next_token]).toEqual([5, 2])
    const last = (await admin('GET', `users/${alice.user_id}/media?limit=2&from=4&order_by=media_length`)).body
    expect(last.media[0].media_id).toBe(idOf(uris[4] ?? ''))
    expect(last.next_token).toBe(undefined)
    const usage = (await admin('GET', 'statistics/users/media?order_by=media_count&dir=b')).body
    expect(usage.users[0]).toMatchObject({ user_id: alice.user_id, media_count: 5 })
    expect(usage.total).toBe(2)
    const gone = (await admin('DELETE', `users/${alice.user_id}/media`)).body
    expect(gone.total).toBe(5)
    expect(await get(others)).toBe(200)
    await expectSettled(1)
  })

  test('by age and size, profiles kept', async () => {
    const old = await alice.upload('old and long enough')
    const small = await alice.upload('s')
    const avatar = await alice.upload('the picture of alice')
    await server.sql`
      insert into profiles (user_id, avatar_url) values (${alice.user_id}, ${`mxc://${avatar}`})
      on conflict (user_id) do update set avatar_url = excluded.avatar_url`
    server.clock.advance(10 * dayMs)
    const before_ts = server.clock.now() - dayMs
    const fresh = await alice.upload('fresh and long enough')
    const { body } = await admin('POST', `media/delete?before_ts=${before_ts}&size_gt=5`)
    expect(body.deleted_media).toEqual([idOf(old)])
    expect([await get(small), await get(avatar), await get(fresh)]).toEqual([200, 200, 200])
    const all = await admin('POST', `media/hs1/delete?before_ts=${before_ts}&keep_profiles=false`)
    // What was fetched in between is not old any more, once that is noted.
    expect(all.body.total).toBe(2)
  })

  test("a room's media, as far as they can be read", async () => {
    const [shown, hidden, other] = [
      await alice.upload('shown'),
      await alice.upload('in a file'),
      await alice.upload('elsewhere'),
    ]
    const { room_id } = await server.commands.createRoom({ user_id: alice.user_id })
    const device_id = 'D' as never
    for (const [i, content] of [
      { msgtype: 'm.image', body: 'x', url: `mxc://${shown}` },
      { msgtype: 'm.file', body: 'x', file: { url: `mxc://${hidden}` } },
      { msgtype: 'm.image', body: 'x', url: 'mxc://remote.example/abc' },
    ].entries()) {
      await server.commands.sendEvent({
        room_id,
        user_id: alice.user_id,
        device_id,
        txn_id: `t${i}`,
        type: 'm.room.message',
        content,
      })
    }
    const inRoom = await admin('GET', `room/${room_id}/media`)
    expect(server.logged.map(({ fields }) => String((fields as { err?: unknown }).err))).toEqual([])
    expect(inRoom.body).toEqual({
      local: [`mxc://${shown}`, `mxc://${hidden}`],
      remote: ['mxc://remote.example/abc'],
    })
    expect((await admin('POST', `room/${room_id}/media/quarantine`)).body).toEqual({ num_quarantined: 2 })
    expect([await get(shown), await get(hidden), await get(other)]).toEqual([404, 404, 200])
    expect((await admin('DELETE', `room/${room_id}/media`)).body.total).toBe(3)
    await expectSettled(1)
  })

  test('what is on the list of hashes is not taken', async () => {
    const bytes = randomBytes(20)
    const hash = createHash('sha256').update(bytes).digest('hex')
    await admin('PUT', `ganglion/media/blocked/${hash.toUpperCase()}`, { reason: 'known' })
    expect((await admin('GET', 'ganglion/media/blocked')).body.blocked).toMatchObject([
      { sha256: hash, reason: 'known' },
    ])
    await expect(alice.upload(bytes)).rejects.toThrow('403')
    await expectSettled(0)
    await admin('DELETE', `ganglion/media/blocked/${hash}`)
    expect(await get(await alice.upload(bytes))).toBe(200)
  })
})

describe('retention', () => {
  beforeEach(() => begin({ retention: { local: '30d', remote: '5d' } }))
  afterEach(() => server.close())

  test('goes by the last time that somebody fetched it', async () => {
    const [unused, used, kept] = [await alice.upload('unused'), await alice.upload('used'), await alice.upload('kept')]
    await admin('POST', `media/protect/${idOf(kept)}`)
    server.clock.advance(20 * dayMs)
    expect(await get(used)).toBe(200)
    await server.role.deps.accessNotes.close()
    server.clock.advance(11 * dayMs)
    await expectSettled(2)
    expect([await get(unused), await get(used), await get(kept)]).toEqual([404, 200, 200])
  })

  test('pictures of previews go by that of remote media', async () => {
    const bytes = Buffer.from('preview')
    await server.role.deps.uploads.store({
      bytes,
      size: bytes.length,
      bytesMax: 100,
      content_type: 'image/png',
      user_id: undefined,
      kind: 'preview',
    })
    const own = await alice.upload('own')
    server.clock.advance(6 * dayMs)
    await expectSettled(1)
    expect(await get(own)).toBe(200)
  })

  test('an mxc:// URI that nobody used goes when it expires', async () => {
    await alice.ask('POST', '/_matrix/media/v1/create', { body: {} })
    expect(await server.sql`select from media`).toHaveLength(1)
    server.clock.advance(2 * dayMs)
    await expectSettled(0)
    expect(await server.sql`select from media`).toHaveLength(0)
  })
})

describe('bounds', () => {
  afterEach(() => server.close())

  test("a user's quota", async () => {
    await begin({ user_quota: 100, user_quota_period: '1d' })
    await alice.upload('x'.repeat(60))
    await expect(alice.upload('y'.repeat(41))).rejects.toThrow('403')
    await alice.upload('z'.repeat(40))
    await expect(alice.upload('!')).rejects.toThrow('403')
    await root.upload('another has room')
    server.clock.advance(dayMs + 1)
    await alice.upload('a new day')
  })

  test('the disk budget: previews go first, then uploads are refused', async () => {
    await begin({ disk_budget: 1_000, max_upload_size: 1_000 })
    const preview = async (bytes: Buffer) => {
      server.clock.advance(1_000)
      const what = { bytes, size: bytes.length, bytesMax: 1_000, content_type: 'image/png', user_id: undefined }
      return (await server.role.deps.uploads.store({ ...what, kind: 'preview' })).media_id
    }
    const old = await preview(randomBytes(400))
    const newer = await preview(randomBytes(400))
    const own = await alice.upload(randomBytes(500))
    expect([await get(`hs1/${old}`), await get(`hs1/${newer}`), await get(own)]).toEqual([404, 200, 200])
    const another = await alice.upload(randomBytes(500))
    expect([await get(`hs1/${newer}`), await get(another)]).toEqual([404, 200])
    await expect(alice.upload('1')).rejects.toThrow('403')
    const { body } = await admin('GET', 'ganglion/media')
    expect(body).toMatchObject({ bytes: 1_000, disk_budget: 1_000 })
    expect(body.drops.map((drop: { media_id: string; reason: string }) => [drop.media_id, drop.reason])).toEqual([
      [newer, 'budget'],
      [old, 'budget'],
    ])
  })

  test('the disk budget, where uploads may be dropped too', async () => {
    await begin({ disk_budget: 1_000, max_upload_size: 1_000, disk_budget_drops_local: true })
    const uris: string[] = []
    for (let i = 0; i < 10; i++) {
      server.clock.advance(1_000)
      uris.push(await alice.upload(randomBytes(300)))
    }
    expect(await Promise.all(uris.map((uri) => get(uri)))).toEqual([...Array(7).fill(404), 200, 200, 200])
    await expect(alice.upload(randomBytes(1_001))).rejects.toThrow('413')
  })
})

describe('the scanner', () => {
  let scanned: { type: string | undefined; bytes: string; token: string | undefined }[] = []
  let answer: { status: number; body: string }
  const scanner = createServer(async (request, response) => {
    let bytes = ''
    for await (const chunk of request.setEncoding('latin1')) bytes += chunk
    scanned.push({ type: request.headers['content-type'], bytes, token: request.headers.authorization })
    response.writeHead(answer.status).end(answer.body)
  })
  let url: string
  beforeAll(async () => {
    await new Promise<void>((resolve) => scanner.listen(0, '127.0.0.1', resolve))
    url = `http://127.0.0.1:${(scanner.address() as AddressInfo).port}/scan`
  })
  afterAll(() => scanner.close())
  beforeEach(() => {
    scanned = []
  })
  afterEach(() => server.close())

  test('is asked about each upload before anybody can fetch it', async () => {
    await begin({ scanner: { url, token: 'secret' } })
    answer = { status: 200, body: '{"clean":true}' }
    expect(await get(await alice.upload('fine', { type: 'text/css' }))).toBe(200)
    expect(scanned).toEqual([{ type: 'text/css', bytes: 'fine', token: 'Bearer secret' }])
    answer = { status: 200, body: '{"clean":false}' }
    await expect(alice.upload('EICAR')).rejects.toThrow('403')
    await expectSettled(1)
  })

  test.each([
    { when_down: 'refuse', reply: { status: 500, body: '' }, taken: false },
    { when_down: 'refuse', reply: { status: 200, body: 'hello' }, taken: false },
    { when_down: 'accept', reply: { status: 500, body: '' }, taken: true },
    { when_down: 'accept', reply: { status: 200, body: '{"clean":false}' }, taken: false },
  ])('answers with $reply, and $when_down is configured', async ({ when_down, reply, taken }) => {
    await begin({ scanner: { url, when_down } })
    answer = reply
    const uploaded = await alice.upload('x').catch(() => undefined)
    expect(uploaded !== undefined).toBe(taken)
    await expectSettled(taken ? 1 : 0)
  })
})
