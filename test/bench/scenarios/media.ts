import { createHash, type Hash, randomBytes } from 'node:crypto'
import { mkdtemp, open, rm } from 'node:fs/promises'
import { Agent, type IncomingMessage, request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import sharp from 'sharp'
import type { Bench, User } from '../environment.ts'
import { drive, peakMb, startPeak } from '../measure.ts'
import { nginxOn } from '../nginx.ts'
import { check, measured, type Row, type Scenario } from '../scenario.ts'

const kb = 1024
const mb = 1024 * kb
const gb = 1024 * mb
const pieceBytes = 256 * kb

/** How often, and how many at a time. */
const sizes = [
  { name: '10 KB', bytes: 10 * kb, uploads: 1_000, downloads: 6_000, atOnce: 16 },
  { name: '1 MB', bytes: mb, uploads: 150, downloads: 1_500, atOnce: 8 },
  { name: '1 GB', bytes: gb, uploads: 1, downloads: 2, atOnce: 1 },
] as const
const pictures = 60
const largeBytes = 5 * gb
/** What a body of any size may cost a process. */
const grownMbMax = 64

/** Uploads, downloads and thumbnails, through the whole server; downloads beside nginx on the same bytes. What a body of a
 *  gigabyte takes of memory stands with it. */
export const media: Scenario = async (bench) => {
  const folder = await mkdtemp(join(tmpdir(), 'ganglion-bench-media-'))
  const user = await bench.register('photographer')
  const client = mediaClient(bench, user)
  const nginx = await nginxOn(folder, folder)
  const rows: Row[] = []
  try {
    for (const { name, bytes, uploads, downloads, atOnce } of sizes) {
      let uri = ''
      const upload = async () => {
        // The same bytes are stored once: these differ in their beginning.
        uri = await client.upload(bytes, randomBytes(16))
      }
      if (uploads > 10) await drive(Math.ceil(uploads / 10), atOnce, upload)
      rows.push(
        await withPeak(bench, bytes, () => measured(bench, `upload of ${name}`, () => drive(uploads, atOnce, upload))),
      )
      const path = `/_matrix/client/v1/media/download/${uri}`
      const download = async () => check((await client.get(bench.baseUrl, path)) === bytes, `a download of ${name}`)
      if (downloads > 10) await drive(Math.ceil(downloads / 10), atOnce, download)
      const ours = await withPeak(bench, bytes, () =>
        measured(bench, `download of ${name}`, () => drive(downloads, atOnce, download)),
      )
      if (!nginx) {
        rows.push({ ...ours, note: `${ours.note ?? ''} nginx is not installed` })
        continue
      }
      await writeCopy(join(folder, 'copy'), bytes)
      const copy = async () => check((await client.get(nginx.url, '/copy')) === bytes, `a copy of ${name}`)
      if (downloads > 10) await drive(Math.ceil(downloads / 10), atOnce, copy)
      const {
        serverCpuMs: _none,
        note: _nobody,
        ...theirs
      } = await measured(bench, `the same from nginx, ${name}`, () => drive(downloads, atOnce, copy))
      const share = ((ours.rate ?? 0) / (theirs.rate ?? 1)) * 100
      rows.push({ ...ours, note: `${share.toFixed(0)} % of nginx's; ${ours.note ?? ''}` }, theirs)
    }
    rows.push(...(await thumbnails(bench, client)), ...(await largeBody(bench, client)))
    return rows
  } finally {
    await nginx?.stop()
    client.close()
    await rm(folder, { recursive: true, force: true })
  }
}

async function thumbnails(bench: Bench, client: ReturnType<typeof mediaClient>): Promise<Row[]> {
  const uris: string[] = []
  await drive(pictures, 2, async (i) => {
    const { data } = await sharp({
      create: { width: 1600, height: 1200, channels: 3, background: { r: i * 4, g: 255 - i * 4, b: 128 } },
    })
      .jpeg()
      .toBuffer({ resolveWithObject: true })
    uris[i] = await client.uploadBytes(data, 'image/jpeg')
  })
  const thumbnail = async (i: number) => {
    const path = `/_matrix/client/v1/media/thumbnail/${uris[i % pictures]}?width=320&height=240`
    check((await client.get(bench.baseUrl, path)) > 100, 'a thumbnail')
  }
  const made = await measured(bench, 'thumbnails made, of 1600 × 1200', () => drive(pictures, 4, thumbnail))
  const again = await measured(bench, 'thumbnails that are there', () => drive(3_000, 16, thumbnail))
  return [made, again]
}

/** A body that no process may hold, up and down: it comes back as it went, and the bound on memory holds in every process. */
async function largeBody(bench: Bench, client: ReturnType<typeof mediaClient>): Promise<Row[]> {
  const [sent, received] = [createHash('sha256'), createHash('sha256')]
  let uri = ''
  const up = await withPeak(bench, largeBytes, () =>
    measured(bench, 'upload of 5 GB, hashed', () =>
      drive(1, 1, async () => {
        uri = await client.upload(largeBytes, randomBytes(16), sent)
      }),
    ),
  )
  const path = `/_matrix/client/v1/media/download/${uri}`
  const down = await withPeak(bench, largeBytes, () =>
    measured(bench, 'download of 5 GB, hashed', () =>
      drive(1, 1, async () => {
        check((await client.get(bench.baseUrl, path, received)) === largeBytes, 'all of it')
      }),
    ),
  )
  check(sent.digest('hex') === received.digest('hex'), 'other bytes came back')
  return [up, down]
}

/** With what each process took of memory meanwhile, where bodies are large. */
async function withPeak(bench: Bench, bytes: number, run: () => Promise<Row>): Promise<Row> {
  if (bytes < gb) return run()
  const before = await Promise.all(bench.processes.map(async (one) => ({ ...one, mb: await startPeak(one.pid) })))
  const row = await run()
  const grown = await Promise.all(before.map(async ({ name, pid, mb }) => ({ name, mb: (await peakMb(pid)) - mb })))
  for (const { name, mb } of grown) check(mb <= grownMbMax, `${name} took ${mb.toFixed(0)} MB for it`)
  const said = grown.map(({ name, mb }) => `${name} +${mb.toFixed(0)}`)
  return { ...row, note: `${row.note === undefined ? '' : `${row.note}; `}MB at most: ${said.join(', ')}` }
}

async function writeCopy(path: string, bytes: number): Promise<void> {
  const file = await open(path, 'w')
  const piece = randomBytes(Math.min(bytes, mb))
  for (let left = bytes; left > 0; left -= piece.length)
    await file.write(piece.subarray(0, Math.min(left, piece.length)))
  await file.close()
}

/** Streams both ways, and holds no body. */
function mediaClient(bench: Bench, user: User) {
  const agent = new Agent({ keepAlive: true, maxSockets: 64 })
  const piece = randomBytes(pieceBytes)
  const headers = { authorization: `Bearer ${user.token}` }

  function ask(
    url: string,
    options: object,
    send: (outgoing: ReturnType<typeof request>) => void,
  ): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const outgoing = request(url, { agent, ...options }, resolve)
      outgoing.once('error', reject)
      send(outgoing)
    })
  }
  async function uploaded(answer: IncomingMessage): Promise<string> {
    let text = ''
    for await (const chunk of answer.setEncoding('utf8')) text += chunk
    check(answer.statusCode === 200, `an upload was answered with ${answer.statusCode} ${text}`)
    return (JSON.parse(text) as { content_uri: string }).content_uri.slice('mxc://'.length)
  }
  const uploadUrl = () => `${bench.baseUrl}/_matrix/media/v3/upload`

  return {
    async upload(bytes: number, start: Buffer, hash?: Hash): Promise<string> {
      const sized = { ...headers, 'content-type': 'application/octet-stream', 'content-length': bytes }
      const answer = await ask(uploadUrl(), { method: 'POST', headers: sized }, (outgoing) => {
        outgoing.write(start)
        hash?.update(start)
        let left = bytes - start.length
        const more = () => {
          while (left > 0) {
            const next = piece.subarray(0, Math.min(left, piece.length))
            left -= next.length
            hash?.update(next)
            if (!outgoing.write(next)) return void outgoing.once('drain', more)
          }
          outgoing.end()
        }
        more()
      })
      return uploaded(answer)
    },
    async uploadBytes(bytes: Buffer, type: string): Promise<string> {
      const sized = { ...headers, 'content-type': type, 'content-length': bytes.length }
      return uploaded(await ask(uploadUrl(), { method: 'POST', headers: sized }, (outgoing) => outgoing.end(bytes)))
    },
    /** How many bytes came. */
    async get(base: string, path: string, hash?: Hash): Promise<number> {
      const answer = await ask(base + path, { headers }, (outgoing) => outgoing.end())
      check(answer.statusCode === 200, `${path} was answered with ${answer.statusCode}`)
      let bytes = 0
      answer.on('data', (chunk: Buffer) => {
        bytes += chunk.length
        hash?.update(chunk)
      })
      await new Promise((resolve, reject) => answer.once('end', resolve).once('error', reject))
      return bytes
    },
    close: () => agent.destroy(),
  }
}
