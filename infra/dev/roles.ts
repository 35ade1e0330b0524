/** All roles as processes of their own on this machine: for `npm run dev -- --roles`, tests, conformance and benchmarks. */
import { randomBytes } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { openDatabase } from '../../functions/monolith/database.ts'
import { configFrom } from '../../shared/config/load.ts'
import type { Role } from '../../shared/http/route.ts'
import { roles as handlerRoles } from '../../shared/http/route-table.ts'
import { freePort } from './free-port.ts'
import { makeReaderLogin } from './reader-login.ts'
import { startRedisServer } from './redis-server.ts'
import { type ProcessRole, type RoleProcess, startRoleProcess } from './role-process.ts'

export interface RolesOptions {
  /** For the configuration, keys and, where they are not given, the database. */
  readonly folder: string
  /** Over what this runner sets; lists are replaced whole. */
  readonly config?: Readonly<Record<string, unknown>>
  /** Default: an embedded PostgreSQL. */
  readonly databaseUrl?: string | undefined
  /** Default: a redis-server of its own. */
  readonly redisUrl?: string | undefined
  /** Of each role; default 2. */
  readonly handlers?: number | Readonly<Partial<Record<Role, number>>>
  /** Default 1. */
  readonly mains?: number
  /** Default true. */
  readonly edge?: boolean
  /** Default: any free one. */
  readonly edgePort?: number
  /** Folder of the bundles; without it the sources run. */
  readonly dist?: string
  /** Default `ignore`; errors of processes are shown all the same. */
  readonly output?: 'ignore' | 'inherit' | 'prefixed'
  /** Default: the environment of this process without GANGLION_… variables. */
  readonly env?: NodeJS.ProcessEnv
  readonly nodeArguments?: readonly string[]
}

export interface Roles {
  readonly folder: string
  readonly configPath: string
  /** Where clients go: the edge, or any client handler where there is none. */
  readonly url: string
  readonly redisUrl: string
  readonly databaseUrl: string
  /** In the order they were started. */
  readonly processes: readonly RoleProcess[]
  of(role: ProcessRole): readonly RoleProcess[]
  /** Base URLs of those that run now. */
  urls(role: ProcessRole): readonly string[]
  /** One more process of this role; resolves when it is ready. */
  add(role: ProcessRole): Promise<RoleProcess>
  /** Who listens where, as lines of text. */
  table(): string
  /** Stops all, mains last, and what was started for them. */
  close(): Promise<void>
}

const host = '127.0.0.1'

