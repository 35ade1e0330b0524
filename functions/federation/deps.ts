/** What the federation role's routes may use; `entry.ts` or the monolith puts it together. */
import type { Clock } from '../../shared/clock.ts'
import type { MainClient } from '../../shared/commands/registry.ts'
import type { Config } from '../../shared/config/schema.ts'
import type { Federation } from '../../shared/federation/federation.ts'
import { routesFor } from '../../shared/http/route.ts'
import type { ReadSql } from '../../shared/storage/sql.ts'

export interface FederationDeps {
  readonly config: Config
  readonly clock: Clock
  readonly sql: ReadSql
  readonly federation: Federation
  readonly main: MainClient
}

export const route = routesFor<FederationDeps>()
