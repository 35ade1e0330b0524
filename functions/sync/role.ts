/** The sync role, put together: its routes and what they use. */
import type { Clock } from '../../shared/clock.ts'
import type { Config } from '../../shared/config/schema.ts'
import type { Replication } from '../../shared/replication/replication.ts'
import type { ReadSql } from '../../shared/storage/sql.ts'
import type { SyncDeps, TellPresence } from './deps.ts'
import { EndedTokens } from './ended-tokens.ts'
import type { AcknowledgeToDevice } from './inboxes.ts'
import { Live } from './live.ts'
import { syncRoutes } from './routes.ts'
import { connectionStore, type SharedStates } from './sliding/connection-store.ts'
import { SyncFilters } from './sync-filter.ts'

export interface SyncRole {
  readonly routes: typeof syncRoutes
  readonly deps: SyncDeps
  /** Ends the subscriptions and answers who waits. */
  close(): void
}

export function createSyncRole(options: {
  readonly sql: ReadSql
  readonly replication: Replication
  readonly clock: Clock
  readonly config: Config
  /** Main's command; without it, syncing tells nobody that a user is online. */
  readonly setPresence?: TellPresence
  /** Main's command; without it, inboxes keep what was handed out. */
  readonly acknowledgeToDevice?: AcknowledgeToDevice
  /** Where handlers share what connections of sliding sync have told; absent in one process. */
  readonly shared?: SharedStates
  /** Told of what failed beside a request. */
  readonly onError: (error: unknown) => void
}): SyncRole {
  const { sql, replication, clock, config } = options
  const live = new Live({ sql, replication, roomBytesMax: config.limits.sync_cache })
  const endedTokens = new EndedTokens(replication)
  const deps: SyncDeps = {
    sql,
    replication,
    clock,
    config,
    live,
    endedTokens,
    filters: new SyncFilters(sql),
    connections: connectionStore({ clock, shared: options.shared }),
    setPresence: options.setPresence,
    acknowledgeToDevice: options.acknowledgeToDevice,
    onError: options.onError,
  }
  function close(): void {
    live.close()
    endedTokens.close()
  }
  return { routes: syncRoutes, deps, close }
}
