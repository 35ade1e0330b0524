/** Thumbnails over HTTP, and media for other servers. */
import { createHash } from 'node:crypto'
import sharp from 'sharp'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { ServerName } from '../../shared/matrix/ids.ts'
import { type MediaPerson, type MediaServer, mediaServer } from '../support/media-server.ts'

let server: MediaServer
let alice: MediaPerson
beforeAll(async () => {
  server = await mediaServer()
  alice = await server.person('alice')
})
afterAll(() => server.close())

const picture = (width: number, height: number, r: number) =>
  sharp({ create: { width, height, channels: 3, background: { r, g: 0, b: 0 } } })
    .png()
    .toBuffer()
const get = (path: string) => alice.ask('GET', `/_matrix/client/v1/media/thumbnail/${path}`)

describe('client-server-api/#get_matrixclientv1mediathumbnailservernamemediaid', () => {
  test('is made once, in one of the sizes, and served with what it is', async () => {
    const uri = await alice.upload(await picture(1_000, 500, 1), { type: 'image/png' })
    const answers = await Promise.all([1, 2, 3].map(() => get(`${uri}?width=300&height=200`)))
    const bodies = await Promise.all(answers.map(async (answer) => Buffer.from(await answer.arrayBuffer())))
    for (const answer of answers) expect(answer.status).toBe(200)
    const [body = Buffer.alloc(0)] = bodies
    for (const other of bodies) expect(other.equals(body)).toBe(true)
    expect(await sharp(body).metadata()).toMatchObject({ width: 320, height: 160 })
    const type = answers[0]?.headers.get('content-type') ?? ''
    expect(answers[0]?.headers.get('content-disposition')).toBe(`inline; filename=thumbnail.${type.slice(6)}`)
    expect(answers[0]?.headers.get('etag')).toBe(`"${createHash('sha256').update(body).digest('hex')}"`)
    const rows = await server.sql`select from media_thumbnails join media_objects o on o.object_key = source_key
      join media m on m.object_key = o.object_key where m.media_id = ${uri.slice(4)}`
    expect(rows).toHaveLength(1)
    // Another medium with the same bytes has the same thumbnail.
    const again = await alice.upload(await picture(1_000, 500, 1), { type: 'image/png' })
    expect((await get(`${again}?width=320&height=240&method=scale`)).status).toBe(200)
    expect(await server.sql`select from media_thumbnails`).toHaveLength(1)
    // And on the old endpoint, where the medium is from before the freeze.
    const old = () => fetch(`${server.address}/_matrix/media/v3/thumbnail/${uri}?width=320&height=240`)
    expect((await old()).status).toBe(404)
    await server.sql`update media set authenticated = false where media_id = ${uri.slice(4)}`
    expect(Buffer.from(await (await old()).arrayBuffer()).equals(body)).toBe(true)
  })

  test.each([
    { query: 'width=0&height=1', status: 400 },
    { query: 'width=a&height=1', status: 400 },
    { query: 'height=1', status: 400 },
    { query: 'width=99999999&height=1', status: 400 },
    { query: 'width=1&height=1&method=stretch', status: 400 },
  ])('refuses $query', async ({ query, status }) => {
    const uri = await alice.upload(await picture(10, 10, 2), { type: 'image/png' })
    expect((await get(`${uri}?${query}`)).status).toBe(status)
  })

  test('of what is no picture there is none, whatever it says it is', async () => {
    for (const bytes of ['<svg onload="alert(1)"/>', '', 'GIF89a', '\x89PNG\r\n\x1a\n']) {
      const uri = await alice.upload(Buffer.from(bytes, 'latin1'), { type: 'image/png' })
      const answer = await get(`${uri}?width=32&height=32`)
      expect([answer.status, ((await answer.json()) as { errcode: string }).errcode]).toEqual([400, 'M_UNKNOWN'])
    }
  })

  test('goes with the medium that it was made of', async () => {
    const uri = await alice.upload(await picture(700, 700, 3), { type: 'image/png' })
    await get(`${uri}?width=32&height=32&method=crop`)
    const mine = await server.sql<{ object_key: string }[]>`
      select object_key from media where media_id = ${uri.slice(4)} union
      select t.object_key from media_thumbnails t join media m on m.object_key = t.source_key where media_id = ${uri.slice(4)}`
    expect(mine).toHaveLength(2)
    const left = async () => (await server.objects()).filter((key) => mine.some((row) => row.object_key === key))
    expect(await left()).toHaveLength(2)
    const [origin, media_id] = uri.split('/') as [ServerName, never]
    await server.commands.deleteMedia({ media: [{ origin, media_id }], deleted_by: alice.user_id })
    await expect.poll(left).toEqual([])
    expect((await get(`${uri}?width=32&height=32&method=crop`)).status).toBe(404)
  })
})

describe('server-server-api/#content-repository', () => {
  test('without a signature there is nothing', async () => {
    const uri = await alice.upload('for others')
    const media_id = uri.slice(4)
    for (const path of [`download/${media_id}`, `thumbnail/${media_id}?width=1&height=1`, 'download/nothing']) {
      const answer = await fetch(`${server.address}/_matrix/federation/v1/media/${path}`)
      expect([answer.status, ((await answer.json()) as { errcode: string }).errcode]).toEqual([401, 'M_UNAUTHORIZED'])
    }
  })
})
