/** All roles in one process, over an embedded PostgreSQL or one of the operator's. */
import { randomUUID } from 'node:crypto'
import { Hono } from 'hono'
import { type Clock, systemClock } from '../../shared/clock.ts'
import type { Config } from '../../shared/config/schema.ts'
import { withAccessLog } from '../../shared/http/access-log.ts'
import { bindListeners } from '../../shared/http/listeners.ts'
import { mount } from '../../shared/http/mount.ts'
import { roleContext } from '../../shared/http/role-context.ts'
import type { Logger } from '../../shared/logging.ts'
import { createMemoryEphemeralStore } from '../../shared/replication/ephemeral-store.ts'
import { createInProcessReplication } from '../../shared/replication/in-process.ts'
import { databaseAnswers, healthRoutes } from '../../shared/role/health.ts'
import { observeProcess } from '../../shared/role/observed.ts'
import { loadOrMakeSigningKeys } from '../../shared/role/signing-key.ts'
import { applyMigrations } from '../../shared/storage/apply-migrations.ts'
import { connectForReading, connectForWriting } from '../../shared/storage/sql.ts'
import { createClientRole } from '../client/client-role.ts'
import { mountFederation } from '../federation/federation-role.ts'
import { createMain } from '../main/main.ts'
import { storedPositions } from '../main/persist/committer.ts'
import { claimAlone } from '../main/shards/lease-table.ts'
import { createMediaRole } from '../media/media-role.ts'
import { createSyncRole } from '../sync/role.ts'
import { openDatabase } from './database.ts'

export interface Monolith {
  /** Such as `http://127.0.0.1:8008`. */
  readonly addresses: readonly string[]
  /** Settles when the server cannot go on; then `close` has still to be called. */
  readonly failed: Promise<Error>
  /** Answers what is under way, writes what is waiting, stops what was started. */
  close(): Promise<void>
}

export interface MonolithOptions {
  readonly log: Logger
  readonly clock?: Clock
}

/** For commands and background work beside the committer's own connection. */
const writeConnections = 6
/** Under the ten seconds that supervisors usually leave before they kill. */
const drainMs = 5_000

/** Throws an Error with a sentence for the operator when it cannot start; then nothing is left running. */
export async function createMonolith(config: Config, options: MonolithOptions): Promise<Monolith> {
  const { log, clock = systemClock } = options
  const failed = Promise.withResolvers<Error>()
  /** What to undo, newest first. */
  const undo: (() => Promise<void>)[] = []
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
    const observed = await observeProcess({ config, role: 'monolith', writes: true, clock, log })
    undo.push(observed.close)
    const signingKeys = loadOrMakeSigningKeys(config)

    const { url, ended, stop } = await openDatabase(config, (reason) =>
      log.error({ reason }, 'the embedded PostgreSQL ended by itself and is started again'),
    )
    undo.push(stop)
    const { prepare } = config.database
    ended?.then((reason) => failed.resolve(new Error(`the embedded PostgreSQL ended: ${reason}`)))
    const sql = connectForWriting({ url, connections: writeConnections, applicationName: 'ganglion-main', prepare })
    undo.push(() => sql.end())
    const read = connectForReading({
      url,
      connections: config.database.connections,
      prepare,
      applicationName: 'ganglion-handlers',
    })
    undo.push(() => read.end())
    await applyMigrations(sql, log)

    const owner = randomUUID()
    const leave = await claimAlone(sql, owner)
    undo.push(() => leave().catch((err: unknown) => log.warn({ err }, 'could not sign off as the only writer')))
    const replication = createInProcessReplication(await storedPositions(sql), clock)
    observed.watchStreams(replication.positions)
    const ephemeral = createMemoryEphemeralStore()
    const main = await createMain({
      config,
      sql,
      replication,
      ephemeral,
      clock,
      signingKeys,
      log,
      onFatal: failed.resolve,
      writer: { name: 'main', owner },
    })
    undo.push(() => main.close())

    const app = new Hono()
    healthRoutes(app, { needed: { database: databaseAnswers(read) } })
    const handlers = {
      config,
      sql: read,
      main: main.commands,
      replication,
      ephemeral,
      clock,
      log,
      observe: observed.observe,
      processes: async () => [observed.status.read()],
    }
    const { federation } = main
    const client = createClientRole({ ...handlers, federation })
    client.mount(app)
    const sync = createSyncRole({
      ...handlers,
      setPresence: main.commands.setPresence,
      acknowledgeToDevice: main.commands.acknowledgeToDevice,
      onError: (err) => log.error({ err }, 'a part of a sync failed'),
    })
    const media = createMediaRole({ ...handlers, federation })
    media.mount(app)
    const context = roleContext(handlers)
    mount(app, sync.routes, { ...context, deps: sync.deps })
    mountFederation(app, { ...handlers, federation })
    undo.push(async () => {
      // Long polls are answered at once, so that the listeners have something to wait for that ends.
      sync.close()
      await Promise.all([closeListeners(), client.close(), media.close()])
    })
    listeners.open(
      withAccessLog((request, env) => app.fetch(request, env), {
        log,
        clientAddress: context.clientAddress,
        trustedProxies: config.trusted_proxies,
        tracer: observed.tracer,
      }),
    )
    return { addresses: listeners.addresses, failed: failed.promise, close }
  } catch (error) {
    await close()
    throw error
  }
}
