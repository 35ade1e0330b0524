/** Mains beside each other on one database, in this process: real leases, real commands over HTTP, and a Redis in memory. */
import * as v from 'valibot'
import { bindCommandServer, type CommandServer } from '../../functions/main/command-server.ts'
import { createMain, type Main } from '../../functions/main/main.ts'
import { createAnnouncer } from '../../functions/main/shards/announce.ts'
import { leaseTable } from '../../functions/main/shards/lease-table.ts'
import { createShardLeases, type ShardLeases } from '../../functions/main/shards/leases.ts'
import { systemClock } from '../../shared/clock.ts'
import type { MainClient } from '../../shared/commands/registry.ts'
import { shardCount } from '../../shared/commands/shards.ts'
import { Config } from '../../shared/config/schema.ts'
import { UserId } from '../../shared/matrix/ids.ts'
import { generateSigningKey, type SigningKey } from '../../shared/matrix/signatures.ts'
import { memoryRedis } from '../../shared/redis/connection.ts'
import { keyspace } from '../../shared/redis/keys.ts'
import { memoryServer } from '../../shared/redis/memory.ts'
import { connectCommands, type SentCommand } from '../../shared/replication/command-client.ts'
import { createMemoryEphemeralStore } from '../../shared/replication/ephemeral-store.ts'
import { createRedisReplication } from '../../shared/replication/redis-replication.ts'
import { createShardDirectory, type ShardDirectory } from '../../shared/replication/shard-directory.ts'
import { type CuttingProxy, cuttingProxy } from './cutting-proxy.ts'
import { type TestDatabase, testDatabase } from './database.ts'

export const commandSecret = 'a-secret-of-commands'

export interface RunningMain {
  readonly id: string
  readonly main: Main
  readonly server: CommandServer
  readonly leases: ShardLeases
  /** All commands to this main pass here. */
  readonly proxy: CuttingProxy
  /** Set when it can write no more. */
  readonly failure: Error | undefined
  /** As a process that is stopped in good order. */
  stop(): Promise<void>
  /** As a process that sleeps: its lease lapses, its listener and what it has begun stay. */
  freeze(): void
}

export interface CommandMains {
  readonly database: TestDatabase
  /** All mains have it. */
  readonly signingKey: SigningKey
  readonly logged: readonly string[]
  start(options?: { secrets?: [string, ...string[]]; config?: object }): Promise<RunningMain>
  /** A handler's client. */
  client(options?: { secret?: string; timeoutMs?: number }): {
    readonly main: MainClient
    readonly sent: SentCommand[]
    readonly directory: ShardDirectory
  }
  /** Resolves when these mains own all shards, and as many each as is fair. */
  settled(...mains: RunningMain[]): Promise<void>
  user(localpart: string): Promise<UserId>
  close(): Promise<void>
}

const leaseTimes = { ttlMs: 1_000, beatMs: 100 } as const

export async function commandMains(): Promise<CommandMains> {
  const database = await testDatabase()
  const { sql } = database
  const redisServer = memoryServer()
  const keys = keyspace('test')
  const signingKey = generateSigningKey('a_test')
  const logged: string[] = []
  const say = (fields: unknown, message?: string) => {
    const err = (fields as { err?: unknown }).err
    logged.push(`${message ?? ''} ${err instanceof Error ? err.stack : JSON.stringify(fields)}`)
  }
  const log = { info() {}, warn: say, error: say }
  const undo: (() => unknown)[] = []
  let started = 0

  async function start(options: { secrets?: [string, ...string[]]; config?: object } = {}): Promise<RunningMain> {
    const id = `main-${++started}`
    const secrets = options.secrets ?? [commandSecret]
    const config = v.parse(Config, {
      server_name: 'hs1',
      data_dir: database.folder,
      password: { bcrypt_rounds: 4 },
      ...options.config,
    })
    let frozen = false
    // Timers of the lease alone: who sleeps does not renew it.
    const clock = {
      ...systemClock,
      after: (ms: number, run: () => void) => systemClock.after(ms, () => frozen || run()),
    }
    let failure: Error | undefined
    const onFatal = (error: Error) => {
      failure ??= error
    }
    const redis = memoryRedis({ server: redisServer })
    const server = await bindCommandServer({
      listen: { port: 0, bind: '127.0.0.1' },
      secrets,
      queueMax: config.commands.queue,
      bodyBytesMax: 8_000_000,
      clock: systemClock,
      log,
    })
    const proxy = await cuttingProxy(server.url)
    const leases = await createShardLeases({
      id,
      table: leaseTable(sql),
      clock,
      url: proxy.url,
      standby: false,
      announcer: createAnnouncer({ redis, keys, main: { id, url: proxy.url }, clock, log }),
      log,
      onFatal,
      ...leaseTimes,
    })
    const replication = await createRedisReplication({ redis, keys, sql, clock, log, onFatal, writer: { mainId: id } })
    const directory = createShardDirectory({ redis, keys, sql, clock: systemClock, log })
    const remote = connectCommands({ directory, secret: secrets[0], clock: systemClock, log, replication })
    const main = await createMain({
      config,
      sql,
      replication,
      ephemeral: createMemoryEphemeralStore(),
      clock: systemClock,
      signingKeys: [signingKey],
      log,
      onFatal,
      writer: leases.writer,
      sharing: {
        ownership: leases,
        remote: remote.main,
        secrets,
      },
    })
    if (!main.runner) throw new Error('no runner')
    server.open({ runner: main.runner, replication })
    leases.start()
    let stopped: Promise<void> | undefined
    const stop = async () => {
      if (!frozen) await leases.release()
      await server.stop(frozen ? 0 : 5_000)
      remote.close()
      directory.close()
      await main.close()
      if (!frozen) await leases.leave()
      await replication.close()
      await proxy.close()
      await redis.close()
    }
    const running: RunningMain = {
      id,
      main,
      server,
      leases,
      proxy,
      get failure() {
        return failure
      },
      stop() {
        stopped ??= stop()
        return stopped
      },
      freeze() {
        frozen = true
      },
    }
    undo.push(() => running.stop())
    return running
  }

  return {
    database,
    signingKey,
    logged,
    start,
    client(options = {}) {
      const redis = memoryRedis({ server: redisServer })
      const directory = createShardDirectory({ redis, keys, sql: database.read, clock: systemClock, log })
      const sent: SentCommand[] = []
      const { main, close } = connectCommands({
        directory,
        secret: commandSecret,
        clock: systemClock,
        log,
        observe: (command) => sent.push(command),
        ...options,
      })
      undo.push(async () => {
        close()
        directory.close()
        await redis.close()
      })
      return { main, sent, directory }
    },
    async settled(...mains) {
      const fair = Math.ceil(shardCount / mains.length)
      for (;;) {
        const counts = mains.map(({ leases }) => leases.owned.length)
        const all = counts.reduce((sum, count) => sum + count, 0)
        if (all === shardCount && counts.every((count) => count <= fair)) return
        await new Promise((resolve) => setTimeout(resolve, 20))
      }
    },
    async user(localpart) {
      const user_id = v.parse(UserId, `@${localpart}:hs1`)
      await sql`insert into users (user_id, created_ts) values (${user_id}, 0)`
      await sql`insert into profiles (user_id, display_name) values (${user_id}, ${localpart})`
      return user_id
    },
    async close() {
      for (const step of undo.reverse()) await step()
      await database.drop()
    },
  }
}
