/** The proxy that an operator has before the edges, as docs/deploying.md shows it. */
import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { freePort } from '../../infra/dev/free-port.ts'

const docs = path.resolve(import.meta.dirname, '../../docs/deploying.md')

export interface Front {
  readonly baseUrl: string
  stop(): Promise<void>
}

/** HAProxy with the configuration of the page on deploying, on a free port and without TLS, before these ports. */
export async function startFront(edgePorts: readonly [number, number]): Promise<Front> {
  const port = await freePort()
  const [, shown] = /```haproxy\n([\s\S]*?)```/.exec(readFileSync(docs, 'utf8')) ?? []
  if (shown === undefined) throw new Error('docs/deploying.md shows no configuration of HAProxy')
  const config = shown
    .replace(/bind :443 .*/, `bind 127.0.0.1:${port}`)
    .replace('127.0.0.1:8008', `127.0.0.1:${edgePorts[0]}`)
    .replace('127.0.0.1:8009', `127.0.0.1:${edgePorts[1]}`)
  const folder = mkdtempSync(path.join(tmpdir(), 'ganglion-front-'))
  writeFileSync(path.join(folder, 'haproxy.cfg'), config)
  const child = spawn('haproxy', ['-db', '-f', path.join(folder, 'haproxy.cfg')], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  let words = ''
  child.stderr.on('data', (data: Buffer) => {
    words += String(data)
  })
  const baseUrl = `http://127.0.0.1:${port}`
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  for (let tries = 0; ; tries++) {
    const answer = await fetch(`${baseUrl}/_matrix/client/versions`).catch(() => undefined)
    if (answer?.ok) break
    if (child.exitCode !== null || tries > 100) throw new Error(`HAProxy does not serve: ${answer?.status} ${words}`)
    await sleep(100)
  }
  return {
    baseUrl,
    async stop() {
      child.kill('SIGTERM')
      await ended
      rmSync(folder, { recursive: true, force: true })
    },
  }
}
