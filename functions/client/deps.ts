/** What the client role's routes may use; `entry.ts` puts it together. */
import type { Clock } from '../../shared/clock.ts'
import type { MainClient } from '../../shared/commands/registry.ts'
import type { Config } from '../../shared/config/schema.ts'
import type { Federation } from '../../shared/federation/federation.ts'
import type { Limiter } from '../../shared/http/rate-limit.ts'
import { routesFor } from '../../shared/http/route.ts'
import type { ProcessStatus } from '../../shared/metrics/process-status.ts'
import type { EphemeralStore } from '../../shared/replication/ephemeral-store.ts'
import type { Replication } from '../../shared/replication/replication.ts'
import type { ReadSql } from '../../shared/storage/sql.ts'

export interface ClientDeps {
  readonly config: Config
  readonly sql: ReadSql
  readonly main: MainClient
  readonly replication: Replication
  readonly ephemeral: EphemeralStore
  readonly clock: Clock
  readonly federation: Federation
  /** How every process of the installation is, as each said last. */
  processes(): Promise<readonly ProcessStatus[]>
  /** For limits by something else than the caller, such as logins by account. */
  readonly limiter: Limiter
}

export const route = routesFor<ClientDeps>()
