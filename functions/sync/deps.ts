/** What the sync role's routes may use; `entry.ts` or the monolith puts it together. */
import type { Clock } from '../../shared/clock.ts'
import type { RequestOf } from '../../shared/commands/define.ts'
import type { userDataCommands } from '../../shared/commands/user-data.ts'
import type { Config } from '../../shared/config/schema.ts'
import { routesFor } from '../../shared/http/route.ts'
import type { Replication } from '../../shared/replication/replication.ts'
import type { ReadSql } from '../../shared/storage/sql.ts'
import type { EndedTokens } from './ended-tokens.ts'
import type { AcknowledgeToDevice } from './inboxes.ts'
import type { Live } from './live.ts'
import type { ConnectionStore } from './sliding/connection-store.ts'
import type { SyncFilters } from './sync-filter.ts'

/** Tells main that a user's client runs. */
export type TellPresence = (request: RequestOf<typeof userDataCommands.setPresence>) => Promise<unknown>

export interface SyncDeps {
  readonly sql: ReadSql
  readonly replication: Replication
  readonly clock: Clock
  readonly config: Config
  readonly live: Live
  readonly endedTokens: EndedTokens
  readonly filters: SyncFilters
  /** What sliding sync has told. */
  readonly connections: ConnectionStore
  readonly setPresence: TellPresence | undefined
  readonly acknowledgeToDevice: AcknowledgeToDevice | undefined
  readonly onError: (error: unknown) => void
}

export const route = routesFor<SyncDeps>()
