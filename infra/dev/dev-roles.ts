/** `npm run dev -- --roles`: the processes of a large installation on one machine, each replaced when its sources change. */
import { mkdirSync } from 'node:fs'
import path from 'node:path'
import { ConfigError } from '../../shared/config/load.ts'
import { loadDevConfig, secretFile, tellConfigError } from './dev-config.ts'
import type { RoleProcess } from './role-process.ts'
import { type Roles, startRoles } from './roles.ts'
import { watchSources } from './watch.ts'

/** Resolves to the exit code once it was stopped. */
export async function devRoles(options: {
  readonly configPaths: readonly string[]
  readonly watch: boolean
  readonly handlers: number
  readonly mains: number
}): Promise<number> {
  const loaded = await loadDevConfig(options.configPaths).catch((error: unknown) => {
    if (!(error instanceof ConfigError)) throw error
    tellConfigError(error)
  })
  if (!loaded) return 2
  const { config } = loaded
  const stopped = new Promise<void>((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => resolve())
  })
  // Beside the data of the one process, with its secret, and with a database of its own: the other may run meanwhile.
  const folder = path.join(config.data_dir, 'roles')
  mkdirSync(folder, { recursive: true })
  const { listeners, redis, database, data_dir: _, ...rest } = config
  let roles: Roles
  try {
    roles = await startRoles({
      folder,
      config: { ...rest, edge: { ...config.edge, listeners } },
      ...(redis.url === undefined ? {} : { redisUrl: redis.url }),
      ...(database.url === undefined ? {} : { databaseUrl: database.url }),
      edgePort: listeners[0]?.port ?? 8008,
      handlers: options.handlers,
      mains: options.mains,
      output: 'prefixed',
    })
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n`)
    return 1
  }
  process.stdout.write(
    [
      '',
      `  Ganglion is ready after ${Math.round(performance.now())} ms: ${roles.url}`,
      '',
      roles.table(),
      '',
      `  configuration ${roles.configPath}`,
      `  shared secret ${secretFile(config.data_dir)}`,
      '',
      '  Reachable from this machine alone. This is for trying things out: do not put it on a network.',
      `  ${options.watch ? 'A change of the sources restarts the roles it touches; ' : ''}Ctrl-C stops all.`,
      '',
      '',
    ].join('\n'),
  )
  const endReplacing = options.watch ? replaceOnChange(roles) : async () => {}
  await stopped
  await endReplacing()
  await roles.close()
  return 0
}

/** What it returns ends that, and waits for what is being replaced. */
function replaceOnChange(roles: Roles): () => Promise<void> {
  const waiting = new Set<RoleProcess>()
  let ended = false
  let running = false
  let replacing = Promise.resolve()
  // What changes meanwhile is taken together with what changed before.
  const replaceWaiting = async () => {
    running = true
    while (waiting.size > 0 && !ended) {
      const next = [...waiting]
      waiting.clear()
      await replaceAll(next, () => ended)
    }
    running = false
  }
  const unwatch = watchSources((files) => {
    const touched = roles.processes.filter(({ role }) =>
      files.some((file) => file.startsWith('shared/') || file.startsWith(`functions/${role}/`)),
    )
    if (touched.length === 0) return
    process.stdout.write(`  ${files[0]} changed: ${touched.map((one) => one.name).join(', ')}\n`)
    for (const one of touched) waiting.add(one)
    if (!running) replacing = replaceWaiting()
  })
  return async () => {
    ended = true
    unwatch()
    await replacing
  }
}

/** One after the other within a role, so that requests are answered meanwhile. */
async function replaceAll(touched: readonly RoleProcess[], ended: () => boolean): Promise<void> {
  const byRole = Map.groupBy(touched, (one) => one.role)
  await Promise.all(
    [...byRole.values()].map(async (group) => {
      for (const one of group) {
        if (ended()) return
        // Handlers keep nothing that a sudden end could lose; a main has commits to finish.
        if (one.role === 'main') await one.stop()
        else await one.kill()
        await one.start().catch((error: unknown) => process.stdout.write(`  ${(error as Error).message}\n`))
      }
    }),
  )
}
