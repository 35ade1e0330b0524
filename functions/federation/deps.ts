/** What the federation role's routes may use; `entry.ts` or the monolith puts it together. */
import type { Clock } from '../../shared/clock.ts'
import type { Config } from '../../shared/config/schema.ts'
import type { KeyRing } from '../../shared/federation/key-ring.ts'
import { routesFor } from '../../shared/http/route.ts'
import type { SigningKey } from '../../shared/matrix/signatures.ts'
import type { ReadSql } from '../../shared/storage/sql.ts'

export interface FederationDeps {
  readonly config: Config
  readonly clock: Clock
  readonly sql: ReadSql
  /** The server's own, at least one; the first signs. */
  readonly signingKeys: readonly SigningKey[]
  /** Of other servers. */
  readonly keyRing: KeyRing
}

export const route = routesFor<FederationDeps>()
