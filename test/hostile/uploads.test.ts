/** Uploads and downloads by clients that mean harm, over bare sockets: whatever they send or leave out, nothing is kept that should
 *  not be, and memory stays where it was. */
import { randomBytes } from 'node:crypto'
import { readdirSync, readlinkSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { safeFileName } from '../../functions/media/content-headers.ts'
import { dispositionName } from '../../functions/media/remote/disposition-name.ts'
import { type Cost, costTable, measured } from '../support/measured.ts'
import { type MediaPerson, type MediaServer, mediaServer } from '../support/media-server.ts'

const kB = 1024
const MB = 1024 * kB
const uploadMax = 24 * MB
const grownMiBMax = 96
/** What a client may go on sending after it was told to stop. */
const unwantedBytesMax = 64 * MB

let server: MediaServer
let mallory: MediaPerson
const costs: Cost[] = []
beforeAll(async () => {
  server = await mediaServer({ max_upload_size: uploadMax }, { federation: { allowed_servers: [] } })
  mallory = await server.person('mallory')
})
afterAll(async () => {
  await server.close()
  console.log(costTable(costs))
})

function opened(): Socket {
  const socket = connect(server.port, '127.0.0.1')
  socket.on('error', () => {})
  return socket
}

/** The head of an upload with these headers beside the usual ones. */
function uploadHead(...headers: readonly string[]): string {
  const all = [
    'POST /_matrix/media/v3/upload HTTP/1.1',
    'Host: x',
    `Authorization: Bearer ${mallory.token}`,
    ...headers,
  ]
  return `${all.join('\r\n')}\r\n\r\n`
}

/** All that comes until the server hangs up, or until `until` matches. */
function answered(socket: Socket, until: RegExp = /$^/): Promise<string> {
  return new Promise((resolve) => {
    let text = ''
    socket.setEncoding('latin1')
    socket.on('data', (chunk: string) => {
      text += chunk
      if (until.test(text)) resolve(text)
    })
    socket.once('close', () => resolve(text))
  })
}
const wholeAnswer = /\r\n\r\n\{.*\}$/s
const statusOf = (answer: string) => Number(/^HTTP\/1\.1 (\d+)/.exec(answer)?.[1])

/** Of what is stored, nothing is half: each object that is to stay has all its bytes and a row that refers to it. */
async function nothingHalf(): Promise<void> {
  await expect
    .poll(
      () => server.sql`
      select object_key from media_objects o where doomed_ts is null and
        (sha256 is null or not exists (select from media m where m.object_key = o.object_key))`,
      { timeout: 20_000 },
    )
    .toEqual([])
}
const mediaRows = async () =>
  (await server.sql<{ count: number }[]>`select count(*)::int as count from media`)[0]?.count

async function bounded<Result>(name: string, run: () => Promise<Result>): Promise<Result> {
  try {
    return await measured(name, costs, run)
  } finally {
    expect(costs.at(-1)?.grownMiB).toBeLessThan(grownMiBMax)
  }
}

describe('uploads that are none', () => {
  interface Case {
    readonly name: string
    readonly send: (socket: Socket) => void
    /** Statuses, or that the server just hangs up. */
    readonly status: readonly (number | 'none')[]
    readonly errcode?: string
  }
  const tooLarge = { status: [413], errcode: 'M_TOO_LARGE' } as const
  const broken = { status: [400, 'none'] } as const
  const cases: readonly Case[] = [
    {
      name: 'upload: a length beyond the limit',
      send: (socket) => socket.write(uploadHead(`Content-Length: ${uploadMax + 1}`)),
      ...tooLarge,
    },
    {
      name: 'upload: a length beyond what a number holds',
      send: (socket) => socket.write(uploadHead('Content-Length: 99999999999999999999999')),
      status: [400, 413, 'none'],
    },
    { name: 'upload: a negative length', send: (socket) => socket.write(uploadHead('Content-Length: -1')), ...broken },
    {
      name: 'upload: a length that is none',
      send: (socket) => socket.write(uploadHead('Content-Length: ten')),
      ...broken,
    },
    {
      name: 'upload: two lengths',
      send: (socket) => socket.write(`${uploadHead('Content-Length: 1', 'Content-Length: 2')}ab`),
      ...broken,
    },
    {
      name: 'upload: a length beside chunks',
      send: (socket) =>
        socket.write(`${uploadHead('Content-Length: 1', 'Transfer-Encoding: chunked')}1\r\na\r\n0\r\n\r\n`),
      ...broken,
    },
    {
      name: 'upload: a chunk whose size is none',
      send: (socket) => socket.write(`${uploadHead('Transfer-Encoding: chunked')}zz\r\n`),
      ...broken,
    },
    {
      name: 'upload: a chunk larger than memory',
      send: (socket) => socket.write(`${uploadHead('Transfer-Encoding: chunked')}ffffffffffffffffff\r\n`),
      status: [400, 413, 'none'],
    },
    {
      name: 'upload: chunk extensions without end',
      send: (socket) => pour(socket, `${uploadHead('Transfer-Encoding: chunked')}1;`, Buffer.alloc(64 * kB, 'x')),
      status: [400, 413, 'none'],
    },
    {
      name: 'upload: headers without end',
      send: (socket) =>
        pour(socket, 'POST /_matrix/media/v3/upload HTTP/1.1\r\nHost: x\r\n', Buffer.from('a: b\r\n'.repeat(1_000))),
      status: [431, 400, 'none'],
    },
    {
      name: 'upload: chunks without end',
      send(socket) {
        const chunk = Buffer.concat([Buffer.from('10000\r\n'), Buffer.alloc(64 * kB), Buffer.from('\r\n')])
        pour(socket, uploadHead('Transfer-Encoding: chunked'), chunk)
      },
      ...tooLarge,
    },
  ]

  test.each(cases)('$name', async ({ name, send, status, errcode }) => {
    const before = await mediaRows()
    const socket = opened()
    const answer = await bounded(name, async () => {
      send(socket)
      return answered(socket, wholeAnswer)
    })
    socket.destroy()
    expect(status).toContain(answer === '' ? 'none' : statusOf(answer))
    if (errcode !== undefined) expect(answer).toContain(errcode)
    expect(socket.bytesWritten).toBeLessThan(unwantedBytesMax)
    expect(await mediaRows()).toBe(before)
    await nothingHalf()
  })

  /** Sends the same again and again, as fast as it is taken. */
  function pour(socket: Socket, start: string, piece: Buffer): void {
    socket.write(start)
    const more = () => {
      while (!socket.destroyed && socket.write(piece)) if (socket.bytesWritten > unwantedBytesMax) return
    }
    socket.on('drain', more)
    more()
  }

  test.each([
    { name: 'upload: given up after a byte', sent: Buffer.from('x'), headers: ['Content-Length: 1000000'] },
    { name: 'upload: given up half way', sent: randomBytes(500_000), headers: ['Content-Length: 1000000'] },
    {
      name: 'upload: given up within a chunk',
      sent: Buffer.from('10000\r\nabc'),
      headers: ['Transfer-Encoding: chunked'],
    },
    {
      name: 'upload: given up before the last chunk',
      sent: Buffer.from('3\r\nabc\r\n'),
      headers: ['Transfer-Encoding: chunked'],
    },
  ])('$name', async ({ name, sent, headers }) => {
    const before = await mediaRows()
    await bounded(name, async () => {
      const sockets = Array.from({ length: 20 }, opened)
      await Promise.all(
        sockets.map(
          (socket) =>
            new Promise<void>((resolve) =>
              socket.write(Buffer.concat([Buffer.from(uploadHead(...headers)), sent]), () => resolve()),
            ),
        ),
      )
      for (const socket of sockets) socket.destroy()
      await nothingHalf()
    })
    expect(await mediaRows()).toBe(before)
  })

  test('upload: more than its length says', async () => {
    const socket = opened()
    socket.write(`${uploadHead('Content-Length: 3', 'Content-Type: text/plain')}abcGARBAGE\r\n\r\n`)
    const answer = await answered(socket)
    // The rest is a request that is none, which may be answered first.
    expect(answer).toContain('HTTP/1.1 400')
    expect([200, 400]).toContain(statusOf(answer))
    await nothingHalf()
  })
})

describe('content that would like to run', () => {
  const script = '<script>alert(1)</script>'
  test.each([
    ['html', 'text/html', `<html>${script}</html>`],
    ['xhtml', 'application/xhtml+xml', `<html xmlns="http://www.w3.org/1999/xhtml">${script}</html>`],
    ['svg', 'image/svg+xml', `<svg xmlns="http://www.w3.org/2000/svg">${script}</svg>`],
    ['xml with a style sheet', 'text/xml', '<?xml-stylesheet href="#x" type="text/xsl"?><x/>'],
    ['JavaScript', 'text/javascript', 'alert(1)'],
    ['gif and JavaScript', 'image/gif', 'GIF89a=1;alert(1)'],
    ['pdf and html', 'application/pdf', `%PDF-1.7 ${script}`],
    ['html as an image', 'image/png', script],
    ['html as text', 'text/plain', script],
    ['a type with a script in it', 'text/html;x="<script>"', script],
    ['a type that breaks its line', 'text/html\tx', script],
    ['a type in capitals', 'TEXT/HTML', script],
    ['flash', 'application/x-shockwave-flash', 'FWS'],
    ['a web archive', 'multipart/related', script],
  ])('content: %s', async (_, type, body) => {
    const uri = await mallory.upload(body, { type })
    const answer = await mallory.ask('GET', `/_matrix/client/v1/media/download/${uri}`)
    const [essence = ''] = (answer.headers.get('content-type') ?? '').split(';')
    const disposition = answer.headers.get('content-disposition') ?? ''
    if (!/^(image\/(gif|png)|text\/plain)$/.test(essence)) expect(disposition).toMatch(/^attachment/)
    expect(answer.headers.get('x-content-type-options')).toBe('nosniff')
    expect(answer.headers.get('content-security-policy')).toMatch(/sandbox;.*default-src 'none'/)
    expect(await answer.text()).toBe(body)
  })
})

describe('names that would like to be paths', () => {
  test.each([
    '../../../../etc/passwd',
    'a\r\nX-Evil: 1',
    'a"; filename="b',
    '\u202egnp.exe',
    'x'.repeat(10_000),
    '\0.html',
    'C:\\Windows\\x',
    '%2e%2e%2f',
    "a';alert(1)//",
  ])('file name: %j', async (filename) => {
    const uri = await mallory.upload('x', { filename })
    const answer = await mallory.ask('GET', `/_matrix/client/v1/media/download/${uri}`)
    const disposition = answer.headers.get('content-disposition') ?? ''
    expect(answer.headers.get('x-evil')).toBe(null)
    expect(disposition.length).toBeLessThan(2_000)
    expect(dispositionName(disposition)).toBe(safeFileName(filename))
    expect(safeFileName(filename)).not.toMatch(/[/\\\u202e\r\n]/)
  })

  test.each([
    '..%2f..%2fetc%2fpasswd',
    '%2e%2e/%2e%2e',
    'hs1/..%2f..%2fhomeserver.yaml',
    'hs1/%00',
    'hs1/.ganglion-store.json',
    'hs1/ganglion-store.json',
    `hs1/${'x'.repeat(3_000)}`,
    'hs1/%ff%fe',
    '127.0.0.1:1%2f/x',
    'hs1%0d%0ax/x',
    'hs1/a%20b',
    '%E2%80%AE/x',
  ])('medium: %s', async (name) => {
    for (const path of ['download', 'thumbnail']) {
      const answer = await mallory.ask('GET', `/_matrix/client/v1/media/${path}/${name}?width=9&height=9`)
      expect([400, 404]).toContain(answer.status)
      expect(((await answer.json()) as { errcode: string }).errcode).toMatch(/^M_/)
    }
    const put = await mallory.ask('PUT', `/_matrix/media/v3/upload/${name}`, { body: 'x' })
    expect([400, 403, 404, 405]).toContain(put.status)
  })

  test.each([
    'bytes=-0',
    'bytes=99999999999999999999-',
    `bytes=${'0-0,'.repeat(2_000)}`,
    'bytes=5-1',
    'lines=1-2',
    'bytes=--1',
  ])('range: %s', async (range) => {
    const uri = await mallory.upload('0123456789')
    const answer = await mallory.ask('GET', `/_matrix/client/v1/media/download/${uri}`, { headers: { range } })
    expect([200, 416]).toContain(answer.status)
    expect((await answer.arrayBuffer()).byteLength).toBeLessThan(200)
  })
})

test('download: readers that are silent hold little, and nothing once they are gone', async () => {
  const uri = await mallory.upload(randomBytes(20 * MB))
  /** Files of the store that this process has open. */
  const openFiles = () =>
    readdirSync('/proc/self/fd').filter((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`).includes(`${server.config.data_dir}/media/`)
      } catch {
        return false
      }
    })
  const readers = 30
  const sockets: Socket[] = []
  await bounded('download: thirty silent readers of 20 MB', async () => {
    for (let i = 0; i < readers; i++) {
      const socket = opened()
      socket.pause()
      socket.write(
        `GET /_matrix/client/v1/media/download/${uri} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${mallory.token}\r\n\r\n`,
      )
      sockets.push(socket)
    }
    await expect.poll(() => openFiles().length, { timeout: 20_000 }).toBe(readers)
  })
  for (const socket of sockets) socket.destroy()
  await expect.poll(openFiles, { timeout: 20_000 }).toEqual([])
})
