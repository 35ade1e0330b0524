/** What a run stands on: a real PostgreSQL with default durability, and the built server as child processes. */
import { chmod, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startEmbeddedPostgres } from '../../functions/monolith/embedded-postgres.ts'
import { connectForReading, connectForWriting, type ReadSql } from '../../shared/storage/sql.ts'
import { loopbackAddresses, type TestAuthority, testAuthority } from '../support/federation-peer.ts'
import { HttpClient } from '../support/http-client.ts'
import { startRedis } from '../support/redis.ts'
import { testRoles } from '../support/roles.ts'
import { serverProcess } from '../support/server-process.ts'
import { type Accountant, createAccountant } from './measure.ts'

export interface User {
  readonly id: string
  readonly token: string
}

export interface ServerProcess {
  readonly name: string
  readonly pid: number
}

export interface Bench {
  readonly http: HttpClient
  /** Such as `http://127.0.0.1:8008`. */
  readonly baseUrl: string
  readonly sql: ReadSql
  /** Where other servers take part. */
  readonly authority: TestAuthority | undefined
  readonly accountant: Accountant
  /** The server's: `server`, or those of the roles, such as `sync 1`. */
  readonly processes: readonly ServerProcess[]
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

/** What is measured: one process, or the roles with the edge before them. */
interface Installation {
  readonly baseUrl: string
  readonly processes: readonly ServerProcess[]
  readonly redis: { readonly url: string; readonly pid: number } | undefined
  readonly firstStartMs: number
  register(name: string): Promise<{ user_id: string; access_token: string }>
  restart(): Promise<number>
  close(): Promise<void>
}

const mediaMax = '6G'

export interface BenchOptions {
  /** One process runs this program; the roles run from the bundles beside it. */
  readonly program: string
  readonly output: 'inherit' | 'ignore'
  readonly nodeArguments: readonly string[]
  /** Media are measured: a handler of theirs, and large bodies. */
  readonly media: boolean
  /** Other servers take part. */
  readonly peers?: boolean
  /** All roles as processes: so many mains, and one handler of each other role. */
  readonly roles?: { readonly mains: number; readonly dist: string }
}

/** PEM of the certificate that vouches for other servers. */
interface WithPeers extends BenchOptions {
  readonly peersCaPath: string | undefined
}

async function startOne(databaseUrl: string, options: WithPeers): Promise<Installation> {
  const { program, nodeArguments, output, media, peersCaPath } = options
  const config = [
    ...(media ? [`media: { max_upload_size: ${mediaMax} }`] : []),
    ...(peersCaPath === undefined
      ? []
      : [`federation: { ca_path: ${peersCaPath} }`, "egress: { allowed_ranges: ['127.0.0.0/8'] }"]),
  ].join('\n')
  const server = await serverProcess({
    databaseUrl,
    program,
    nodeArguments,
    serverName: 'bench.local',
    output,
    config,
  })
  const firstStartMs = await server.start()
  return {
    baseUrl: server.baseUrl,
    get processes() {
      return [{ name: 'server', pid: server.pid }]
    },
    redis: undefined,
    firstStartMs,
    register: server.register,
    async restart() {
      await server.stop()
      return server.start()
    },
    close: server.close,
  }
}

async function startAll(
  databaseUrl: string,
  { mains, dist }: NonNullable<BenchOptions['roles']>,
  { nodeArguments, output, media, peersCaPath }: WithPeers,
): Promise<Installation> {
  const redis = await startRedis()
  const beganMs = performance.now()
  const roles = await testRoles({
    databaseUrl,
    redisUrl: redis.url,
    mains,
    dist,
    nodeArguments,
    output,
    handlers: { client: 1, sync: 1, ...(media ? { media: 1 } : {}), ...(peersCaPath ? { federation: 1 } : {}) },
    config: {
      server_name: 'bench.local',
      ...(media ? { media: { max_upload_size: mediaMax }, edge: { body_limits: { media: mediaMax } } } : {}),
      ...(peersCaPath ? { federation: { ca_path: peersCaPath }, egress: { allowed_ranges: ['127.0.0.0/8'] } } : {}),
    },
  })
  const firstStartMs = performance.now() - beganMs
  return {
    baseUrl: roles.url,
    get processes() {
      return roles.processes.filter((one) => one.running)
    },
    get redis() {
      return { url: redis.url, pid: redis.pid }
    },
    firstStartMs,
    register: roles.register,
    async restart() {
      for (const one of roles.processes) await one.stop()
      const restartedMs = performance.now()
      for (const one of roles.of('main')) await one.start()
      await Promise.all(roles.processes.map((one) => one.start()))
      return performance.now() - restartedMs
    },
    async close() {
      await roles.close()
      await redis.stop()
    },
  }
}

export async function startBench(options: BenchOptions): Promise<Bench> {
  const folder = await mkdtemp(join(tmpdir(), 'ganglion-bench-'))
  const authority = options.peers ? testAuthority(loopbackAddresses) : undefined
  const peersCaPath = authority?.caPath
  // The database runs as a user of its own when this runs as root.
  await chmod(folder, 0o755)
  const postgres = await startPostgres(folder)
  const server = options.roles
    ? await startAll(postgres.url, options.roles, { ...options, peersCaPath })
    : await startOne(postgres.url, { ...options, peersCaPath })
  const { hostname, port } = new URL(server.baseUrl)
  const http = new HttpClient(hostname, Number(port))
  const sql = connectForReading({ url: postgres.url, connections: 1, applicationName: 'ganglion-bench' })
  return {
    http,
    baseUrl: server.baseUrl,
    sql,
    authority,
    firstStartMs: server.firstStartMs,
    databaseUrl: postgres.url,
    get processes() {
      return server.processes
    },
    accountant: {
      read: () =>
        createAccountant({ servers: server.processes, postgres: postgres.pid, redis: server.redis }, sql).read(),
    },
    async register(name) {
      const made = await server.register(name)
      return { id: made.user_id, token: made.access_token }
    },
    async restart() {
      http.close()
      return server.restart()
    },
    async close() {
      http.close()
      await server.close()
      await sql.end()
      await postgres.stop()
      authority?.close()
      await rm(folder, { recursive: true, force: true })
    },
  }
}
