/** Bodies of any size pass through the edge piece by piece: its memory does not grow with them, and whoever is slower sets
 *  the pace. The edge is a process of its own here, so that its memory is its own. */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { freePort } from '../../infra/dev/free-port.ts'
import { type TestHandler, testHandler, until } from './support.ts'

const megabyte = 1024 * 1024
const piece = Buffer.alloc(64 * 1024, 'x')
let edge: ChildProcess
let media: TestHandler
let port: number
let folder: string
let received = 0
let sent = 0

beforeAll(async () => {
  media = await testHandler((incoming, outgoing) => {
    received = 0
    if (incoming.method === 'GET') {
      sent = 0
      const left = Number(new URL(incoming.url ?? '', 'http://x').searchParams.get('bytes'))
      outgoing.writeHead(200, { 'Content-Length': String(left) })
      const write = () => {
        while (sent < left) {
          sent += piece.length
          if (!outgoing.write(piece)) {
            outgoing.once('drain', write)
            return
          }
        }
        outgoing.end()
      }
      write()
      return
    }
    if (incoming.url?.includes('slow')) {
      // Reads nothing until it is told to.
      incoming.pause()
      setTimeout(() => incoming.resume(), 1_000)
    }
    incoming.on('data', (chunk: Buffer) => {
      received += chunk.length
    })
    incoming.on('end', () => outgoing.end(String(received)))
  })
  port = await freePort()
  folder = mkdtempSync(path.join(tmpdir(), 'ganglion-edge-'))
  const config = path.join(folder, 'edge.yaml')
  writeFileSync(
    config,
    `server_name: test.local
log: { level: warn }
edge:
  body_limits: { media: 900M }
  listeners: [{ port: ${port} }]
  upstreams: { sync: ["${media.url}"], client: ["${media.url}"], federation: ["${media.url}"], media: ["${media.url}"] }
`,
  )
  edge = spawn(process.execPath, ['functions/edge/entry.ts', '-c', config], { stdio: ['ignore', 'inherit', 'inherit'] })
  await until(
    async () => (await fetch(`http://127.0.0.1:${port}/health`).catch(() => undefined))?.ok === true,
    'the edge starts',
  )
  // Warm: buffers and code that every first upload brings.
  await upload(100 * megabyte)
})
afterAll(async () => {
  const ended = new Promise((resolve) => edge.once('exit', resolve))
  edge.kill('SIGTERM')
  await ended
  await media.close()
  rmSync(folder, { recursive: true })
})

/** Peak of the edge's memory since `resetPeak`, in bytes. */
function peakBytes(): number {
  const line = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${edge.pid}/status`, 'utf8'))?.[1]
  return Number(line) * 1024
}
function resetPeak(): void {
  writeFileSync(`/proc/${edge.pid}/clear_refs`, '5')
}
const onLinux = process.platform === 'linux'

function upload(bytes: number, query = ''): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1')
    socket.write(
      `POST /_matrix/media/v3/upload${query} HTTP/1.1\r\nHost: x\r\nContent-Length: ${bytes}\r\nConnection: close\r\n\r\n`,
    )
    let written = 0
    const write = () => {
      while (written < bytes) {
        written += piece.length
        if (!socket.write(piece)) {
          socket.once('drain', write)
          return
        }
      }
    }
    write()
    let answer = ''
    socket.on('data', (chunk) => {
      answer += chunk.toString()
    })
    socket.on('error', reject)
    socket.on('close', () => resolve(answer))
  })
}

test('an upload of 400 MB takes no more memory than its pieces', async () => {
  if (onLinux) resetPeak()
  const before = onLinux ? peakBytes() : 0
  expect(await upload(400 * megabyte)).toContain(String(400 * megabyte))
  if (onLinux) expect(peakBytes() - before).toBeLessThan(64 * megabyte)
})

test('a handler that does not read holds the client back', async () => {
  if (onLinux) resetPeak()
  const before = onLinux ? peakBytes() : 0
  expect(await upload(200 * megabyte, '?slow')).toContain(String(200 * megabyte))
  if (onLinux) expect(peakBytes() - before).toBeLessThan(64 * megabyte)
})

test('a client that does not read holds the handler back', async () => {
  const bytes = 64 * megabyte
  const socket = connect(port, '127.0.0.1')
  socket.pause()
  socket.write(`GET /_matrix/media/v3/download/a/b?bytes=${bytes} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`)
  let stoodStill = 0
  let last = -1
  await until(() => {
    stoodStill = sent > 0 && sent === last ? stoodStill + 1 : 0
    last = sent
    return stoodStill > 20
  }, 'the handler stops sending')
  // What the buffers of kernels and processes hold.
  expect(sent).toBeLessThan(32 * megabyte)
  let got = 0
  socket.on('data', (chunk) => {
    got += chunk.length
  })
  const closed = new Promise((resolve) => socket.once('close', resolve))
  socket.resume()
  await closed
  expect(got).toBeGreaterThan(bytes)
})
