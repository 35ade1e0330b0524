/** What goes to other servers, from the streams to the sender: on every main, for the servers whose shards it owns. */
import type { Clock } from '../../../../shared/clock.ts'
import { shardOf } from '../../../../shared/commands/shards.ts'
import type { Config } from '../../../../shared/config/schema.ts'
import type { FederationClient } from '../../../../shared/federation/federation-client.ts'
import type { Logger } from '../../../../shared/logging.ts'
import { type ServerName, serverNameOf, type UserId } from '../../../../shared/matrix/ids.ts'
import type { Replication } from '../../../../shared/replication/replication.ts'
import type { MainSql } from '../../../../shared/storage/sql.ts'
import { destinationsTable } from './destinations-table.ts'
import { startPassing } from './passing-edus.ts'
import { createSender } from './sender.ts'

export interface Outgoing {
  /** Servers of these shards are this process's from now on: it goes on where another stopped. */
  gained(shards: readonly number[]): void
  lost(shards: readonly number[]): void
  close(): Promise<void>
}

export interface OutgoingDeps {
  readonly sql: MainSql
  readonly replication: Replication
  readonly clock: Clock
  readonly config: Config
  readonly client: Pick<FederationClient, 'json'>
  readonly log: Pick<Logger, 'error'> & Partial<Pick<Logger, 'info'>>
}

const retryMs = 1_000
const pageMax = 500
/** Events whose addressees are read together, and that may wait for it. */
const positionsPerRead = 50
const positionsMax = 5_000
const tidyMs = 300_000
/** Transactions that nobody waits for are kept so long: one may just be about to be waited for. */
const orphansMs = 60_000

export function startOutgoing(deps: OutgoingDeps): Outgoing {
  const { sql, replication, clock, config, log } = deps
  const own = config.server_name
  const table = destinationsTable(sql)
  const shards = new Set<number>()
  const isMine = (server: ServerName) => shards.has(shardOf(server))
  const sender = createSender({
    table,
    clock,
    client: deps.client,
    origin: own,
    connections: config.egress.connections,
    isMine,
    log,
    random: Math.random,
  })
  /** Of events that go out, not told to the sender yet. */
  let positions: number[] = []
  /** Shards in which something may wait that only the tables know. */
  const unread = new Set<number>()
  /** The furthest event that was heard of. */
  let heard: number = replication.positions().events
  let working: Promise<void> | undefined
  let closed = false
  let cancelRetry: (() => void) | undefined

  function wake(): void {
    if (closed || cancelRetry) return
    working ??= work()
      .catch((err: unknown) => {
        if (closed) return
        log.error({ err }, 'what is to go to other servers could not be read; it is tried again')
        cancelRetry = clock.after(retryMs, () => {
          cancelRetry = undefined
          wake()
        })
      })
      .finally(() => {
        working = undefined
        if (unread.size + positions.length > 0) wake()
      })
  }

  async function work(): Promise<void> {
    while (!closed && unread.size + positions.length > 0) {
      if (unread.size > 0) await readShards([...unread])
      const some = positions.slice(0, positionsPerRead)
      if (some.length === 0) continue
      for (const { position, event_nid, servers } of await table.addressees(some)) {
        for (const server of servers) if (isMine(server)) sender.addEvent(server, { position, event_nid })
      }
      positions = positions.slice(some.length)
    }
  }

  /** Updates of device lists are written with the change itself; here their servers are told to look. */
  async function lookForUpdates(users: readonly UserId[]): Promise<void> {
    try {
      for (const server of await table.waitingForUpdatesOf(users)) if (isMine(server)) sender.look(server)
    } catch (err) {
      if (closed) return
      log.error({ err }, 'who waits for changed device lists could not be read; it is looked for again')
      for (const shard of shards) unread.add(shard)
      wake()
    }
  }

  /** All that waits in these shards, page by page. */
  async function readShards(some: readonly number[]): Promise<void> {
    // What is heard of later is told to the sender by itself.
    const upTo = heard
    for (let after = ''; !closed; ) {
      const rows = await table.waiting(some, { after, upTo, limit: pageMax })
      for (const { server_name } of rows) if (isMine(server_name)) sender.mayMiss(server_name, upTo)
      const last = rows.at(-1)
      if (!last || rows.length < pageMax) break
      after = last.server_name
    }
    for (const shard of some) unread.delete(shard)
  }

  const offs = [
    replication.subscribe('events', ({ position, rows }) => {
      heard = position
      if (shards.size === 0) return
      for (const row of rows) if (row.outbound) positions.push(row.position)
      if (positions.length > positionsMax) {
        positions = []
        for (const shard of shards) unread.add(shard)
      }
      if (positions.length + unread.size > 0) wake()
    }),
    replication.subscribe('invalidations', ({ rows }) => {
      for (const { cache, key } of rows) {
        if (cache === 'destination' && isMine(key as ServerName)) sender.look(key as ServerName)
      }
    }),
    replication.subscribe('device_lists', ({ rows }) => {
      if (shards.size === 0) return
      const users = rows.flatMap((row) =>
        row.viewer === undefined && serverNameOf(row.user_id) === own ? [row.user_id] : [],
      )
      if (users.length > 0) void lookForUpdates(users)
    }),
  ]
  const stopPassing = startPassing({
    sql,
    replication,
    clock,
    own,
    pass(server, key, edu) {
      if (isMine(server)) sender.pass(server, key, edu)
    },
    onError: (err) => log.error({ err }, 'what our users do could not be told to other servers'),
  })

  let tidying: Promise<void> | undefined
  let cancelTidy = clock.after(tidyMs, tidyUp)
  function tidyUp(): void {
    const told = positions.length + unread.size === 0
    tidying = (told && shards.size > 0 ? tidy(heard) : Promise.resolve())
      .catch((err: unknown) => log.error({ err }, 'what all servers have could not be deleted; it is tried again'))
      .finally(() => {
        if (!closed) cancelTidy = clock.after(tidyMs, tidyUp)
      })
  }
  async function tidy(upTo: number): Promise<void> {
    await table.tidy([...shards], sender.busy(), upTo, clock.now() - orphansMs)
    sender.tidied(upTo)
  }

  return {
    gained(more) {
      for (const shard of more) {
        shards.add(shard)
        unread.add(shard)
      }
      wake()
    },
    lost(fewer) {
      for (const shard of fewer) {
        shards.delete(shard)
        unread.delete(shard)
      }
      sender.forgetOthers()
    },
    async close() {
      closed = true
      cancelTidy()
      cancelRetry?.()
      for (const off of offs) off()
      await Promise.all([working, tidying, stopPassing()])
      await sender.close()
    },
  }
}
