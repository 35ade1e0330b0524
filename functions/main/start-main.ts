/** Main as a process of its own, beside others of its kind: everything it uses, put together by hand. */
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { Hono } from 'hono'
import { systemClock } from '../../shared/clock.ts'
import { ConfigError } from '../../shared/config/load.ts'
import type { Config } from '../../shared/config/schema.ts'
import { largeBodyBytesMax } from '../../shared/http/body.ts'
import { bindListeners } from '../../shared/http/listeners.ts'
import type { Logger } from '../../shared/logging.ts'
import { liveNumber } from '../../shared/metrics/tallies.ts'
import { openRedis } from '../../shared/redis/connection.ts'
import { keyspace } from '../../shared/redis/keys.ts'
import { createCommandClient } from '../../shared/replication/command-client.ts'
import { createRedisEphemeralStore } from '../../shared/replication/redis-ephemeral-store.ts'
import { createRedisReplication } from '../../shared/replication/redis-replication.ts'
import { createShardDirectory } from '../../shared/replication/shard-directory.ts'
import { healthRoutes } from '../../shared/role/health.ts'
import { observeProcess } from '../../shared/role/observed.ts'
import { readiness, redisAnswers } from '../../shared/role/readiness.ts'
import type { Running } from '../../shared/role/run-process.ts'
import { loadOrMakeSigningKeys, loadSigningKeys } from '../../shared/role/signing-key.ts'
import { applyMigrations } from '../../shared/storage/apply-migrations.ts'
import { connectForWriting } from '../../shared/storage/sql.ts'
import { commandNamed } from './command-runner.ts'
import { bindCommandServer } from './command-server.ts'
import { createMain } from './main.ts'
import { createAnnouncer } from './shards/announce.ts'
import { leaseTable } from './shards/lease-table.ts'
import { createShardLeases } from './shards/leases.ts'

/** For commands and background work beside the committer's own connection and that of the lease. */
const writeConnections = 6
/** A lease must be renewed sooner than this, or it is over. */
const leaseAnswerMs = 2_000
/** What is under way when the process is told to end. Together under the ten seconds that supervisors usually leave before
 *  they kill: what is left over then is taken over from its lease. */
const releaseMs = 5_000
/** Where Redis is away, shards are taken all the same. */
const firstBeatMs = 1_000
const drainMs = 1_500

/** Throws ConfigError where settings are missing, and an Error with a sentence for the operator when it cannot start; then
 *  nothing is left running. */
