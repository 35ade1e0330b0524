/** PgBouncer in transaction mode before a database, for a test: each transaction may run on another connection. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { expect } from 'vitest'
import { freePort } from '../../infra/dev/free-port.ts'
import { openGate } from './gate.ts'

const installed = spawnSync('pgbouncer', ['--version'], { encoding: 'utf8' })
/** Undefined where it is not installed. */
export const poolerVersion = /PgBouncer (\d+)\.(\d+)/.exec(installed.stdout ?? '') ?? undefined
if (!poolerVersion) console.log('pgbouncer is not installed: nothing is tried behind a pooler')

export interface Pooler {
  readonly url: string
  close(): Promise<void>
}

/** `poolSize` is the most connections that it has to the server. */
export async function startPooler(databaseUrl: string, poolSize = 3): Promise<Pooler> {
  const gate = await openGate(databaseUrl)
  const target = new URL(gate.url)
  const folder = mkdtempSync(path.join(tmpdir(), 'ganglion-pooler-'))
  chmodSync(folder, 0o755)
  const port = await freePort()
  const file = path.join(folder, 'pgbouncer.ini')
  const password = target.password ? ` password=${target.password}` : ''
  writeFileSync(
    file,
    `[databases]
* = host=${target.hostname} port=${target.port} user=${target.username}${password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
auth_type = any
pool_mode = transaction
default_pool_size = ${poolSize}
server_lifetime = 2
max_client_conn = 1000
`,
  )
  // It refuses to run as root.
  const asUser = process.getuid?.() === 0 ? ['-u', 'nobody'] : []
  const child: ChildProcess = spawn('pgbouncer', [...asUser, file], { stdio: 'ignore' })
  const reachable = () =>
    new Promise<boolean>((resolve) => {
      const socket = connect(port, '127.0.0.1', () => resolve(true))
      socket.on('error', () => resolve(false)).on('connect', () => socket.destroy())
    })
  await expect.poll(reachable, { timeout: 5_000 }).toBe(true)
  const url = new URL(target)
  url.port = String(port)
  return {
    url: url.href,
    async close() {
      const ended = new Promise((resolve) => child.once('exit', resolve))
      child.kill('SIGINT')
      await ended
      gate.close()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}
