/** Behind a pooler in transaction mode, where each transaction may run on another connection of the database. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { expect, test } from 'vitest'
import { connectForReading } from '../../shared/storage/sql.ts'
import { testDatabase } from '../support/database.ts'
import { openGate } from '../support/gate.ts'
import { HttpClient } from '../support/http-client.ts'
import { freePort, serverProcess } from '../support/server-process.ts'

const v3 = '/_matrix/client/v3'
const installed = spawnSync('pgbouncer', ['--version'], { encoding: 'utf8' })
const version = /PgBouncer (\d+)\.(\d+)/.exec(installed.stdout ?? '')
if (!version) console.log('pgbouncer is not installed: nothing is tried behind a pooler')

interface Pooler {
  readonly url: string
  close(): Promise<void>
}

async function startPooler(databaseUrl: string): Promise<Pooler> {
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
default_pool_size = 3
server_lifetime = 2
max_client_conn = 200
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

test.runIf(version)('the server works through a pooler in transaction mode', async () => {
  const database = await testDatabase()
  const pooler = await startPooler(database.url)
  try {
    const reads = connectForReading({ url: pooler.url, connections: 8, applicationName: 'pooler-test', prepare: false })
    const ask = (n: number) => reads`select ${n}::int as n, pg_sleep(0.005)`.then(([row]) => row?.n)
    const asked = Array.from({ length: 200 }, (_, i) => i)
    expect(await Promise.all(asked.map(ask))).toEqual(asked)
    await reads.end()

    const config = 'limits: { sync_cache: 1M }'
    const server = await serverProcess({ databaseUrl: pooler.url, database: 'prepare: false', config })
    await server.start()
    const people = await Promise.all([0, 1, 2, 3].map((i) => server.register(`pooled${i}`)))
    const http = new HttpClient('127.0.0.1', server.port)
    const [owner] = people
    const made = await http.json<{ room_id: string }>('POST', `${v3}/createRoom`, owner?.access_token, {
      preset: 'public_chat',
    })
    const room = `${v3}/rooms/${encodeURIComponent(made.room_id)}`
    const work = async (token: string, name: number) => {
      await http.json('POST', `${room}/join`, token, {})
      for (let i = 0; i < 25; i++) {
        await http.json('PUT', `${room}/send/m.room.message/${name}.${i}`, token, { body: `${name}.${i}` })
        await http.json('GET', `${room}/messages?dir=b&limit=5`, token)
        await http.json('GET', `${v3}/sync`, token)
      }
    }
    await Promise.all(people.map((person, i) => work(person.access_token, i)))
    const { chunk } = await http.json<{ chunk: { type: string }[] }>(
      'GET',
      `${room}/messages?dir=f&limit=500`,
      owner?.access_token,
    )
    expect(chunk.filter((event) => event.type === 'm.room.message').length).toBe(100)
    http.close()
    await server.close()
  } finally {
    await pooler.close()
    await database.drop()
  }
})