export async function startMain(config: Config, log: Logger): Promise<Running> {
  const { redisUrl, databaseUrl, secrets } = neededSettings(config)
  const clock = systemClock
  const failed = Promise.withResolvers<Error>()
  const id = `main-${randomUUID().slice(0, 13)}`
  /** What to undo, newest first. */
  const undo: (() => Promise<void> | void)[] = []
  const close = async () => {
    for (const step of undo.splice(0).reverse()) await step()
  }
  try {
    const listeners = await bindListeners(config)
    undo.push(() => listeners.close(drainMs))
    const observed = await observeProcess({ config, role: 'main', id, writes: true, clock, log })
    undo.push(observed.close)
    const { listen } = config.commands
    const commands = await bindCommandServer({
      listen: listen.path === undefined ? listen : { path: listen.path.replaceAll('{id}', id) },
      url: config.commands.url,
      secrets,
      queueMax: config.commands.queue,
      bodyBytesMax: commandBytesMax(config),
      clock,
      log,
      tracer: observed.tracer,
      observe({ name, outcome, durationMs }) {
        // What was asked for may be any text.
        const command = commandNamed(name)?.name ?? 'unknown'
        observed.commandRun({ name: command, outcome, durationMs })
        log.info({ command, outcome, ms: durationMs }, 'command')
      },
    })
    undo.push(() => commands.stop(drainMs))
    undo.push(liveNumber('ganglion_command_queue_depth', 'Commands under way here', () => commands.load.commands))
    const { prepare } = config.database
    const connect = { url: databaseUrl, prepare }
    const sql = connectForWriting({ ...connect, connections: writeConnections, applicationName: 'ganglion-main' })
    undo.push(() => sql.end())
    await applyMigrations(sql, log)
    // Beside others, a key of its own would make this the same server's second.
    const [other] = await sql`select 1 from mains where expires_at > now()`
    const signingKeys = other ? loadSigningKeys(config) : loadOrMakeSigningKeys(config)
    const leaseSql = connectForWriting({
      ...connect,
      connections: 1,
      applicationName: 'ganglion-lease',
      answerMs: leaseAnswerMs,
    })
    undo.push(() => leaseSql.end())

    const redis = openRedis({ url: redisUrl, token: config.redis.token, caPath: config.redis.tls_ca_path, log })
    undo.push(() => redis.close())
    const keys = keyspace(config.redis.prefix)
    const leases = await createShardLeases({
      id,
      table: leaseTable(leaseSql),
      clock,
      url: commands.url,
      standby: config.main.standby,
      announcer: createAnnouncer({ redis, keys, main: { id, url: commands.url }, clock, log }),
      log,
      onFatal: failed.resolve,
    })
    // After the rest is closed: until then the lease is kept, so that nobody takes over what is being written.
    undo.push(() => leases.leave())

    const replication = await createRedisReplication({ redis, keys, sql, clock, log, writer: { mainId: id } })
    undo.push(() => replication.close())
    observed.watchStreams(replication.positions)
    const directory = createShardDirectory({ redis, keys, sql, clock, log })
    undo.push(() => directory.close())
    const [secret] = secrets
    const remote = createCommandClient({ directory, secret, clock, log, replication, observe: observed.commandSent })
    const main = await createMain({
      config,
      sql,
      replication,
      ephemeral: createRedisEphemeralStore({ redis, keys, publisher: replication }),
      clock,
      signingKeys,
      log,
      onFatal: failed.resolve,
      writer: leases.writer,
      sharing: { ownership: leases, remote, secrets },
    })
    undo.push(() => main.close())
    const { runner } = main
    if (!runner) throw new Error('a main beside others has a runner of commands')
    commands.open({ runner, replication })

    let stopping = false
    const app = new Hono()
    healthRoutes(app, {
      needed: {
        ...readiness({ stopping: () => stopping, sql, replication }),
        lease: () => leases.seen !== undefined,
      },
      helpful: { redis: redisAnswers(redis) },
    })
    listeners.open((request, env) => app.fetch(request, env))
    // Until its first beat in Redis, nothing that it writes can be acknowledged.
    await Promise.race([replication.acknowledged(), sleep(firstBeatMs, undefined, { ref: false })])
    leases.start()
    undo.push(liveNumber('ganglion_shards_owned', 'Shards that this main writes', () => leases.owned.length))
    undo.push(observed.report({ redis, keys }, commands.url))
    undo.push(async () => {
      stopping = true
      // The listener stays: who comes with a command for a shard that is gone is told where to look.
      const given = await Promise.race([leases.release().then(() => true), sleep(releaseMs, false, { ref: false })])
      if (!given) log.warn({ main: id }, 'commands are under way still: their shards are taken over from the lease')
      await commands.stop(drainMs)
    })
    log.info({ main: id, commands: commands.url, standby: config.main.standby }, 'joined the mains')
    return { addresses: listeners.addresses, failed: failed.promise, close }
  } catch (error) {
    await close()
    throw error
  }
}

/** The largest body of a request, as text in the JSON of a command. */
function commandBytesMax(config: Config): number {
  return Math.max(8 * config.limits.request_body, 4 * largeBodyBytesMax)
}

function neededSettings(config: Config): {
  redisUrl: string
  databaseUrl: string
  secrets: readonly [string, ...string[]]
} {
  const { redis, database, commands } = config
  const missing = (key: string) => `${key} is not set: main runs beside other processes, which it needs that for`
  if (redis.url === undefined || database.url === undefined || commands.secret === undefined) {
    throw new ConfigError([
      ...(redis.url === undefined ? [missing('redis.url')] : []),
      ...(database.url === undefined ? [missing('database.url')] : []),
      ...(commands.secret === undefined ? [missing('commands.secret')] : []),
    ])
  }
  const { secret, previous_secret: previous } = commands
  return {
    redisUrl: redis.url,
    databaseUrl: database.url,
    secrets: previous === undefined ? [secret] : [secret, previous],
  }
}
