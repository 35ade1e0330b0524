/** What a run stands on: a real PostgreSQL with default durability, and the built server as a child process. */
import { chmod, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startEmbeddedPostgres } from '../../functions/monolith/embedded-postgres.ts'
import { connectForReading, connectForWriting, type ReadSql } from '../../shared/storage/sql.ts'
import { HttpClient } from '../support/http-client.ts'
import { serverProcess } from '../support/server-process.ts'
import { type Accountant, createAccountant } from './measure.ts'

export interface User {
  readonly id: string
  readonly token: string
}

export interface Bench {
  readonly http: HttpClient
  readonly sql: ReadSql
  readonly accountant: Accountant
  readonly serverPid: number
  readonly databaseUrl: string
  /** Milliseconds from exec to the first answer. */
  readonly firstStartMs: number
  register(name: string): Promise<User>
  /** Stops the server and starts it again on the same data; returns milliseconds to the first answer. */
  restart(): Promise<number>
  close(): Promise<void>
}

async function startPostgres(folder: string): Promise<{ url: string; pid: number; stop(): Promise<void> }> {
  const dir = join(folder, 'postgres')
  const postgres = await startEmbeddedPostgres({ dir })
  const pid = Number((await readFile(join(dir, 'cluster', 'postmaster.pid'), 'utf8')).split('\n')[0])
  const admin = connectForWriting({ url: postgres.url('postgres'), connections: 1, applicationName: 'ganglion-bench' })
  await admin.unsafe('create database ganglion')
  await admin.end()
  return { url: postgres.url('ganglion'), pid, stop: () => postgres.stop() }
}

export async function startBench(
  program: string,
  serverOutput: 'inherit' | 'ignore',
  nodeArguments: readonly string[],
): Promise<Bench> {
  const folder = await mkdtemp(join(tmpdir(), 'ganglion-bench-'))
  // The database runs as a user of its own when this runs as root.
  await chmod(folder, 0o755)
  const postgres = await startPostgres(folder)
  const server = await serverProcess({
    databaseUrl: postgres.url,
    program,
    nodeArguments,
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
    databaseUrl: postgres.url,
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
