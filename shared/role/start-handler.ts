/** A stateless handler of one role, as a process: everything it uses, put together by hand. */
import { setTimeout } from 'node:timers/promises'
import { Hono } from 'hono'
import { type Clock, systemClock } from '../clock.ts'
import type { MainClient } from '../commands/registry.ts'
import { ConfigError } from '../config/load.ts'
import type { Config } from '../config/schema.ts'
import { withAccessLog } from '../http/access-log.ts'
import { bindListeners } from '../http/listeners.ts'
import { serveElsewhere } from '../http/mount.ts'
import { roleContext } from '../http/role-context.ts'
import type { Role } from '../http/route.ts'
import type { Logger } from '../logging.ts'
import { type ProcessStatus, statusesIn } from '../metrics/process-status.ts'
import { liveNumber } from '../metrics/tallies.ts'
import { openRedis, type RedisConnection } from '../redis/connection.ts'
import { type Keyspace, keyspace } from '../redis/keys.ts'
import { connectCommands } from '../replication/command-client.ts'
import type { EphemeralStore } from '../replication/ephemeral-store.ts'
import { createRedisEphemeralStore } from '../replication/redis-ephemeral-store.ts'
import { createRedisReplication } from '../replication/redis-replication.ts'
import type { Replication } from '../replication/replication.ts'
import { createShardDirectory } from '../replication/shard-directory.ts'
import type { ReadSql } from '../storage/sql.ts'
import { createForwarder } from './forward.ts'
import { announceHandler, handlerDirectory } from './handler-registry.ts'
import { healthRoutes } from './health.ts'
import { observeProcess } from './observed.ts'
import { connectAsReader } from './read-connection.ts'
import { readiness, redisAnswers } from './readiness.ts'
import { type Running, runProcess } from './run-process.ts'
import { createSharedLimiter } from './shared-limits.ts'

/** What a role puts itself together from. */
export interface HandlerDeps {
  readonly config: Config
  readonly sql: ReadSql
  readonly main: MainClient
  readonly replication: Replication
  readonly ephemeral: EphemeralStore
  readonly redis: RedisConnection
  readonly keys: Keyspace
  readonly clock: Clock
  readonly log: Logger
  /** How every process of the installation is, as each said last. */
  processes(): Promise<readonly ProcessStatus[]>
}

interface Mounted {
  close(): void | Promise<void>
}

export interface HandlerRole {
  readonly role: Role
  /** Adds the role's routes to the app. What it returns is called at the end, before the listeners close: who waits in a
   *  long poll has to be answered then. */
  mount(app: Hono, deps: HandlerDeps): Mounted | Promise<Mounted>
}

/** Under the ten seconds that supervisors usually leave before they kill. */
const drainMs = 5_000
/** Proxies that look at the list of handlers each second still send requests here for so long. */
const signOffMs = 1_600

export function startHandler(handler: HandlerRole): Promise<void> {
  return runProcess(handler.role, (config, log) => createHandler(handler, config, log.child({ role: handler.role })))
}

/** Throws ConfigError where settings are missing that a handler needs, and an Error with a sentence for the operator when
 *  it cannot start; then nothing is left running. */
export async function createHandler({ role, mount }: HandlerRole, config: Config, log: Logger): Promise<Running> {
  const { redisUrl, secret } = neededSettings(config, role)
  const clock = systemClock
  /** What to undo, newest first. */
  const undo: (() => Promise<void> | void | undefined)[] = []
  const close = async () => {
    for (const step of undo.splice(0).reverse()) await step()
  }
  try {
    const listeners = await bindListeners(config)
    let closing: Promise<void> | undefined
    const closeListeners = () => {
      closing ??= listeners.close(drainMs)
      return closing
    }
    undo.push(closeListeners)
    const observed = await observeProcess({ config, role, writes: false, clock, log })
    undo.push(observed.close)
    const redis = openRedis({ url: redisUrl, token: config.redis.token, caPath: config.redis.tls_ca_path, log })
    undo.push(() => redis.close())
    const keys = keyspace(config.redis.prefix)
    const sql = await connectAsReader(config, `ganglion-${role}`, log)
    undo.push(() => sql.end())
    const replication = await createRedisReplication({ redis, keys, sql, clock, log })
    undo.push(() => replication.close())
    observed.watchStreams(replication.positions)
    const directory = createShardDirectory({ redis, keys, sql, clock, log })
    undo.push(() => directory.close())
    const commands = connectCommands({
      directory,
      secret,
      clock,
      log,
      replication,
      timeoutMs: config.commands.timeout,
      observe: observed.commandSent,
    })
    undo.push(() => commands.close())
    undo.push(liveNumber('ganglion_commands_sent_in_flight', 'Commands that wait for main', () => commands.inFlight))
    const { main } = commands
    const ephemeral = createRedisEphemeralStore({ redis, keys })
    const limiter = createSharedLimiter({ limits: config.rate_limits, redis, keys, clock, log })
    const announced = handlerDirectory({ redis, keys, clock })
    const { upstreams } = config.edge
    const handlers = { of: async (other: Role) => upstreams[other] ?? announced.of(other) }
    const forward = createForwarder({ role, handlers, log })
    undo.push(() => forward.close())

    const processes = () => statusesIn({ redis, keys })
    const deps = { config, sql, main, replication, ephemeral, redis, keys, clock, log, processes }
    // Made first, with the limits that are shared: whoever asks for the context of this replication gets this one.
    const { clientAddress } = roleContext({ ...deps, limiter, observe: observed.observe })
    const app = new Hono()
    const state = { stopping: false }
    healthRoutes(app, {
      needed: readiness({ stopping: () => state.stopping, sql, replication }),
      helpful: { redis: redisAnswers(redis) },
    })
    const mounted = await mount(app, deps)
    serveElsewhere(app, forward)

    undo.push(async () => {
      // Long polls are answered at once, so that the listeners have something to wait for that ends.
      await Promise.all([closeListeners(), mounted.close()])
    })
    const url = config.handler_url ?? listeners.url
    undo.push(observed.report({ redis, keys }, url))
    const announcement = announceHandler({ redis, keys, role, url, clock, log })
    undo.push(async () => {
      state.stopping = true
      listeners.lastAnswers()
      await announcement.end()
      await setTimeout(signOffMs)
    })
    listeners.open(
      withAccessLog((request, env) => app.fetch(request, env), {
        log,
        clientAddress,
        trustedProxies: config.trusted_proxies,
        tracer: observed.tracer,
      }),
    )
    return { addresses: listeners.addresses, close }
  } catch (error) {
    await close()
    throw error
  }
}

function neededSettings(config: Config, role: Role): { redisUrl: string; secret: string } {
  const { redis, database, commands } = config
  const missing = (key: string) => `${key} is not set: the role ${role} runs beside others, which it needs that for`
  const problems = [
    ...(redis.url === undefined ? [missing('redis.url')] : []),
    ...(commands.secret === undefined ? [missing('commands.secret')] : []),
    ...(database.url === undefined && database.read_url === undefined ? [missing('database.read_url')] : []),
  ]
  if (redis.url === undefined || commands.secret === undefined || problems.length > 0) throw new ConfigError(problems)
  return { redisUrl: redis.url, secret: commands.secret }
}