/** Rejects, with nothing left running, when something does not start. */
export async function startRoles(options: RolesOptions): Promise<Roles> {
  const folder = path.resolve(options.folder)
  mkdirSync(folder, { recursive: true })
  const configPath = path.join(folder, 'homeserver.yaml')
  const processes: RoleProcess[] = []
  /** What to undo, newest first. */
  const undo: (() => Promise<unknown>)[] = []
  const close = async () => {
    for (const step of undo.splice(0).reverse()) await step()
  }
  try {
    const redisUrl = options.redisUrl ?? (await ownRedis())
    const dataDir = path.join(folder, 'data')
    const databaseUrl = options.databaseUrl ?? (await ownDatabase(dataDir))
    const edgePort = options.edgePort ?? (await freePort())
    const settings = {
      server_name: 'localhost',
      data_dir: dataDir,
      // The edge, and handlers that forward.
      trusted_proxies: [host],
      ...options.config,
      redis: { url: redisUrl, ...section('redis') },
      commands: { secret: randomBytes(24).toString('base64url'), ...section('commands') },
      edge: { listeners: [{ port: edgePort, bind: host }], ...section('edge') },
    }
    const database = {
      url: databaseUrl,
      // The embedded server takes sixty.
      ...(options.databaseUrl === undefined ? { handler_connections: 2 } : {}),
      ...section('database'),
    }
    write({ ...settings, database })

    const env = options.env ?? withoutSettings(process.env)
    const next = new Map<ProcessRole, number>()
    const add = async (role: ProcessRole): Promise<RoleProcess> => {
      const number = (next.get(role) ?? 0) + 1
      next.set(role, number)
      const started = await startRoleProcess({
        role,
        name: role === 'edge' ? role : `${role} ${number}`,
        port: role === 'edge' ? edgePort : await freePort(),
        configPath,
        dist: options.dist,
        env,
        output: options.output ?? 'ignore',
        // As the images start them.
        nodeArguments: [`--max-semi-space-size=${role === 'edge' ? 1 : 8}`, ...(options.nodeArguments ?? [])],
      })
      processes.push(started)
      return started
    }
    undo.push(async () => {
      // Mains last: handlers finish what they have begun.
      const mains = processes.filter(({ role }) => role === 'main')
      await Promise.all(processes.filter((one) => !mains.includes(one)).map((one) => one.stop()))
      await Promise.all(mains.map((one) => one.stop()))
    })

    // The first main brings the database up to date, and makes the role that the handlers' login gets.
    for (let i = 0; i < (options.mains ?? 1); i++) await add('main')
    if (!('read_url' in database)) {
      const login = await makeReaderLogin(databaseUrl)
      if (options.databaseUrl !== undefined) undo.unshift(() => login.drop())
      write({ ...settings, database: { ...database, read_url: login.url } })
    }
    const { handlers = 2 } = options
    const wanted = handlerRoles.flatMap((role) =>
      Array.from({ length: typeof handlers === 'number' ? handlers : (handlers[role] ?? 0) }, () => role),
    )
    await Promise.all([...wanted, ...(options.edge === false ? [] : ['edge' as const])].map(add))
    processes.sort((a, b) => order(a) - order(b) || a.name.localeCompare(b.name))

    const of = (role: ProcessRole) => processes.filter((one) => one.role === role)
    const urls = (role: ProcessRole) => of(role).flatMap((one) => (one.running ? [one.url] : []))
    return {
      folder,
      configPath,
      get url() {
        return urls('edge')[0] ?? urls('client')[0] ?? ''
      },
      redisUrl,
      databaseUrl,
      processes,
      of,
      urls,
      add,
      table: () => tableOf(processes, { redisUrl, databaseUrl }),
      close,
    }
  } catch (error) {
    await close()
    throw error
  }

  function section(name: string): Record<string, unknown> {
    return (options.config?.[name] ?? {}) as Record<string, unknown>
  }

  function write(values: Record<string, unknown>): void {
    // JSON is YAML. It holds secrets.
    writeFileSync(configPath, `${JSON.stringify(values, undefined, 2)}\n`, { mode: 0o600 })
  }

  async function ownRedis(): Promise<string> {
    const redis = await startRedisServer(folder)
    undo.push(() => redis.stop())
    return redis.url
  }

  async function ownDatabase(dataDir: string): Promise<string> {
    const config = configFrom({ server_name: 'localhost', data_dir: dataDir, database: section('database') })
    const database = await openDatabase(config, () => undefined)
    undo.push(() => database.stop())
    return database.url
  }
}

const roleOrder: readonly ProcessRole[] = ['edge', ...handlerRoles, 'main']

function order(one: RoleProcess): number {
  return roleOrder.indexOf(one.role)
}

function tableOf(
  processes: readonly RoleProcess[],
  where: { readonly redisUrl: string; readonly databaseUrl: string },
): string {
  const rows = [
    ['process', 'listens on', 'pid'],
    ...processes.map((one) => [one.name, one.url, one.running ? String(one.pid) : 'ended']),
    ['redis', withoutPassword(where.redisUrl), ''],
    ['postgres', withoutPassword(where.databaseUrl), ''],
  ]
  const widths = [0, 1].map((column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)))
  return rows
    .map((row) => `  ${row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  ')}`.trimEnd())
    .join('\n')
}

function withoutPassword(text: string): string {
  const url = new URL(text)
  url.password = ''
  return decodeURIComponent(url.href)
}

function withoutSettings(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !name.startsWith('GANGLION_')))
}
